"""Trials that only sleep, and note when: ten reports in 10 to 20 seconds. No torch."""

from __future__ import annotations

import json
import os
import sys
import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.empty_trials import FOLDS, PATIENTS, EmptyCrossValidation
from spaces.parameters import Configuration

REPORTS = 10
SHORTEST, LONGEST = 10.0, 20.0
SPANS = "spans"


@dataclass(frozen=True)
class Span:
    """One epoch of one trial in one process.

    Attributes:
        process: its number on this machine.
        trial: a digest of its configuration.
        began: seconds since 1970.
        seconds: that it was to sleep; what else passed, in it or after it, was not work.
    """

    process: int
    trial: int
    began: float
    seconds: float


def read_spans(run_root: Path) -> list[Span]:
    """Return what the processes of a run noted."""
    files = sorted((run_root / SPANS).glob("*.jsonl"))
    return [Span(*json.loads(line)) for file in files for line in file.read_text().splitlines()]


class SleepingCrossValidation(EmptyCrossValidation):
    """A cross-validation whose epochs last as long as its configuration says."""

    def __init__(
        self, configuration: Configuration, note: Callable[[Span], None], share: float
    ) -> None:
        super().__init__(configuration)
        self._note = note
        self._trial = zlib.crc32(repr(sorted(configuration.as_dict().items())).encode())
        # From the whole configuration: what the sampler learns must not make trials shorter.
        whole = SHORTEST + (LONGEST - SHORTEST) * self._trial / 2**32
        self._pause = share * whole / REPORTS

    def advance(self, beat: Callable[[], None]) -> Any:
        """Sleep, then report."""
        began = time.time()
        time.sleep(self._pause)
        self._note(Span(os.getpid(), self._trial, began, self._pause))
        return super().advance(beat)


class SleepingProblem:
    """A problem without data: see ``search.trial.Problem``."""

    def __init__(self, run_root: Path, share: float) -> None:
        self.folds = np.arange(PATIENTS) % FOLDS
        self._share = share
        folder = run_root / SPANS
        folder.mkdir(exist_ok=True)
        self._file = (folder / f"{os.getpid()}.jsonl").open("a", buffering=1, encoding="utf-8")

    def cross_validation(self, configuration: Configuration) -> SleepingCrossValidation:
        """Return the sleeping cross-validation of a configuration."""
        return SleepingCrossValidation(configuration, self._note, self._share)

    def _note(self, span: Span) -> None:
        line = [span.process, span.trial, span.began, span.seconds]
        self._file.write(json.dumps(line) + "\n")


def open_problem(run_root: str, device: str) -> SleepingProblem:  # noqa: ARG001
    """Return the problem whose trials last 10 to 20 seconds."""
    return _opened(run_root, 1.0)


def open_quick(run_root: str, device: str) -> SleepingProblem:  # noqa: ARG001
    """Return the problem whose trials last 1 to 2 seconds."""
    return _opened(run_root, 0.1)


def _opened(run_root: str, share: float) -> SleepingProblem:
    # 64 slots fit on two cores only as long as what a slot imports stays small.
    assert "torch" not in sys.modules, "a slot that only sleeps has imported torch"
    return SleepingProblem(Path(run_root), share)
