"""The process in a slot: runs one trial after the other for Ray Tune, with the data open once."""

from __future__ import annotations

import importlib
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from ray.tune import Trainable

from search.heartbeat import Heartbeat
from search.preflight import refuse_other_versions, versions
from search.trial import (
    UNSAVED_SECONDS,
    Assignment,
    Problem,
    Report,
    Trial,
    failure,
    unopened,
    unwritten,
)
from spaces.errors import UserError
from spaces.parameters import Configuration
from spaces.run_files import RunFiles

REPORT = "report"
SCORE = "score"
OPENER = "trainable.problem:open_problem"


@dataclass(frozen=True)
class Workplace:
    """What all trials of a search share, for any process to open.

    Attributes:
        run_root: the run directory.
        device: ``cpu`` or ``cuda``.
        opener: ``module:function`` that opens the problem from the two above.
        epochs: of a complete trial.
        beat_seconds: how often a trial leaves a sign of life, at most.
        unsaved_seconds: how much computing may pass before a trial writes a checkpoint.
        versions: the driver's; a node may join after they were compared. None on its own machine.
    """

    run_root: str
    device: str
    opener: str
    epochs: int
    beat_seconds: float
    unsaved_seconds: float = UNSAVED_SECONDS
    versions: Mapping[str, str | None] | None = None

    def open(self) -> Problem:
        """Import the opener and open the problem.

        Raises:
            RefusedError: this node has other versions or other code than the driver.
        """
        if self.versions is not None:
            refuse_other_versions(socket.gethostname(), versions(), self.versions)
        module, function = self.opener.split(":")
        open_problem = getattr(importlib.import_module(module), function)
        return cast(Problem, open_problem(self.run_root, self.device))


class TrialActor(Trainable):
    """Tune's side of ``search.trial.Trial``: a step is one epoch of all folds.

    A class and not a function: nothing runs when Tune is not waiting for it, so a stopped trial
    leaves no thread behind, and the actor can always be given the next configuration. What the
    configuration does wrong becomes a report, so that Tune's errors are lost processes only.
    """

    def setup(self, config: dict[str, Any]) -> None:
        """Take the first assignment; the problem is opened by the first step."""
        self._problem: Problem | None = None
        self._trial: Trial | None = None
        self.reset_config(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Let go of the last trial and take the next; always possible."""
        self._let_go()
        self._workplace: Workplace = new_config["workplace"]
        self._assignment = Assignment(
            new_config["number"],
            Configuration.from_mapping(new_config["configuration"]),
            tuple(new_config["history"]),
        )
        return True

    def step(self) -> dict[str, Any]:
        """Run one epoch; the driver alone decides whether there is a next one."""
        report = self._advance()
        return {REPORT: report, SCORE: report.score}

    def cleanup(self) -> None:
        """Let go of the last trial."""
        self._let_go()

    def _advance(self) -> Report:
        number, run = self._assignment.number, RunFiles(Path(self._workplace.run_root))
        try:
            if self._problem is None:
                self._problem = self._workplace.open()
        except Exception as error:  # noqa: BLE001  no configuration was looked at yet
            return unopened(number, error)
        try:
            if self._trial is None:
                beat = Heartbeat(run, number, every=self._workplace.beat_seconds)
                beat()
                self._trial = Trial(
                    self._problem,
                    run,
                    self._assignment,
                    epochs=self._workplace.epochs,
                    unsaved_seconds=self._workplace.unsaved_seconds,
                    beat=beat,
                )
            return self._trial.advance()
        except UserError as error:  # the study's fault, not this configuration's
            return Report(number, socket.gethostname(), obstacle=error)
        except OSError as error:  # nor is the machine's
            return unwritten(number, error)
        except Exception as error:  # noqa: BLE001  the trial's border: a bad configuration is a result
            return failure(number, error)

    def _let_go(self) -> None:
        # Should this raise, the next trial starts again in a process of its own.
        trial, self._trial = self._trial, None
        if trial is not None:
            trial.close()
