"""Signs of life: a slot leaves them while batches finish; the driver ends trials without any."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import shutil
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ray

from search.board import Board, Seat
from spaces.run_files import RunFiles, write_text

EVERY_SECONDS = 2.0

_log = logging.getLogger(__name__)


class Heartbeat:
    """The slot's side: a small file that changes as long as work goes on.

    The training loop calls it after every batch; it writes at most every two seconds. A thread
    would go on beating beside a loop that hangs, so there is none.
    """

    def __init__(self, run: RunFiles, number: int) -> None:
        self._path = run.heartbeat_of(number)
        self._beats = 0
        self._written = -EVERY_SECONDS

    def __call__(self) -> None:
        """Say that something was finished."""
        self._beats += 1
        now = time.monotonic()
        if now - self._written < EVERY_SECONDS:
            return
        self._written = now
        sign = {"host": socket.gethostname(), "pid": os.getpid(), "beats": self._beats}
        # A sign that cannot be written must not end the trial that it speaks for.
        with contextlib.suppress(OSError):
            write_text(self._path, json.dumps(sign))


class Overseer:
    """The driver's side: ends the process of a trial that has stalled, or a trial over its limit.

    What counts is change as seen by this process's own clock, so clocks of nodes need not agree.
    """

    def __init__(self, board: Board, clock: Callable[[], float] = time.monotonic) -> None:
        self._board = board
        self._clock = clock
        self._seen: dict[int, tuple[tuple[object, ...], float]] = {}
        self.close()

    def close(self) -> None:
        """Remove all signs."""
        shutil.rmtree(self._board.run.heartbeats, ignore_errors=True)

    def look(self) -> None:
        """End what has hung or runs too long; costs a look at each running trial's file."""
        search, now = self._board.study.search, self._clock()
        seats = [seat for seat in self._board.seats if seat.tune_trial is not None]
        numbers = {seat.trial.number for seat in seats}
        self._seen = {number: seen for number, seen in self._seen.items() if number in numbers}
        for seat in seats:
            trial = seat.trial
            since = now - self._last_change(seat, now)
            spent = sum(epoch.seconds for epoch in trial.epochs) + since
            if search.trial_minutes is not None and spent > 60 * search.trial_minutes:
                reason = f"over search.trial_minutes: {spent / 60:.3g} > {search.trial_minutes:g}"
                _log.warning("trial %d: %s", trial.number, reason)
                self._kill(seat)
                self._board.end(trial, "failed", reason)
            elif since > search.stalled_after:
                cause = f"stalled: no progress for {search.stalled_after:g} s"
                self._board.suspect(trial, cause)
                self._kill(seat)
                self._seen.pop(trial.number)

    def _last_change(self, seat: Seat, now: float) -> float:
        """Return when the trial last got on; one that waits for its slot is not expected to."""
        trial, waits = seat.trial, now if seat.is_pending else None
        path = self._board.run.heartbeat_of(trial.number)
        seen = self._seen.get(trial.number)
        if seen is None or seen[0][0] != id(seat.tune_trial):
            path.unlink(missing_ok=True)  # the sign of an earlier process
        sign = (id(seat.tune_trial), waits, len(trial.epochs), _content(path))
        if seen is None or seen[0] != sign:
            self._seen[trial.number] = (sign, now)
        return self._seen[trial.number][1]

    def _kill(self, seat: Seat) -> None:
        """End the process, which may be stopped or blocked; Tune then finds the trial lost."""
        sign = _read(self._board.run.heartbeat_of(seat.trial.number))
        _log.warning("trial %d: its process is ended", seat.trial.number)
        if sign.get("host") == socket.gethostname():
            # Ray asks the process itself to end, and a stopped one never would.
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(int(sign["pid"]), signal.SIGKILL)
        actor = getattr(getattr(seat.tune_trial, "temporary_state", None), "ray_actor", None)
        if actor is not None:
            ray.kill(actor)


def _content(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError:
        return ""


def _read(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(_content(path)))
    except ValueError:
        return {}
