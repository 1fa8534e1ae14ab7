"""Signs of life: a slot leaves them while batches finish; the driver ends trials without any."""

from __future__ import annotations

import contextlib
import logging
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray

from search.board import Board, Seat
from spaces.run_files import RunFiles, write_text

EVERY_SECONDS = 2.0
LOOK_SECONDS = 0.25
LONGEST_SECONDS = 5.0
PAUSES = 4
"""How many pauses of the driver, without a sign in between, use up the shortest limit."""

_log = logging.getLogger(__name__)


class Heartbeat:
    """The slot's side: a small file that changes as long as work goes on.

    The training loop calls it after every batch. A thread would go on beating beside a loop that
    hangs, so there is none.
    """

    def __init__(self, run: RunFiles, number: int, *, every: float = EVERY_SECONDS) -> None:
        self._path = run.heartbeat_of(number)
        self._root = run.root
        self._every = every
        self._beats = 0
        self._written = -every

    def __call__(self) -> None:
        """Say that something was finished; writes at most once in ``every`` seconds."""
        self._beats += 1
        now = time.monotonic()
        if now - self._written < self._every:
            return
        self._written = now
        # A sign that cannot be written must not end the trial that it speaks for.
        with contextlib.suppress(OSError):
            if self._root.is_dir():  # else it would be made where the storage is away
                write_text(self._path, str(self._beats))


def beat_seconds(stalled_after: float) -> float:
    """Return how often a slot writes, so that one late sign does not make a trial stalled."""
    return min(EVERY_SECONDS, stalled_after / 4)


@dataclass
class _Watch:
    """What was last seen of a started trial, and for how long the driver has watched since.

    Attributes:
        sign: changes whenever the trial gets on.
        reports: how many it has made; repeated epochs count.
        quiet: seconds since the sign changed.
        busy: seconds of computing since the last report.
    """

    sign: str = ""
    reports: int = 0
    quiet: float = 0.0
    busy: float = 0.0

    def see(self, sign: str, reports: int, passed: float) -> None:
        """Take in a look, ``passed`` seconds after the last one."""
        got_on = (sign, reports) != (self.sign, self.reports)
        self.quiet = 0.0 if got_on else self.quiet + passed
        # Opening the data is not computing: it leaves no sign yet.
        self.busy = self.busy + passed if sign and reports == self.reports else 0.0
        self.sign, self.reports = sign, reports


class Overseer:
    """The driver's side: ends the process of a trial that has stalled, or a trial over its limit.

    What counts is change, and only time in which the driver looked: clocks of nodes need not
    agree, and a driver that was itself stopped blames nobody for having waited.
    """

    def __init__(
        self,
        board: Board,
        stalled_after: float,
        *,
        clock: Callable[[], float] = time.monotonic,
        kill: Callable[[Any], None] = ray.kill,
    ) -> None:
        self._board = board
        self._stalled_after = stalled_after
        minutes = board.study.search.trial_minutes
        shortest = stalled_after if minutes is None else min(stalled_after, 60 * minutes)
        self._longest = min(LONGEST_SECONDS, shortest / PAUSES)
        self._clock = clock
        self._kill = kill
        self._looked = clock()
        self._watches: dict[str, _Watch] = {}
        self.close()

    def close(self) -> None:
        """Remove all signs."""
        shutil.rmtree(self._board.run.heartbeats, ignore_errors=True)

    def look(self) -> None:
        """End what has hung or runs too long; costs a look at each running trial's file."""
        passed = self._clock() - self._looked
        if passed < LOOK_SECONDS:
            return
        self._looked += passed
        before, self._watches = self._watches, {}
        for seat in self._board.seats:
            if seat.tune_trial is None or seat.is_pending:
                continue  # one that waits for its slot is not expected to get on
            watch = before.get(seat.tune_trial.trial_id, _Watch())
            sign = _content(self._board.run.heartbeat_of(seat.trial.number))
            watch.see(sign, seat.reports, min(passed, self._longest))
            if not self._ends(seat, watch):
                self._watches[seat.tune_trial.trial_id] = watch

    def _ends(self, seat: Seat, watch: _Watch) -> bool:
        """End the trial or its process if it must; return whether it did."""
        trial, limit = seat.trial, self._board.study.search.trial_minutes
        minutes = (sum(epoch.seconds for epoch in trial.epochs) + watch.busy) / 60
        if limit is not None and minutes > limit:
            self._end_process(seat)
            reason = f"over search.trial_minutes: {minutes:.3g} > {limit:g}"
            self._board.end(trial, "failed", reason)
            return True
        if watch.quiet > self._stalled_after:
            cause = f"stalled: no progress for {self._stalled_after:g} s"
            _log.warning("trial %d: %s; its process is ended", trial.number, cause)
            self._board.suspect(trial, cause)
            self._end_process(seat)
            return True
        return False

    def _end_process(self, seat: Seat) -> None:
        """Let Ray end the process; it takes five seconds over one that is stopped or blocked."""
        actor = getattr(getattr(seat.tune_trial, "temporary_state", None), "ray_actor", None)
        if actor is not None:
            self._kill(actor)


def _content(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError:
        return ""
