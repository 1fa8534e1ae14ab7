"""Which trials the driver ends, and when, by a clock that the tests turn. No Ray."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from driving import Driver
from search_studies import MakeRun

from search.heartbeat import Heartbeat, Overseer, beat_seconds

TICK = 1.0


class Watched:
    """A driver with one running trial, which beats or not while the driver looks."""

    def __init__(self, make_run: MakeRun, **search: Any) -> None:
        run = make_run(trials=2, scheduler="none", retries=1, **search)
        self.driver = Driver(run)
        self.driver.fill()
        [self.tune_id] = self.driver.running
        self.fake: Any = self.driver.running[self.tune_id]
        self.fake.temporary_state = SimpleNamespace(ray_actor="its process")
        self.board = self.driver.board
        [self.trial] = self.board.running
        self.now = 0.0
        self.killed: list[Any] = []
        self.overseer = Overseer(
            self.board,
            self.driver.study.search.stalled_after,
            clock=lambda: self.now,
            kill=self.killed.append,
        )
        self.beat = Heartbeat(run, self.trial.number, every=0.0)

    def wait(self, seconds: float, *, beating: bool = False) -> None:
        """Let the driver look once a second."""
        for _ in range(int(seconds / TICK)):
            self.now += TICK
            if beating:
                self.beat()
            self.overseer.look()


def test_a_trial_stalls_so_long_after_its_last_sign(make_run: MakeRun) -> None:
    watched = Watched(make_run, stalled_after=30.0)
    watched.wait(29)
    watched.wait(40, beating=True)
    watched.wait(29)
    assert watched.killed == []
    watched.wait(2)
    assert watched.killed == ["its process"]


def test_a_trial_that_never_opens_its_data_stalls(make_run: MakeRun) -> None:
    watched = Watched(make_run, stalled_after=30.0, trial_minutes=0.1)
    watched.wait(30)
    assert watched.killed == []
    watched.wait(2)
    assert watched.killed == ["its process"]
    assert watched.trial.state is None


def test_a_report_is_a_sign_too(make_run: MakeRun) -> None:
    watched = Watched(make_run, stalled_after=30.0)
    for _ in range(3):
        watched.wait(29)
        watched.driver.advance(watched.tune_id)
    assert watched.killed == []


def test_a_pending_trial_has_not_stalled(make_run: MakeRun) -> None:
    """A cluster that adds a node when asked may take longer than any epoch."""
    watched = Watched(make_run, stalled_after=30.0)
    watched.fake.status = "PENDING"
    watched.wait(100)
    watched.fake.status = "RUNNING"
    watched.wait(29)
    assert watched.killed == []


def test_time_in_which_the_driver_itself_was_stopped_does_not_count(make_run: MakeRun) -> None:
    """Trials wait for a driver that sleeps; when it wakes, they have not stalled."""
    watched = Watched(make_run, stalled_after=30.0, trial_minutes=2.0)
    watched.wait(5, beating=True)
    watched.now += 3600.0
    watched.wait(5)
    assert (watched.killed, watched.trial.state) == ([], None)


@pytest.mark.parametrize("limit", [{"stalled_after": 2.0}, {"trial_minutes": 0.05}])
def test_short_limits_do_not_take_one_pause_of_the_driver_for_a_trial_s(
    make_run: MakeRun, limit: dict[str, float]
) -> None:
    watched = Watched(make_run, **limit)
    watched.wait(1, beating=True)
    watched.now += 5.0
    watched.overseer.look()
    assert (watched.killed, watched.trial.state) == ([], None)
    watched.wait(4)
    assert watched.killed == ["its process"]


def test_the_limit_counts_within_an_epoch_that_never_ends(make_run: MakeRun) -> None:
    watched = Watched(make_run, trial_minutes=1.0)
    watched.wait(59, beating=True)
    assert watched.trial.state is None
    watched.wait(4, beating=True)
    assert watched.trial.state == "failed"
    assert watched.trial.reason == "over search.trial_minutes: 1.02 > 1"
    assert watched.killed == ["its process"]


def test_the_limit_counts_each_epoch_once_and_opening_not_at_all(make_run: MakeRun) -> None:
    watched = Watched(make_run, trial_minutes=1.0)
    watched.wait(300)
    for _ in range(3):  # each is logged as a thousandth of a second
        watched.wait(50, beating=True)
        watched.driver.advance(watched.tune_id)
    assert (watched.killed, watched.trial.state) == ([], None)


def test_the_next_start_of_a_trial_has_all_its_time_again(make_run: MakeRun) -> None:
    watched = Watched(make_run, stalled_after=30.0, trial_minutes=1.0)
    watched.wait(20, beating=True)
    watched.wait(31)
    assert watched.killed == ["its process"]
    watched.driver.lose(watched.tune_id)
    watched.driver.fill()
    assert watched.trial.retries == 1
    assert not watched.board.run.heartbeat_of(watched.trial.number).exists()
    watched.wait(29)
    assert len(watched.killed) == 1
    assert watched.trial.state is None


@pytest.mark.parametrize("stalled_after", [1.0, 2.0, 600.0])
def test_a_slot_writes_often_enough_to_be_seen(stalled_after: float) -> None:
    assert 0 < beat_seconds(stalled_after) <= min(2.0, stalled_after / 2)
