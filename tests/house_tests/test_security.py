"""What SECURITY.md promises and no other test looks at."""

import ast
import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pandas as pd
import pytest
import yaml
from packaging.requirements import Requirement
from packaging.version import Version
from patience import PATIENCE

from cohort.reading import csv_rows, images
from cohort.reading.csv_rows import read_rows
from cohort.reading.images import read_image
from polartune import commands
from spaces.csv_files import write_csv
from spaces.errors import InputError
from spaces.study import read_study

HOME = Path(__file__).parents[2]
SECURITY = (HOME / "SECURITY.md").read_text(encoding="utf-8")
ROOMS = ("spaces", "cohort", "trainable", "search", "analysis", "polartune", "benchmarks")
SOURCES = [path for room in ROOMS for path in sorted((HOME / room).rglob("*.py"))]
# Modules and calls that make code of data, or hand data to a shell.
RUNNING_MODULES = {
    *("pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"),
    *("runpy", "imp", "code", "codeop"),
}
RUNNING_NAMES = {
    *("eval", "exec", "compile", "__import__"),
    *("os.system", "os.popen", "subprocess.getoutput", "subprocess.getstatusoutput"),
    *("yaml.load", "yaml.load_all", "yaml.unsafe_load", "yaml.full_load"),
    *("numpy.load", "pandas.read_pickle", "pandas.eval"),
    *("torch.load", "torch.hub.load", "torch.jit.load", "torch.package.PackageImporter"),
}


def calls(tree: ast.AST) -> list[tuple[str, ast.Call]]:
    return [(ast.unparse(n.func), n) for n in ast.walk(tree) if isinstance(n, ast.Call)]


def keywords(call: ast.Call) -> dict[str, str]:
    return {str(k.arg): ast.unparse(k.value) for k in call.keywords}


def imported(tree: ast.AST) -> dict[str, str]:
    """What each imported name stands for, by its full dotted name."""
    found = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                top = alias.name.split(".")[0]
                found[alias.asname or top] = alias.name if alias.asname else top
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                found[alias.asname or alias.name] = f"{node.module}.{alias.name}"
    return found


def running(source: str) -> list[str]:
    """What a file does that could run what it reads; also what it only names, to do it later."""
    tree = ast.parse(source)
    known = imported(tree)

    def full(node: ast.expr) -> str:
        first, dot, rest = ast.unparse(node).partition(".")
        return f"{known.get(first, first)}{dot}{rest}".removeprefix("builtins.")

    modules = [
        alias.name for n in ast.walk(tree) if isinstance(n, ast.Import) for alias in n.names
    ] + list(known.values())
    found = [name for name in modules if RUNNING_MODULES & set(name.split("."))]
    found += [name for name in known.values() if name in RUNNING_NAMES]
    safe = {
        call.func
        for _, call in calls(tree)
        if full(call.func) == "torch.load" and keywords(call).get("weights_only") == "True"
    }
    found += [
        full(node)
        for node in ast.walk(tree)
        if isinstance(node, ast.Name | ast.Attribute)
        and node not in safe
        and full(node) in RUNNING_NAMES
    ]
    return found + [
        name for name, call in calls(tree) if keywords(call).get("shell", "False") != "False"
    ]


@pytest.mark.parametrize(
    "code",
    [
        "import pickle",
        "from joblib import load",
        "eval(text)",
        "yaml.load(text, Loader=yaml.Loader)",
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "subprocess.run(text, shell=True)",
        "subprocess.run(text, shell=flag)",
        "from torch import load",
        "from torch import load as read; read(path)",
        "import torch as t; t.load(path)",
        "import torch; read = torch.load",
        "import pandas; pandas.read_pickle(path)",
        "import pandas as pd; pd.read_pickle(path)",
        "import numpy as n; n.load(path)",
        "from yaml import load; load(text)",
        "from os import system",
        "import builtins; builtins.exec(text)",
        "read = eval",
        "import runpy",
        "from ray import cloudpickle",
        "import ray.cloudpickle",
    ],
)
def test_the_look_for_running_code_sees(code: str) -> None:
    assert running(code)


@pytest.mark.parametrize(
    "code",
    [
        "import torch; torch.load(path, weights_only=True)",
        "model.eval()",
        "import re; re.compile(text)",
        "import torch; torch.compile(model)",
        "import json; json.load(file)",
        "import subprocess; subprocess.run(words, shell=False)",
    ],
)
def test_the_look_for_running_code_passes(code: str) -> None:
    assert running(code) == []


def test_nothing_that_is_read_can_run() -> None:
    found = {
        path.relative_to(HOME).as_posix(): running(path.read_text(encoding="utf-8"))
        for path in SOURCES
    }
    assert {name: what for name, what in found.items() if what} == {}


def test_one_function_writes_every_table() -> None:
    writers = {
        path.relative_to(HOME).as_posix()
        for path in SOURCES
        for name, _ in calls(ast.parse(path.read_text(encoding="utf-8")))
        if name.endswith((".to_csv", "csv.writer", "csv.DictWriter", ".to_excel"))
    }
    assert writers == {"spaces/csv_files.py"}


RISKY = ["=1+1", "+1", "-1", "@sum", " =1", "\t=1", "\r=1", "\uff1d1+1", "a;=1+1", "a; -1", "a\n=1"]


@pytest.mark.parametrize("cell", RISKY)
def test_no_cell_or_column_is_a_formula_in_any_region(cell: str, tmp_path: Path) -> None:
    write_csv(tmp_path / "t.csv", pd.DataFrame({cell: [cell], "number": [-1.5]}))
    written = (tmp_path / "t.csv").read_text(encoding="utf-8")
    # Excel splits at commas or, elsewhere, at semicolons; quotes do not begin inside a cell there.
    for part in re.split(r"[;,\n]", written.replace('"', "")):
        assert part == "-1.5" or not re.match(r"\s*[=+\-@\uff1d\uff0b\uff0d\uff20]", part), written


def test_tensorboard_is_served_on_loopback_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tensorboard import program

    given: list[list[str]] = []
    monkeypatch.setattr(program.TensorBoard, "configure", lambda _, argv: given.append(argv))
    monkeypatch.setattr(program.TensorBoard, "main", lambda _: 0)
    (tmp_path / "tensorboard").mkdir()
    with pytest.raises(commands.typer.Exit):
        commands.watch_command(tmp_path)
    assert given[0][-2:] == ["--host", "127.0.0.1"]
    assert "--bind_all" not in given[0]


def sparse(path: Path, size: int) -> Path:
    with path.open("wb") as file:
        file.truncate(size)
    return path


def test_an_oversized_image_file_is_refused_unread(tmp_path: Path) -> None:
    path = sparse(tmp_path / "map.png", images.MOST_BYTES + 1)
    with pytest.raises(InputError, match="at most 256 MB, got 256 MB"):
        read_image(path, 32)


def test_an_oversized_table_is_refused_unread(tmp_path: Path) -> None:
    path = sparse(tmp_path / "cohort.csv", csv_rows.MOST_BYTES + 1)
    with pytest.raises(InputError, match="has 4 GB, at most 4 are read"):
        read_rows(path)


def test_an_oversized_study_is_refused(tmp_path: Path) -> None:
    path = sparse(tmp_path / "study.yaml", 2**18 + 1)
    with pytest.raises(InputError, match="more than 256 KB"):
        read_study(path)


def test_a_pipe_instead_of_a_table_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "cohort.csv")
    with pytest.raises(InputError, match="the cohort table must be a file"):
        read_rows(tmp_path / "cohort.csv")


def test_aliases_that_multiply_are_refused(tmp_path: Path) -> None:
    lines = ["a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]"]
    lines += [f"a{k}: &a{k} [{', '.join([f'*a{k - 1}'] * 10)}]" for k in range(1, 12)]
    (tmp_path / "study.yaml").write_text("\n".join(lines))
    with pytest.raises(InputError, match="more than 100000 values, aliases filled in"):
        read_study(tmp_path / "study.yaml")


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("2001-99-99", "a value is not what it looks like"),
        ("!!int x", "a value is not what it looks like"),
        ("9" * 5000, "a value is not what it looks like"),
        ("[" * 3000, "nested too deeply"),
        ("!!python/object/apply:os._exit [77]", "could not determine a constructor"),
        ("&a [*a]", "more than 100000 values"),
        ('"\\0"', "should match pattern"),
    ],
)
def test_a_value_that_is_none_is_refused(value: str, said: str, tmp_path: Path) -> None:
    text = (HOME / "studies" / "demo.yaml").read_text(encoding="utf-8")
    study = tmp_path / "study.yaml"
    study.write_text(re.sub("(?m)^  path: .*$", lambda _: f"  path: {value}", text))
    with pytest.raises(InputError, match=said):
        read_study(study)


def test_a_few_aliases_are_welcome(tmp_path: Path) -> None:
    content = yaml.safe_load((HOME / "studies" / "demo.yaml").read_text(encoding="utf-8"))
    range_ = {"low": 1e-4, "high": 1e-2, "log": True}
    content["space"] = {"learning_rate": range_, "weight_decay": range_}
    text = yaml.safe_dump(content)
    assert "*id001" in text
    (tmp_path / "study.yaml").write_text(text)
    assert read_study(tmp_path / "study.yaml").space.learning_rate.high == 1e-2


# Versions

PINS = {
    match[1].lower().replace("_", "-"): Version(match[2])
    for match in re.finditer(
        r"^([\w.-]+)==(\S+)$", (HOME / "constraints.txt").read_text(), re.MULTILINE
    )
}


def test_every_requirement_is_pinned_inside_its_range() -> None:
    project = tomllib.loads((HOME / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = [text for texts in project["optional-dependencies"].values() for text in texts]
    for requirement in map(Requirement, [*project["dependencies"], *extras]):
        pin = PINS[requirement.name.lower().replace("_", "-")]
        assert pin in requirement.specifier, requirement


def test_the_lower_bounds_exclude_versions_with_known_vulnerabilities() -> None:
    project = tomllib.loads((HOME / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    ranges = {r.name: r.specifier for r in map(Requirement, project["dependencies"])}
    for name, last_bad in {"ray": "2.55.1", "torch": "2.9.1", "pyarrow": "14.0.0"}.items():
        assert Version(last_bad) not in ranges[name], name


def test_ci_installs_the_pins_and_asks_for_vulnerabilities() -> None:
    script = (HOME / ".ci" / "run").read_text(encoding="utf-8")
    assert "constraints.txt" in script
    assert ".ci/audit" in script


def test_security_md_names_what_exists() -> None:
    for name in re.findall(r"`((?:tests|clusters|search|spaces|cohort)/[\w/.]+)`", SECURITY):
        assert (HOME / name).exists(), name


@pytest.mark.parametrize("pins_fit", [True, False])
def test_ci_audits_what_it_tests(pins_fit: bool, tmp_path: Path) -> None:
    """Where the pins cannot be installed, the versions that came instead are asked about."""
    commands = {
        "make": f'test -n "$PIP_CONSTRAINT" && exit {int(not pins_fit)}; echo make "$@"',
        ".venv/bin/python": 'echo asked about "$2"; cat "$2"',
        ".venv/bin/pip": "printf 'ray==2.61.0\\ntorch==2.14.1+cpu\\n'",
    }
    for name, script in commands.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / name).chmod(0o755)
    (tmp_path / ".ci").mkdir()
    (tmp_path / "constraints.txt").write_text("ray==2.60.0\n")
    run = tmp_path / ".ci" / "run"
    run.write_text((HOME / ".ci" / "run").read_text(encoding="utf-8"))
    done = subprocess.run(
        ["bash", str(run)],
        env={"PATH": f"{tmp_path}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    asked = done.stdout.partition("asked about ")[2]
    pinned = ["constraints.txt", "ray==2.60.0", "make"]
    others = [".venv/installed.txt", "ray==2.61.0", "torch==2.14.1"]
    assert asked.split()[:3] == (pinned if pins_fit else others)


def audit(folder: Path, answer: str, **environment: str) -> tuple[int, str]:
    """What .ci/audit makes of an answer of pip-audit's."""
    (folder / "answer.json").write_text(answer)
    tool = folder / "pip-audit"
    tool.write_text(
        f"#!/bin/sh\necho 'No known vulnerabilities found' >&2\ncat {folder}/answer.json\n"
    )
    tool.chmod(0o755)
    done = subprocess.run(
        [sys.executable, str(HOME / ".ci" / "audit")],
        env={**os.environ, "PIP_AUDIT": str(tool), **environment},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    return done.returncode, done.stdout


CLEAN = {"name": "ray", "version": "2.60.0", "vulns": []}
FLAWED = {
    "name": "torch",
    "version": "2.9.0",
    "vulns": [{"id": "PYSEC-1", "fix_versions": ["2.10.0"]}],
}
SKIPPED = {"name": "numpy", "skip_reason": "Dependency not found on PyPI"}


@pytest.mark.parametrize(
    ("packages", "code", "said"),
    [
        ([CLEAN], 0, "1 packages, no known vulnerability"),
        ([CLEAN, FLAWED], 1, "torch 2.9.0: PYSEC-1, mended in 2.10.0"),
        ([SKIPPED, FLAWED], 1, "torch 2.9.0: PYSEC-1"),
        ([SKIPPED, SKIPPED], 0, "NOT DONE: 2 of 2 packages were not found"),
        ([CLEAN, SKIPPED], 0, "NOT DONE: 1 of 2 packages were not found"),
        ([], 0, "NOT DONE"),
    ],
)
def test_the_audit_says_plainly_what_is_known(
    packages: list[dict], code: int, said: str, tmp_path: Path
) -> None:
    found, printed = audit(tmp_path, json.dumps({"dependencies": packages}))
    assert (found, said in printed) == (code, True), printed
    if "NOT DONE" in said:
        assert audit(tmp_path, json.dumps({"dependencies": packages}), AUDIT="required")[0] == 3


def test_an_audit_without_an_answer_is_not_done(tmp_path: Path) -> None:
    assert audit(tmp_path, "")[1].startswith("audit: NOT DONE: pip-audit gave no answer")
