"""What a user of the command line may rely on: names, flags, exit codes, one-line errors."""

import inspect
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from patience import PATIENCE
from typer.testing import CliRunner

from polartune import commands, data_commands, many_commands, model_commands
from polartune.__main__ import main
from polartune.commands import app
from polartune.steps import say
from spaces import errors
from spaces.errors import InputError, NoCompleteTrialError, RefusedError, UserError

HOME = Path(__file__).parents[2]
GOLDEN = Path(__file__).with_name("command_line.json")
HEAVY = ("torch", "ray", "optuna", "torchvision")


def describe(command: typer.core.TyperCommand) -> dict[str, object]:
    if hasattr(command, "commands"):
        return {name: describe(child) for name, child in sorted(command.commands.items())}
    return {
        "arguments": [p.name for p in command.params if p.param_type_name == "argument"],
        "options": sorted(
            flag
            for p in command.params
            if p.param_type_name == "option"
            for flag in [*p.opts, *p.secondary_opts]
        ),
    }


def test_commands_flags_and_exit_codes_are_frozen() -> None:
    """A change here is a change for every user: edit command_line.json and the CHANGELOG."""
    now = {
        "commands": describe(typer.main.get_command(app)),
        "exit_codes": {
            name: getattr(errors, name)
            for name in (
                "DONE",
                "BAD_INPUT",
                "SOME_TRIALS_FAILED",
                "NO_COMPLETE_TRIAL",
                "REFUSED",
                "INTERRUPTED",
                "TERMINATED",
            )
        },
    }
    assert now == json.loads(GOLDEN.read_text(encoding="utf-8"))


def test_no_flag_sets_a_scientific_parameter() -> None:
    from spaces.study import Study

    def keys(schema: dict) -> set[str]:
        sections = [schema, *schema.get("$defs", {}).values()]
        return {name for section in sections for name in section.get("properties", {})}

    # `--seed` draws phantoms, `--cohort` names others whom a finished study is judged on.
    allowed = {"phantom": {"seed"}, "evaluate": {"cohort"}}
    scientific = keys(Study.model_json_schema(by_alias=True))
    for name, command in typer.main.get_command(app).commands.items():
        options = {p.name for p in command.params if p.param_type_name == "option"}
        assert not options & scientific - allowed.get(name, set()), name


def run_python(code: str, folder: Path = HOME) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(HOME), "COLUMNS": "80"}
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


def imported_by(*words: str, folder: Path = HOME) -> set[str]:
    code = (
        "import sys, atexit, polartune.__main__\n"
        f"atexit.register(lambda: print('HEAVY', *[m for m in {HEAVY} if m in sys.modules]))\n"
        f"sys.argv = ['polartune', *{list(words)}]\n"
        "polartune.__main__.main()\n"
    )
    result = run_python(code, folder)
    assert result.returncode == 0, result.stderr
    return set(result.stdout.splitlines()[-1].split()[1:])


def test_help_imports_no_framework() -> None:
    assert imported_by("--help") == set()


def test_status_imports_no_framework(tmp_path: Path) -> None:
    from spaces.study import Study

    study = Study.model_validate(
        {
            "name": "x",
            "cohort": {"path": "c.csv", "inputs": ["rest"], "target": "t", "colour_scale": "fixed"},
        }
    )
    (tmp_path / "study.yaml").write_text(study.as_yaml())
    (tmp_path / "environment.json").write_text("{}")
    assert imported_by("status", str(tmp_path)) == set()


def test_looking_at_runs_and_banks_needs_no_framework() -> None:
    modules = "analysis.show.compare, spaces.bank_files, spaces.schema"
    code = f"import sys, {modules}; print([m for m in {HEAVY} if m in sys.modules])"
    assert run_python(code).stdout.strip() == "[]"


def test_a_search_waits_for_no_import_that_it_does_not_use() -> None:
    """Every process of a search would pay for them before its first epoch."""
    unused, modules = (
        ["scipy.stats", "sklearn", "matplotlib", "torch._dynamo"],
        "search.run, trainable.problem",
    )
    code = f"import sys, {modules}; print([m for m in {unused} if m in sys.modules])"
    assert run_python(code).stdout.strip() == "[]"


def test_the_probe_for_frameworks_finds_one() -> None:
    result = run_python("import sys, torch; print('torch' in sys.modules)")
    assert result.stdout.strip() == "True"


@pytest.mark.parametrize(
    ("kind", "code"), [(InputError, 2), (RefusedError, 5), (NoCompleteTrialError, 4)]
)
def test_a_user_error_is_one_line_and_its_exit_code(
    kind: type[UserError],
    code: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fail(*_: object) -> None:
        raise kind("study.yaml:3 seed", "must be a number, got x", "Write a number")

    monkeypatch.setattr("analysis.show.status.show_status", fail)
    monkeypatch.setattr(sys, "argv", ["polartune", "status", "runs/x"])
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    monkeypatch.setattr("signal.signal", lambda *_: None)
    with pytest.raises(SystemExit) as stopped:
        main()
    assert stopped.value.code == code
    assert capsys.readouterr().err == (
        "polartune: study.yaml:3 seed: must be a number, got x. Write a number.\n"
    )


def test_an_unexpected_error_is_one_line_that_names_the_log(tmp_path: Path) -> None:
    code = (
        "import sys, pathlib, polartune.__main__\n"
        "import analysis.show.status\n"
        "from spaces.run_files import RunFiles\n"
        "from spaces.session import driving\n"
        "def broken(run, console):\n"
        "    with driving(run):\n"
        "        raise ZeroDivisionError('a\\nb')\n"
        "analysis.show.status.show_status = broken\n"
        "sys.argv = ['polartune', 'status', 'run']\n"
        "polartune.__main__.main()\n"
    )
    result = run_python(code, tmp_path)
    assert result.returncode == 1
    assert result.stderr == (
        "polartune: unexpected ZeroDivisionError: a b; details in run/run.log\n"
    )
    assert "Traceback" in (tmp_path / "run" / "run.log").read_text()


@pytest.mark.parametrize(
    "words", [["nonsense"], ["run"], ["run", "study.yaml", "--lambda", "1"], ["phantom", "x", "-p"]]
)
def test_misspelt_commands_and_flags_are_bad_input(words: list[str]) -> None:
    assert CliRunner().invoke(app, words).exit_code == errors.BAD_INPUT


@pytest.mark.parametrize(
    "words",
    [
        "phantom .",
        "import spectf downloads .",
        "predict run cohort.csv -o cohort.csv",
        "compare one two --csv cohort.csv",
    ],
)
def test_no_command_writes_over_a_file(
    words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even over the table that it was told to read."""
    monkeypatch.chdir(tmp_path)
    Path("cohort.csv").write_text("mine")
    refused = CliRunner().invoke(app, words.split()).exception
    assert isinstance(refused, RefusedError)
    assert str(refused).startswith("cohort.csv: exists already. ")
    assert Path("cohort.csv").read_text() == "mine"


def test_names_are_shown_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    line = f"Wrote [old]/[/x]/{'long' * 30}.csv"
    say(line)
    assert capsys.readouterr().out == f"{line}\n"


def test_help_names_every_exit_code_and_fits_80_columns() -> None:
    text = CliRunner().invoke(app, ["--help"], env={"COLUMNS": "80"}).stdout
    for code in (0, 2, 3, 4, 5, 130, 143):
        assert re.search(rf"\b{code}\b", text), code
    assert max(map(len, text.splitlines())) <= 80


def test_the_help_of_every_command_keeps_its_lines_at_80_columns() -> None:
    """The lines of a docstring are kept; longer ones would be broken a second time."""
    shown = [
        function
        for module in (commands, data_commands, many_commands, model_commands)
        for name, function in vars(module).items()
        if name.endswith("_command")
    ]
    assert len(shown) > 15
    for command in shown:
        _, *lines = inspect.getdoc(command).splitlines()
        assert max(map(len, lines), default=0) <= 78, command.__name__


def test_a_shadowed_package_is_refused(tmp_path: Path) -> None:
    (tmp_path / "search").mkdir()
    (tmp_path / "search" / "__init__.py").touch()
    code = (
        "import sys, polartune.__main__\n"
        f"sys.path.insert(0, {str(tmp_path)!r})\n"
        "sys.argv = ['polartune', '--help']\n"
        "polartune.__main__.main()\n"
    )
    result = run_python(code)
    assert result.returncode == errors.REFUSED
    assert "package search" in result.stderr


def test_the_version_is_the_distributions() -> None:
    result = CliRunner().invoke(app, ["--version"])
    assert re.fullmatch(r"polartune (\d+\.\d+\.\d+|not installed)\n", result.stdout)
