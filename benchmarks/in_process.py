"""A search in this process: searcher, scheduler and trials as Ray Tune would drive them."""

from __future__ import annotations

import math
from typing import Any

import trainable.problem
from search.board import Board
from search.scheduler import RungScheduler
from search.searcher import StudySearcher
from search.trial import Assignment, Problem, Trial
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
        """Whether the trial has ended."""
        return self.status != "RUNNING"


def open_filled(run: RunFiles) -> trainable.problem.Problem:
    """Return the problem of a run, its bank filled in this process."""
    open_problem.cache_clear()
    root = str(run.root)
    for part in missing_parts(root, "cpu"):
        fill_part(root, "cpu", part)
    return open_problem(root, "cpu")


def search_in_process(run: RunFiles, problem: Problem | None = None) -> Board:
    """Search as on one slot; return the board with every trial.

    Args:
        run: a run that has begun.
        problem: open already; by default it is opened, and its bank filled.
    """
    problem = problem or open_filled(run)
    study = read_study(run.study)
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
        # Nothing kills this process, and what stands in for a problem may be unable to save.
        trial = Trial(
            problem, run, assignment, epochs=study.training.epochs, unsaved_seconds=math.inf
        )
        result: dict[str, Any] = {}
        decision = "CONTINUE"
        while decision == "CONTINUE":
            result = {"report": trial.advance()}
            decision = scheduler.on_trial_result(None, seat, result)
        trial.close()
        seat.status = "TERMINATED"
        searcher.on_trial_complete(seat.trial_id, result)
