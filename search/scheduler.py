"""When a trial ends: rungs at which it must keep up with the others, or all its epochs done."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler, TrialScheduler

from search.actor import REPORT
from search.board import Board
from search.report import Report
from spaces.sections import SearchSection
from spaces.trial_log import TrialRecord

START_SECONDS = 60.0
"""After so long, a process that is to be started waits for a node rather than for itself."""

KEEPERS = ("_live_trials", "_stopped_trials", "_failed_trials", "_trials_to_cache")
"""The sets of Tune's controller that an ended trial stays in."""


def rungs(search: SearchSection, epochs: int) -> list[int]:
    """Return the epochs after which trials are compared: grace * eta**k below ``epochs``.

    Asynchronous successive halving (Li et al., MLSys 2020, arXiv:1810.05934), with epochs as the
    resource and one bracket.

    >>> rungs(SearchSection(grace=3, eta=3), 20)
    [3, 9]
    """
    if search.scheduler == "none":
        return []
    found = []
    rung = search.grace
    while rung < epochs:
        found.append(rung)
        rung *= search.eta
    return found


def stop_reason(score: float, others: Sequence[float], *, rung: int, eta: int) -> str:
    """Return why a trial stops at a rung; empty if it goes on.

    It stops when its score is below the (1 - 1/eta) quantile of the others' scores at that rung,
    interpolated linearly as in Ray's own ASHA. A tie goes on, and so does the first to arrive.
    """
    if not others:
        return ""
    cutoff = float(np.percentile(others, (1 - 1 / eta) * 100))
    if score >= cutoff:
        return ""
    return f"rung {rung}: score {score:.4f} < cutoff {cutoff:.4f} of {len(others)} trials"


def rivals(trial: TrialRecord, trials: Sequence[TrialRecord], search: SearchSection) -> list[int]:
    """Return the numbers that a trial is compared with.

    In reproducible order these are the earlier generations, whose scores are known whatever the
    timing; in asynchronous order everybody else.
    """
    if search.order == "asynchronous":
        return [other.number for other in trials if other is not trial]
    return list(range(trial.number - trial.number % search.generation))


def settle(board: Board, trial: TrialRecord) -> bool:
    """End a trial if its last logged epoch says so; return whether it has ended."""
    if trial.state is not None:
        return True
    search, epochs, done = board.study.search, board.study.training.epochs, len(trial.epochs)
    if done >= epochs:
        board.end(trial, "complete", "all epochs done")
    elif done in rungs(search, epochs):
        numbers = rivals(trial, board.trials, search)
        reached = [board.trials[n] for n in numbers if len(board.trials[n].epochs) >= done]
        others = [other.epochs[done - 1].score for other in reached]
        reason = stop_reason(trial.epochs[-1].score, others, rung=done, eta=search.eta)
        if reason:
            board.end(trial, "stopped", reason)
    return trial.state is not None


class RungScheduler(FIFOScheduler):
    """Tune's side of ``settle``: every result passes here first, and here alone trials end."""

    def __init__(
        self, board: Board, slots: int, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._board = board
        self._clock = clock
        self._added: dict[str, float] = {}
        self._slots = slots
        self._actors_kept = 0

    def set_slots(self, slots: int) -> None:
        """Take in how many slots there are now."""
        self._slots = slots

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
        """Introduce Tune's trial to the board; keep an idle actor a slot, and no ended trial."""
        self._board.introduce(trial)
        occupied = {seat.tune_trial.trial_id for seat in self._board.seats if seat.tune_trial}
        added = {name: at for name, at in self._added.items() if name in occupied}
        self._added = added | {trial.trial_id: self._clock()}
        controller = getattr(tune_controller, "_tune_controller", tune_controller)
        _forget_ended(controller)
        if self._slots > self._actors_kept:
            _keep_idle_actors(controller, trial, self._slots - self._actors_kept)
            self._actors_kept = self._slots

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:  # noqa: ARG002
        """Log the report; stop the trial if it failed, fell behind, is complete or cannot go on."""
        report: Report = result[REPORT]
        running = self._board.report(trial.trial_id, report)
        if running is None:
            return str(TrialScheduler.STOP)
        repeated = report.epoch is not None and report.epoch.epoch < len(running.epochs)
        # A process that is of no more use ends itself when it is told to go on.
        if not report.is_last and not repeated and settle(self._board, running):
            return str(TrialScheduler.STOP)
        if self._board.obstacle is not None:
            return str(TrialScheduler.STOP)
        return str(TrialScheduler.CONTINUE)

    def choose_trial_to_run(self, tune_controller: Any) -> Any:  # noqa: ARG002
        """Return the pending trial that gets the next process, a freed one if there is one.

        Tune then ends the process that it was starting for this trial. So the newest is chosen, for
        which none is started yet; else trials shorter than a start would keep most slots from ever
        getting a process. One that has waited for long comes first: its node may never come.
        """
        pending = [seat.tune_trial for seat in self._board.seats if seat.tune_trial]
        pending = [trial for trial in pending if trial.status == Trial.PENDING]
        if not pending:
            return None
        has_waited = self._clock() - self._added.get(pending[0].trial_id, 0.0)
        return pending[0] if has_waited > START_SECONDS else pending[-1]


def _forget_ended(controller: Any) -> None:
    """Take from Tune the trials that it is done with; it would keep each to the end of the search.

    With its last result, statistics of every number in it and a snapshot, a trial takes some 50 KB
    (ray#64231), and at the end all would be written and tabulated, for nobody: trials.jsonl has
    them. Tune offers no way, so this goes through its internals; without them it costs memory.
    """
    trials = getattr(controller, "_trials", [])
    for trial in [trial for trial in trials if trial.is_finished()]:
        trials.remove(trial)
        for name in KEEPERS:
            getattr(controller, name, set()).discard(trial)
        getattr(controller, "_trial_metadata", {}).pop(trial.trial_id, None)


def _keep_idle_actors(controller: Any, trial: Any, more: int) -> None:
    """Raise Tune's limit of idle actors, one at first.

    At the end of a generation slots fall idle one by one. Tune would keep the process of the
    first and end the others, so that each generation paid the start-up again. The limit can be
    raised through Tune's internals only; without them it costs time and nothing else.
    """
    cache = getattr(controller, "_actor_cache", None)
    if cache is not None:
        cache.increase_max(trial.placement_group_factory, by=more)
