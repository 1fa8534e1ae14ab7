"""`polartune bank`: banks are told apart, and nothing goes that somebody uses or used lately."""

import json
import os
import time
from pathlib import Path

import pytest
import yaml
from rich.console import Console
from small_runs import small_study
from typer.testing import CliRunner

from polartune import steps
from polartune.commands import app
from spaces.bank_files import (
    ABOUT,
    DAY,
    find_banks,
    mark_used,
    read_banks,
    removable,
    remove,
    show_banks,
    using_banks,
)
from spaces.errors import InputError, RefusedError

HOUR = 3600.0


def bank(root: Path, name: str, *, days: float, files: int = 2) -> Path:
    folder = root / (name * 32)
    folder.mkdir(parents=True)
    for chunk in range(files):
        (folder / f"{chunk:05d}.safetensors").write_bytes(b"x" * 500_000)
        (folder / f"{chunk:05d}.json").write_text("{}")
    key = {"backbone": "efficientnet_lite0", "image_size": 224, "strength": 0.25}
    about = {"key": key, "input": "reserve", "views": 4, "files": 2}
    (folder / ABOUT).write_text(json.dumps(about))
    age(folder / ABOUT, days * DAY)
    return folder


def age(path: Path, seconds: float) -> None:
    then = time.time() - seconds
    os.utime(path, (then, then))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A cohort's folder of three banks: in use lately, old, and older and unfinished."""
    root = tmp_path / "banks"
    bank(root, "a", days=1)
    bank(root, "b", days=40)
    bank(root, "c", days=50, files=1)
    return root


def names(root: Path) -> str:
    return "".join(sorted(path.name[0] for path in root.iterdir() if path.is_dir()))


def test_a_bank_says_what_it_holds(root: Path) -> None:
    first, second, third = read_banks(root)
    assert [one.path.name[0] for one in (first, second, third)] == ["a", "b", "c"]
    assert (first.input, first.backbone) == ("reserve", "efficientnet_lite0 224")
    assert (first.strength, first.views, first.state) == (0.25, 4, "whole")
    assert 1_000_000 < first.size < 1_001_000
    assert time.time() - second.last_use == pytest.approx(40 * DAY, abs=60)
    assert third.state == "1 of 2"


def test_the_list_fits_80_columns(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    show_banks(read_banks(root), Console(width=80))
    shown = capsys.readouterr().out.splitlines()
    assert len(shown) == 4
    assert max(map(len, shown)) <= 80
    assert "1 of 2" in shown[-1]


@pytest.mark.parametrize("about", [None, "", "[]"])
def test_a_bank_that_does_not_say_what_it_holds_is_listed(root: Path, about: str | None) -> None:
    path = root / ("a" * 32) / ABOUT
    path.unlink() if about is None else path.write_text(about)
    states = {one.path.name[0]: (one.state, one.input) for one in read_banks(root)}
    assert states["a"] == ("?", None)


def test_banks_are_found_beside_the_cohort_too(root: Path) -> None:
    assert find_banks(root) == find_banks(root.parent) == root
    (root / "empty").mkdir()
    with pytest.raises(InputError, match="holds no feature banks"):
        find_banks(root / "empty")


def test_pruning_removes_what_nobody_used_lately(root: Path) -> None:
    (root / "random-resnet18.safetensors").write_bytes(b"x")
    found = removable(root, 30)
    assert found.size == remove(root, found, 30) > 1_500_000
    assert names(root) == "a"
    assert (root / "random-resnet18.safetensors").exists()


def test_a_bank_that_was_opened_is_used_today(root: Path) -> None:
    mark_used(root / ("b" * 32))
    assert [one.path.name[0] for one in removable(root, 30).banks] == ["c"]


def test_nothing_goes_while_a_run_uses_the_banks(root: Path) -> None:
    found = removable(root, 0)
    with using_banks(root), using_banks(root), pytest.raises(RefusedError, match="a run is work"):
        remove(root, found, 0)
    assert names(root) == "abc"
    remove(root, found, 0)
    assert names(root) == ""


def test_a_driver_keeps_its_banks(phantom: Path, tmp_path: Path) -> None:
    bank(tmp_path / "banks", "a", days=90)
    study, found = tmp_path / "small.yaml", removable(tmp_path / "banks", 0)
    study.write_text(yaml.safe_dump(small_study(phantom, **{"bank.path": "banks"})))
    with (
        steps.begun(study, tmp_path / "runs") as (run, _),
        pytest.raises(RefusedError, match="a run is working"),
    ):
        remove(tmp_path / "banks", found, 0)
    with steps.continued(run.root), pytest.raises(RefusedError, match="a run is working"):
        remove(tmp_path / "banks", found, 0)
    assert names(tmp_path / "banks") == "a"


def test_what_was_used_or_made_since_it_was_shown_stays(root: Path) -> None:
    found = removable(root, 30)
    mark_used(root / ("b" * 32))
    bank(root, "d", days=90)
    remove(root, found, 30)
    assert names(root) == "abd"


def test_unfinished_files_go_after_an_hour(root: Path) -> None:
    old, new = root / ("a" * 32) / ".00001.1.partial", root / ".random.2.partial"
    for path, hours in ((old, 1.1), (new, 0.5)):
        path.write_bytes(b"x")
        age(path, hours * HOUR)
    remove(root, removable(root, 30), 30)
    assert not old.exists()
    assert new.exists()
    assert names(root) == "a"


def test_pruning_asks_first(root: Path) -> None:
    words = ["bank", "prune", str(root.parent)]
    said_no = CliRunner().invoke(app, words, input="n\n", env={"COLUMNS": "80"})
    assert "Remove 2 banks and 0 unfinished files, 1.50 MB?" in said_no.stdout
    assert "Nothing was removed" in said_no.stdout
    assert names(root) == "abc"
    said_yes = CliRunner().invoke(app, [*words, "--yes"])
    assert "Freed 1.50 MB" in said_yes.stdout
    assert names(root) == "a"
    nothing = CliRunner().invoke(app, words)
    assert "no bank is unused for 30 days" in nothing.stdout


def test_leftovers_alone_need_no_table(root: Path) -> None:
    old = root / ("a" * 32) / ".00001.1.partial"
    old.write_bytes(b"x")
    age(old, 2 * HOUR)
    words = ["bank", "prune", str(root), "--unused-for", "400", "--yes"]
    shown = CliRunner().invoke(app, words).stdout
    assert shown == "Freed 0.00 MB.\n"
    assert not old.exists()


def test_the_list_ends_with_a_sum(root: Path) -> None:
    shown = CliRunner().invoke(app, ["bank", "list", str(root)]).stdout
    assert "3 banks, 2.50 MB" in shown
