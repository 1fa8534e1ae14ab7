"""The process in a slot: runs one trial after the other for Ray Tune, with the data open once."""

from __future__ import annotations

import importlib
import json
import os
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import ray
from ray.tune import PlacementGroupFactory, Trainable

from search.heartbeat import Heartbeat
from search.preflight import not_shared, refuse_other_versions, versions
from search.report import Report, failure, lost, unopened, unwritten
from search.trial import UNSAVED_SECONDS, Assignment, Problem, Trial
from spaces.errors import UserError
from spaces.parameters import Configuration
from spaces.run_files import RunFiles
from spaces.storage import outlasting

REPORT = "report"
SCORE = "score"
NODE = "ray.io/node-id"
"""Ray's own label of every node."""
ENDED = 1
"""Exit code of a process that can compute nothing; Ray takes 0 for one that was asked to end."""
OPENER = "trainable.problem:open_problem"


class Slot(PlacementGroupFactory):
    """What a trial asks of Ray: a slot, on a node that was not found unfit.

    Any two are equal, whatever they avoid. So Tune gives a trial an idle process that an earlier
    one asked for: were it on an unfit node, it would have ended itself.
    """

    def __init__(self, cpus: int, gpus: float, unfit: Sequence[str] = ()) -> None:
        self.unfit = tuple(unfit)
        others = [{NODE: f"!in({','.join(unfit)})"}]
        rule: dict[str, Any] = {"bundle_label_selector": others} if unfit else {}
        super().__init__([{"CPU": cpus, "GPU": gpus}], **rule)

    def __eq__(self, other: object) -> bool:
        """Compare sizes."""
        return isinstance(other, Slot) and self.bundles == other.bundles

    def __hash__(self) -> int:
        """Agree with equality."""
        return hash(json.dumps(self.bundles, sort_keys=True))


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
        """Import the opener and open the problem, once the storage that it needs is there.

        Raises:
            InputError: the run is not there.
            RefusedError: this node has other versions or other code than the driver.
        """
        if self.versions is not None:
            refuse_other_versions(socket.gethostname(), versions(), self.versions)
        return outlasting(self._open)

    def _open(self) -> Problem:
        try:
            RunFiles(Path(self.run_root)).study.stat()
        except OSError as error:
            fault = f"its study.yaml cannot be seen ({error.strerror})"
            raise not_shared(socket.gethostname(), self.run_root, fault) from error
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
        self._is_useless = False
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
        """Run one epoch; the driver alone decides whether there is a next one.

        A process that has said that it can compute nothing ends here, by itself: so Tune takes it
        for lost, starts the trial again elsewhere and gives it no other.
        """
        if self._is_useless:
            os._exit(ENDED)
        report = self._advance()
        self._is_useless = report.is_last
        if report.obstacle is not None:
            report = replace(report, node=ray.get_runtime_context().get_node_id())
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
            return lost(number, error) or unopened(number, error)
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
            return lost(number, error) or unwritten(number, error)
        except Exception as error:  # noqa: BLE001  the trial's border: a bad configuration is a result
            return lost(number, error) or failure(number, error)

    def _let_go(self) -> None:
        # Should this raise, the next trial starts again in a process of its own.
        trial, self._trial = self._trial, None
        if trial is not None:
            trial.close()
