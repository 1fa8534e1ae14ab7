"""Which room may import which: the arrows of the house, read from the source by ``ast``."""

import ast
import re
import tomllib
from pathlib import Path

import pytest

HOME = Path(__file__).parents[2]
ROOMS = ("spaces", "cohort", "trainable", "search", "analysis")
ALLOWED = {
    "spaces": {"spaces"},
    "cohort": {"cohort", "spaces"},
    "trainable": {"trainable", "cohort", "spaces"},
    "search": {"search", "trainable", "cohort", "spaces"},
    "analysis": {"analysis", "trainable", "cohort", "spaces"},
}
HEAVY = {"torch", "torchvision", "ray", "optuna"}
ONLY_IN = {"ray": {"search"}, "optuna": {"search"}, "torch": {"trainable"}}


def imports_of(source: str) -> set[str]:
    """Every module that a file imports, anywhere in it, with the names taken from it."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute in this house"
            found |= {str(node.module)} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def tops(modules: set[str]) -> set[str]:
    return {module.split(".")[0] for module in modules}


def files() -> list[Path]:
    return [path for room in ROOMS for path in sorted((HOME / room).rglob("*.py"))]


FILES = files()
COMMAND_LINE = sorted((HOME / "polartune").rglob("*.py"))
NAMES = [path.relative_to(HOME).as_posix() for path in FILES]


@pytest.mark.parametrize("path", FILES, ids=NAMES)
def test_a_file_imports_only_rooms_below_it(path: Path) -> None:
    room = path.relative_to(HOME).parts[0]
    imported = tops(imports_of(path.read_text(encoding="utf-8"))) & {*ROOMS, "polartune"}
    assert imported <= ALLOWED[room]


@pytest.mark.parametrize("path", FILES, ids=NAMES)
def test_frameworks_stay_in_their_room(path: Path) -> None:
    room = path.relative_to(HOME).parts[0]
    used = tops(imports_of(path.read_text(encoding="utf-8")))
    for framework in ("ray", "optuna"):
        assert framework not in used or room == "search"
    if room in ("spaces", "cohort"):
        assert not used & HEAVY


def test_sealed_values_are_imported_by_evaluate_alone() -> None:
    importers = {
        path.relative_to(HOME).as_posix()
        for path in [*FILES, *COMMAND_LINE]
        if any(
            module.startswith("cohort.sealed")
            for module in imports_of(path.read_text(encoding="utf-8"))
        )
    }
    assert importers == {"analysis/judge/evaluate.py"}


def test_the_command_line_imports_frameworks_nowhere() -> None:
    for path in COMMAND_LINE:
        assert not tops(imports_of(path.read_text(encoding="utf-8"))) & HEAVY, path


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("def f():\n    from search.run import search\n", "search.run.search"),
        ("if True:\n    import ray.tune\n", "ray.tune"),
        ("from cohort import sealed\n", "cohort.sealed"),
    ],
)
def test_the_reader_of_imports_sees_nested_ones(source: str, expected: str) -> None:
    assert expected in imports_of(source)


def test_nothing_is_called_utils_or_manager() -> None:
    names = [path.stem for path in FILES]
    assert not [name for name in names if re.search(r"util|helper|common|misc", name)]
    classes = {
        node.name
        for path in FILES
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ClassDef)
    }
    assert not [name for name in classes if name.endswith("Manager")]


FLOORS = {
    "statistics": set(),
    "choose": {"statistics"},
    "judge": {"statistics", "choose"},
    "report": {"statistics", "choose", "judge"},
    "show": {"statistics", "choose", "judge"},
    "use": {"statistics", "judge"},
}


@pytest.mark.parametrize("floor", FLOORS)
def test_analysis_has_floors_and_no_arrow_runs_back_up(floor: str) -> None:
    imported = {
        module.split(".")[1]
        for path in (HOME / "analysis" / floor).glob("*.py")
        for module in imports_of(path.read_text(encoding="utf-8"))
        if module.startswith("analysis.")
    }
    assert imported <= FLOORS[floor] | {floor}


def test_the_numbers_of_statistics_know_no_file() -> None:
    for path in (HOME / "analysis" / "statistics").glob("*.py"):
        imported = imports_of(path.read_text(encoding="utf-8"))
        assert not imported & {"pathlib", "pathlib.Path", "spaces.run_files"}, path


def test_every_package_is_shipped() -> None:
    settings = tomllib.loads((HOME / "pyproject.toml").read_text(encoding="utf-8"))
    packages = {
        ".".join(path.relative_to(HOME).parts[:-1])
        for room in (*ROOMS, "polartune")
        for path in (HOME / room).rglob("__init__.py")
    }
    assert set(settings["tool"]["setuptools"]["packages"]) == packages
    folders = {path.parent.name for path in HOME.glob("*/__init__.py")}
    assert folders == {*ROOMS, "polartune", "benchmarks"}  # the last from the checkout only
