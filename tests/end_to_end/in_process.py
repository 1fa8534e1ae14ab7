"""A whole study in this process: the parts that Ray would run, run one after the other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from analysis.evaluate import evaluate
from analysis.retrain import retrain
from analysis.select import select
from cohort.table import Cohort
from search.board import Board
from search.scheduler import RungScheduler
from search.searcher import StudySearcher
from search.trial import Assignment, Trial
from spaces.parameters import Configuration
from spaces.run_files import RunFiles
from spaces.study import read_study
from trainable.problem import fill_part, missing_parts, open_problem


class Seat:
    """What the scheduler sees of a running trial."""

    def __init__(self, trial_id: str) -> None:
        self.trial_id = trial_id
        self.status = "RUNNING"

    def is_finished(self) -> bool:
        return self.status != "RUNNING"


def search_in_process(run: RunFiles) -> Board:
    """Search as on one slot; return the board with every trial."""
    open_problem.cache_clear()
    root = str(run.root)
    for part in missing_parts(root, "cpu"):
        fill_part(root, "cpu", part)
    problem, study = open_problem(root, "cpu"), read_study(run.study)
    board = Board(study, run)
    searcher, scheduler = StudySearcher(board, 1), RungScheduler(board, 1)
    while True:
        seat = Seat(f"seat{len(board.trials)}")
        suggestion = searcher.suggest(seat.trial_id)
        if suggestion == "FINISHED":
            return board
        assignment = Assignment(
            suggestion["number"],
            Configuration.from_mapping(suggestion["configuration"]),
            tuple(suggestion["history"]),
        )
        scheduler.on_trial_add(None, seat)
        trial = Trial(problem, run, assignment, epochs=study.training.epochs)
        result: dict[str, Any] = {}
        decision = "CONTINUE"
        while decision == "CONTINUE":
            result = {"report": trial.advance()}
            decision = scheduler.on_trial_result(None, seat, result)
        seat.status = "TERMINATED"
        searcher.on_trial_complete(seat.trial_id, result)


def run_here(function: Callable[..., Any], arguments: Sequence[tuple[Any, ...]]) -> list[Any]:
    """Stand in for ``Place.run_on_slots``."""
    return [function(*one) for one in arguments]


def finish_in_process(run: RunFiles, cohort: Cohort) -> Any:
    """Select, retrain and evaluate; return what evaluate returns."""
    select(run)
    retrain(run, run_here, "cpu")
    return evaluate(run, cohort)
