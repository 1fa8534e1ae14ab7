"""Drives searcher and scheduler as Tune would, without Ray: any number of slots, any timing."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

import numpy as np
from simulated_workload import epoch_of

from search.board import Board
from search.report import Report
from search.scheduler import RungScheduler
from search.searcher import StudySearcher
from spaces.run_files import RunFiles
from spaces.study import Study, read_study
from spaces.trial_log import TrialRecord, scores


@dataclass
class FakeTuneTrial:
    trial_id: str
    status: str = "RUNNING"

    def is_finished(self) -> bool:
        return self.status in {"TERMINATED", "ERROR"}


def report_of(trial: TrialRecord, epochs: int) -> Report:
    """The next report of a trial that follows the known objective."""
    epoch = len(trial.epochs) + 1
    means = [e.mean_auc for e in trial.epochs]
    means.append(epoch_of(trial.configuration, epoch, 0.0).mean_auc)
    score = scores(means, epochs)[-1]
    return Report(trial.number, "here", epoch_of(trial.configuration, epoch, score), "0" * 64)


class Driver:
    """Tune's loop: asks for trials while there are slots, then advances one that runs."""

    def __init__(
        self,
        run: RunFiles,
        slots: int = 1,
        *,
        report: Callable[[TrialRecord, int], Report] = report_of,
        searcher: type[StudySearcher] = StudySearcher,
        study: Study | None = None,
        nodes: Callable[[], Collection[str]] = tuple,
    ) -> None:
        self.study = study or read_study(run.study)
        self.board = Board(self.study, run, nodes=nodes)
        self.searcher = searcher(self.board, slots)
        self.scheduler = RungScheduler(self.board, slots)
        self.running: dict[str, FakeTuneTrial] = {}
        self.report = report
        self.most_running = 0
        self.given: list[dict[str, Any]] = []
        self._started = 0

    def fill(self) -> bool:
        """Start all trials that the searcher gives; return whether it has finished."""
        while True:
            self._started += 1
            tune_id = f"tune{self._started}"
            suggestion = self.searcher.suggest(tune_id)
            if suggestion == "FINISHED":
                return True
            if suggestion is None:
                return False
            self.given.append(suggestion)
            self.running[tune_id] = FakeTuneTrial(tune_id)
            self.scheduler.on_trial_add(None, self.running[tune_id])
            self.most_running = max(self.most_running, len(self.running))

    def advance(self, tune_id: str) -> None:
        """Let one running trial finish one epoch."""
        fake = self.running[tune_id]
        trial = self.board._seats[tune_id].trial
        report = self.report(trial, self.study.training.epochs)
        result = {"report": report, "score": report.score}
        if self.scheduler.on_trial_result(None, fake, result) == "STOP":
            fake.status = "TERMINATED"
            self.searcher.on_trial_complete(tune_id, result)
            del self.running[tune_id]
        else:
            self.searcher.on_trial_result(tune_id, result)

    def lose(self, tune_id: str) -> None:
        """Let the process of a running trial die."""
        self.running.pop(tune_id).status = "ERROR"

    def run(self, generator: np.random.Generator | None = None, events: int | None = None) -> None:
        """Go on to the end, or for so many epochs; running trials advance in random order."""
        while not self.fill():
            if events is not None:
                if events == 0:
                    return
                events -= 1
            running = sorted(self.running)
            chosen = 0 if generator is None else int(generator.integers(len(running)))
            self.advance(running[chosen])
