"""The process in a slot: runs one trial after the other for Ray Tune, with the data open once."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ray.tune import PlacementGroupFactory, Trainable

from search.fitness import of_this_node, others_than
from search.heartbeat import Heartbeat
from search.report import Report, Unfit, failure, lost, unopened, unwritten
from search.trial import Assignment, Problem, Trial
from search.workplace import Workplace
from spaces.errors import UserError
from spaces.parameters import Configuration
from spaces.run_files import RunFiles

REPORT = "report"
SCORE = "score"
ENDED = 1
"""Exit code of a process that can compute nothing; Ray takes 0 for one that was asked to end."""


class Slot(PlacementGroupFactory):
    """What a trial asks of Ray: a slot, on a node that was not found unfit.

    Any two are equal, whatever they avoid. So Tune gives a trial an idle process that an earlier
    one asked for: were it on an unfit node, it would have ended itself.
    """

    def __init__(self, cpus: int, gpus: float, unfit: Sequence[str] = ()) -> None:
        self.unfit = tuple(unfit)
        rule: dict[str, Any] = {"bundle_label_selector": [others_than(unfit)]} if unfit else {}
        super().__init__([{"CPU": cpus, "GPU": gpus}], **rule)

    def __eq__(self, other: object) -> bool:
        """Compare sizes."""
        return isinstance(other, Slot) and self.bundles == other.bundles

    def __hash__(self) -> int:
        """Agree with equality."""
        return hash(json.dumps(self.bundles, sort_keys=True))


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
        self._is_useless = False
        self.reset_config(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Let go of the last trial and take the next; always possible."""
        self._let_go()
        self._workplace: Workplace = new_config["workplace"]
        self._epochs: int = new_config["epochs"]
        self._beat_seconds: float = new_config["beat_seconds"]
        self._unsaved_seconds: float = new_config["unsaved_seconds"]
        self._assignment = Assignment(
            new_config["number"],
            Configuration.from_mapping(new_config["configuration"]),
            tuple(new_config["history"]),
        )
        return True

    def step(self) -> dict[str, Any]:
        """Run one epoch; the driver alone decides whether there is a next one.

        A process that has said that it can compute nothing ends here, by itself: so Tune takes it
        for lost, starts the trial again elsewhere and gives it no other.
        """
        if self._is_useless:
            os._exit(ENDED)
        report = self._advance()
        self._is_useless = report.is_last
        if report.unfit is not None:
            report = replace(report, unfit=of_this_node(report.unfit))
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
            return lost(number, error) or _unfit(number, unopened(error))
        try:
            if self._trial is None:
                beat = Heartbeat(run, number, every=self._beat_seconds)
                beat()
                self._trial = Trial(
                    self._problem,
                    run,
                    self._assignment,
                    epochs=self._epochs,
                    unsaved_seconds=self._unsaved_seconds,
                    beat=beat,
                )
            return self._trial.advance()
        except UserError as error:  # the study's fault, not this configuration's
            return _unfit(number, Unfit(error))
        except OSError as error:  # nor is the machine's
            return lost(number, error) or _unfit(number, unwritten(error))
        except Exception as error:  # noqa: BLE001  the trial's border: a bad configuration is a result
            return lost(number, error) or failure(number, error)

    def _let_go(self) -> None:
        # Should this raise, the next trial starts again in a process of its own.
        trial, self._trial = self._trial, None
        if trial is not None:
            trial.close()


def _unfit(number: int, why: Unfit) -> Report:
    return Report(number, socket.gethostname(), unfit=why)
