"""One trial: epochs of a cross-validation, their scores, logits and checkpoints. Knows no Ray."""

from __future__ import annotations

import errno
import math
import os
import socket
import time
import traceback
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np

from spaces.errors import InputError, RefusedError, UserError
from spaces.parameters import Configuration
from spaces.run_files import (
    RunFiles,
    read_json,
    read_out_of_fold,
    replacing,
    sha256_of,
    write_json,
    write_out_of_fold,
)
from spaces.storage import outlasting, unwritable
from spaces.trial_log import Epoch, scores

UNSAVED_SECONDS = 60.0
CHECKPOINTS_KEPT = 2


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


@dataclass(frozen=True)
class Report:
    """What a trial says after each epoch.

    Attributes:
        epoch: the epoch's measurements; None if it failed.
        oof_sha256: digest of oof/<number>.parquet, None while there is no such file.
        failed: why the trial cannot go on; empty while it can.
        traceback: where it failed, for run.log.
        obstacle: why no trial of the study can start here; None if they can.
    """

    number: int
    host: str
    epoch: Epoch | None = None
    oof_sha256: str | None = None
    failed: str = ""
    traceback: str = ""
    obstacle: UserError | None = None

    @property
    def score(self) -> float:
        """The score so far; NaN if the epoch failed."""
        return self.epoch.score if self.epoch else math.nan


def failure(number: int, error: Exception) -> Report:
    """Return the report of a trial that raised ``error``."""
    # An operating system's message names the file, and a file's name may be a patient's.
    told = error.strerror or "" if isinstance(error, OSError) else str(error)
    summary = told.strip().split("\n")[0]
    reason = f"{type(error).__name__}: {summary}" if summary else type(error).__name__
    written = "".join(traceback.format_tb(error.__traceback__)) + reason
    return Report(number, socket.gethostname(), failed=reason, traceback=written)


def unopened(number: int, error: Exception) -> Report:
    """Return the report of a slot in which the study cannot be opened, whatever the trial."""
    if isinstance(error, UserError):
        return Report(number, socket.gethostname(), obstacle=error)
    found = failure(number, error)
    obstacle = InputError(
        "the study",
        f"cannot be opened on {found.host} ({found.failed})",
        "run.log says where; mend it, and the same command goes on",
    )
    return replace(found, failed="", obstacle=obstacle)


def unwritten(number: int, error: OSError) -> Report:
    """Return the report of a slot whose storage fails, whatever the trial."""
    found = failure(number, error)
    return replace(found, failed="", obstacle=unwritable(f"run directory, on {found.host}", error))


class Trial:
    """A configuration in training; each ``advance`` is one epoch of all folds.

    A trial whose process was lost goes on from its newest checkpoint that the log covers.
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
    ) -> None:
        self._assignment = assignment
        self._run = run
        self._epochs = epochs
        self._folds = problem.folds
        self._unsaved_seconds = unsaved_seconds
        self._beat = beat
        self._unsaved = 0.0
        self._oof_sha256: str | None = None
        self._mean_auc = list(assignment.history)
        self._cross_validation = problem.cross_validation(assignment.configuration)
        self._logits = self._continue()

    def _continue(self) -> list[np.ndarray]:
        """Restore the newest whole checkpoint; return the logits of the epochs before it."""
        number, covered = self._assignment.number, len(self._assignment.history)
        written = self._run.out_of_fold_of(number)
        checkpoints = _checkpoints(self._run.checkpoint_folder(number))
        if not checkpoints or not written.exists():
            return []
        try:
            logits = read_out_of_fold(written)
        except RefusedError:
            return []  # damaged: without them, the epochs are computed again
        for checkpoint in reversed(checkpoints):
            if checkpoint.epoch <= min(covered, len(logits)) and checkpoint.is_whole():
                self._cross_validation.restore(checkpoint.path)
                return list(logits[: checkpoint.epoch])
        return []

    def advance(self) -> Report:
        """Train and validate one epoch; its logits are on disk when this returns."""
        began = time.monotonic()
        number, host = self._assignment.number, socket.gethostname()
        report = self._cross_validation.advance(self._beat)
        problem = non_finite(report)
        if problem:
            reason = f"{problem} at epoch {report.epoch}"
            return Report(number, host, oof_sha256=self._oof_sha256, failed=reason)
        self._logits.append(report.logits)
        path = self._run.out_of_fold_of(number)
        self._oof_sha256 = outlasting(lambda: self._write(path))
        self._unsaved += time.monotonic() - began
        if self._unsaved > self._unsaved_seconds and report.epoch < self._epochs:
            self._save(report.epoch)
        return Report(number, host, epoch=self._measured(report), oof_sha256=self._oof_sha256)

    def _write(self, path: Path) -> str:
        if not self._run.root.is_dir():  # writing would make it, beside the storage that is away
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
        return write_out_of_fold(path, np.stack(self._logits), self._folds)

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
        checkpoint = Checkpoint(folder, epoch)
        with replacing(checkpoint.path) as partial:
            self._cross_validation.save(partial)
        checkpoint.seal()
        for old in _checkpoints(folder)[:-CHECKPOINTS_KEPT]:
            old.delete()
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


@dataclass(frozen=True)
class Checkpoint:
    """The state of a trial after one epoch, and a seal that says it was written whole."""

    folder: Path
    epoch: int

    @property
    def path(self) -> Path:
        """The tensors."""
        return self.folder / f"{self.epoch:05d}.safetensors"

    @property
    def _seal(self) -> Path:
        return self.path.with_suffix(".json")

    def seal(self) -> None:
        """Write the digest beside the tensors."""
        write_json(self._seal, "checkpoint", {"sha256": sha256_of(self.path)})

    def is_whole(self) -> bool:
        """Whether the tensors are the ones that were sealed."""
        if not (self.path.exists() and self._seal.exists()):
            return False
        return bool(read_json(self._seal, "checkpoint")["sha256"] == sha256_of(self.path))

    def delete(self) -> None:
        """Remove both files, the seal first."""
        self._seal.unlink(missing_ok=True)
        self.path.unlink(missing_ok=True)


def _checkpoints(folder: Path) -> list[Checkpoint]:
    """Return the checkpoints in a folder, oldest first; a missing folder has none."""
    found = sorted(folder.glob("[0-9]*.safetensors"))
    return [Checkpoint(folder, int(path.stem)) for path in found]
