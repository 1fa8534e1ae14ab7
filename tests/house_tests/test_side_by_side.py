"""Several studies at a time: how many, in which order, and what one that ends badly stops."""

from __future__ import annotations

import errno
import io
import re
import signal
from collections.abc import Callable
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from polartune import side_by_side
from polartune.side_by_side import Lane, interrupts_kept, studies_at_once
from polartune.turns import Turn
from spaces.errors import NoCompleteTrialError, NoModelError, RefusedError, UserError
from spaces.run_files import RunFiles
from spaces.storage import unwritable
from spaces.study import Study


def study(name: str = "study", **search: Any) -> Study:
    cohort = {"path": "cohort.csv", "inputs": ["rest"], "target": "sex", "colour_scale": "fixed"}
    return Study.model_validate({"name": name, "cohort": cohort, "search": search})


@pytest.mark.parametrize(
    ("slots", "search", "expected"),
    [
        (2, {}, 1),
        (4, {}, 1),
        (5, {}, 2),
        (64, {}, 16),
        (64, {"trials": 2}, 32),
        (64, {"trials": 12, "order": "asynchronous"}, 6),
        (1000, {}, 40),
    ],
)
def test_as_many_studies_as_use_all_slots_and_as_this_computer_can_drive(
    monkeypatch: pytest.MonkeyPatch, slots: int, search: dict[str, Any], expected: int
) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 20)
    assert studies_at_once(study(**search), slots) == expected


class ScriptedDriver:
    """Is at work for two looks, then ends as it was told."""

    def __init__(self, error: Exception | None) -> None:
        self.error = error
        self.looks = 0
        self.was_stopped = False

    @property
    def has_ended(self) -> bool:
        self.looks += 1
        return self.looks > 2

    def result(self) -> None:
        if self.error:
            raise self.error

    def stop(self, *, within: float) -> None:
        assert within > 0
        self.was_stopped = True


class ScriptedPlace:
    """Notes which studies were at work whenever another began."""

    def __init__(self, slots: int, errors: dict[str, Exception]) -> None:
        self.slots = slots
        self.errors = errors
        self.drivers: dict[str, ScriptedDriver] = {}
        self.company: dict[str, list[str]] = {}

    def slots_now(self) -> int:
        return self.slots

    def drive(self, function: Callable[..., Any], arguments: tuple[Any, ...]) -> ScriptedDriver:
        assert function is side_by_side.train_study
        name = Path(arguments[0]).name
        self.company[name] = [its for its, driver in self.drivers.items() if driver.looks <= 2]
        self.drivers[name] = ScriptedDriver(self.errors.get(name))
        return self.drivers[name]


@pytest.fixture
def lane(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Lane]:
    """Make a lane of studies ``a, b, c`` and of ``x``, which starts from ``a``."""
    monkeypatch.setattr(side_by_side, "LOOK_SECONDS", 0)
    monkeypatch.setattr(side_by_side, "driven", lambda *_: nullcontext())
    monkeypatch.setattr(side_by_side, "fill_bank", lambda *_: None)

    def make(place: ScriptedPlace) -> Lane:
        turns = [
            Turn(study(name), RunFiles(tmp_path / name), None, follows)  # type: ignore[arg-type]
            for name, follows in (("a", None), ("x", "a"), ("b", None), ("c", None))
        ]
        console = Console(file=io.StringIO(), width=80)
        return Lane(tmp_path, turns, place, console)  # type: ignore[arg-type]

    return make


def test_who_follows_waits_and_others_go_ahead(lane: Callable[..., Lane]) -> None:
    place = ScriptedPlace(8, {})
    made = lane(place)
    made.run()
    assert not made.without
    assert list(place.company) == ["a", "b", "x", "c"]
    assert place.company["b"] == ["a"]
    assert "a" not in place.company["x"]
    assert max(map(len, place.company.values())) == 1


@pytest.mark.parametrize("kind", [NoCompleteTrialError, NoModelError])
def test_a_study_without_a_model_stops_its_followers_alone(
    lane: Callable[..., Lane], kind: type[UserError]
) -> None:
    place = ScriptedPlace(8, {"a": kind("trials.jsonl", "none is complete", "See")})
    made = lane(place)
    made.run()
    assert made.without == {"a": "trials.jsonl: none is complete", "x": "starts from a"}
    assert list(place.company) == ["a", "b", "c"]


@pytest.mark.parametrize(
    "error",
    [
        RefusedError("trials.jsonl", "is damaged", "Restore it"),
        unwritable("runs/all", OSError(errno.ENOSPC, "No space left on device")),
    ],
)
def test_what_is_no_matter_of_one_study_stops_all(
    lane: Callable[..., Lane], error: UserError
) -> None:
    place = ScriptedPlace(64, {"a": error})
    with pytest.raises(type(error), match=re.escape(error.problem)):
        lane(place).run()
    assert [name for name, driver in place.drivers.items() if driver.was_stopped] == ["b", "c"]


def test_an_interrupt_that_a_library_swallows_is_kept() -> None:
    before = signal.getsignal(signal.SIGINT)
    with interrupts_kept() as raise_kept:
        raise_kept()
        with suppress(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            raise_kept()
    assert signal.getsignal(signal.SIGINT) is before
