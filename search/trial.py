"""One trial: epochs of a cross-validation, their scores, logits and checkpoints. Knows no Ray."""

from __future__ import annotations

import errno
import math
import os
import socket
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from search.checkpoint import Checkpoint, checkpoints
from search.report import Report
from spaces.errors import RefusedError
from spaces.parameters import Configuration
from spaces.run_files import RunFiles, read_out_of_fold, write_out_of_fold
from spaces.storage import outlasting
from spaces.trial_log import Epoch, scores

UNSAVED_SECONDS = 60.0


class EpochReport(Protocol):
    """What one epoch of all folds gave; see ``trainable.lockstep``."""

    @property
    def epoch(self) -> int: ...  # noqa: D102
    @property
    def auc(self) -> tuple[float, ...]: ...  # noqa: D102
    @property
    def pooled_auc(self) -> float: ...  # noqa: D102
    @property
    def loss(self) -> Mapping[str, tuple[float, ...]]: ...  # noqa: D102
    @property
    def seconds(self) -> float: ...  # noqa: D102
    @property
    def logits(self) -> np.ndarray: ...  # noqa: D102
    @property
    def finite(self) -> bool: ...  # noqa: D102


class CrossValidation(Protocol):
    """The folds of one configuration, trained in lock-step."""

    def advance(self, beat: Callable[[], None]) -> EpochReport:
        """Train every fold for one epoch, then validate each; call ``beat`` after each batch."""
        ...

    def save(self, path: Path) -> None:
        """Write everything that the next epoch depends on."""
        ...

    def restore(self, path: Path) -> None:
        """Go on after the epoch that ``save`` saw."""
        ...

    def close(self) -> None:
        """Free memory."""
        ...


class Problem(Protocol):
    """The data of a study, open in one process and shared by its trials."""

    folds: np.ndarray

    def cross_validation(self, configuration: Configuration) -> CrossValidation:
        """Prepare the folds of one configuration."""
        ...


@dataclass(frozen=True)
class Assignment:
    """Which trial to run, and how far the log says it has come.

    Attributes:
        number: the trial's number.
        configuration: its values.
        history: mean validation AUC of the epochs that trials.jsonl holds already.
    """

    number: int
    configuration: Configuration
    history: tuple[float, ...] = ()


class Trial:
    """A configuration in training; each ``advance`` is one epoch of all folds.

    A trial whose process was lost goes on from its newest checkpoint that the log covers. What is
    lost with it is less computing than ``unsaved_seconds``, or than one epoch if that is longer.
    """

    def __init__(
        self,
        problem: Problem,
        run: RunFiles,
        assignment: Assignment,
        *,
        epochs: int,
        unsaved_seconds: float = UNSAVED_SECONDS,
        beat: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._assignment = assignment
        self._run = run
        self._epochs = epochs
        self._folds = problem.folds
        self._unsaved_seconds = unsaved_seconds
        self._beat = beat
        self._clock = clock
        self._unsaved = 0.0
        self._oof_sha256: str | None = None
        self._mean_auc = list(assignment.history)
        self._cross_validation = problem.cross_validation(assignment.configuration)
        self._logits = outlasting(self._continue)

    def _continue(self) -> list[np.ndarray]:
        """Restore the newest whole checkpoint; return the logits of the epochs before it.

        Raises:
            OSError: the storage is away, so that nothing can be said of what it holds.
        """
        self._require_run()
        logits = self._newest()
        if not logits:
            self._require_run()  # what was missed may have been away
        return logits

    def _newest(self) -> list[np.ndarray]:
        number, covered = self._assignment.number, len(self._assignment.history)
        written = self._run.out_of_fold_of(number)
        found = checkpoints(self._run.checkpoint_folder(number))
        if not found or not written.exists():
            return []
        try:
            logits = outlasting(lambda: read_out_of_fold(written))
        except RefusedError:
            return []  # damaged: without them, the epochs are computed again
        for checkpoint in reversed(found):
            if checkpoint.epoch <= min(covered, len(logits)) and checkpoint.is_whole():
                self._cross_validation.restore(checkpoint.path)
                return list(logits[: checkpoint.epoch])
        return []

    def _require_run(self) -> None:
        if not self._run.root.is_dir():
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))

    def advance(self) -> Report:
        """Train and validate one epoch; its logits are on disk when this returns."""
        began = self._clock()
        number, host = self._assignment.number, socket.gethostname()
        report = self._cross_validation.advance(self._beat)
        problem = non_finite(report)
        if problem:
            reason = f"{problem} at epoch {report.epoch}"
            return Report(number, host, oof_sha256=self._oof_sha256, failed=reason)
        self._logits.append(report.logits)
        path = self._run.out_of_fold_of(number)
        self._oof_sha256 = outlasting(lambda: self._write(path))
        took = self._clock() - began
        self._unsaved += took
        # The next epoch will take as long, and may be lost just before its end.
        if self._unsaved + took > self._unsaved_seconds and report.epoch < self._epochs:
            outlasting(lambda: self._save(report.epoch))
        return Report(number, host, epoch=self._measured(report), oof_sha256=self._oof_sha256)

    def _write(self, path: Path) -> str:
        return write_out_of_fold(path, np.stack(self._logits), self._folds, within=self._run.root)

    def close(self) -> None:
        """Free the memory of the folds."""
        self._cross_validation.close()

    def _measured(self, report: EpochReport) -> Epoch:
        mean_auc = math.fsum(report.auc) / len(report.auc)
        if report.epoch > len(self._mean_auc):
            self._mean_auc.append(mean_auc)
        return Epoch(
            epoch=report.epoch,
            auc=tuple(report.auc),
            pooled_auc=report.pooled_auc,
            loss={name: tuple(values) for name, values in report.loss.items()},
            score=scores(self._mean_auc[: report.epoch], self._epochs)[-1],
            seconds=report.seconds,
        )

    def _save(self, epoch: int) -> None:
        folder = self._run.checkpoint_folder(self._assignment.number)
        Checkpoint(folder, epoch).write(self._cross_validation.save, within=self._run.root)
        self._unsaved = 0.0


def non_finite(report: EpochReport) -> str:
    """Return which measurement of an epoch is infinite or NaN; empty if none is."""
    if not report.finite or not _all_finite(v for values in report.loss.values() for v in values):
        return "non-finite loss"
    if not _all_finite((*report.auc, report.pooled_auc)):
        return "non-finite AUC"
    return ""


def _all_finite(values: Iterable[float]) -> bool:
    return all(math.isfinite(value) for value in values)
