"""The real problem of a run, noting each epoch that a slot computes; faulty where it is told to be.

What no signal and no file can cause stands here: a configuration that raises, hangs, diverges, asks
for too much memory, or is slow to let go. The product sees an opener like any other.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from search.trial import CrossValidation
from spaces.parameters import Configuration
from trainable.lockstep import EpochReport
from trainable.problem import open_problem as open_real_problem

OPENER = f"{__name__}:open_problem"
NOTES, INJECTED = "computed.jsonl", "injected.json"
SLOW_SECONDS, SLEEP_SECONDS = 3.0, 0.3
DIVERGING_RATE = 1e30
IMPOSSIBLE = "this configuration is impossible"
MEMORY = "CUDA out of memory. Tried to allocate 2.00 GiB"


@dataclass(frozen=True)
class Injected:
    """What goes wrong in which configuration.

    Attributes:
        kind: diverge, infinite, raise, memory, hang, slow (to let go) or sleep (in every epoch).
        configuration: by YAML name; None for every one.
        epoch: in which it goes wrong.
    """

    kind: str
    configuration: dict[str, float] | None = None
    epoch: int = 1

    def hits(self, configuration: Configuration) -> bool:
        """Return whether a configuration is meant."""
        return self.configuration in (None, configuration.as_dict())


class Noted:
    """A cross-validation that writes down what it computed."""

    def __init__(self, inner: CrossValidation, about: Mapping[str, Any], folder: Path) -> None:
        self._inner = inner
        self._about = about
        self._folder = folder
        self._epoch = 0

    def advance(self, beat: Callable[[], None]) -> Any:
        """Train an epoch and note it."""
        began = time.monotonic()
        report = self._train(beat)
        self._epoch = report.epoch
        seconds = time.monotonic() - began
        line = {**self._about, "pid": os.getpid(), "epoch": self._epoch, "seconds": seconds}
        with (self._folder / NOTES).open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        return report

    def _train(self, beat: Callable[[], None]) -> Any:
        return self._inner.advance(beat)

    def save(self, path: Path) -> None:
        """See ``search.trial.CrossValidation``."""
        self._inner.save(path)

    def restore(self, path: Path) -> None:
        """Likewise; the file is named after its epoch."""
        self._inner.restore(path)
        self._epoch = int(path.stem)

    def close(self) -> None:
        """Likewise."""
        self._inner.close()


class Faulty(Noted):
    """One that goes wrong in the epoch it was told."""

    def __init__(
        self, inner: CrossValidation, about: Mapping[str, Any], folder: Path, fault: Injected
    ) -> None:
        super().__init__(inner, about, folder)
        self._fault = fault

    def advance(self, beat: Callable[[], None]) -> Any:
        """Train an epoch, unless it is the one."""
        if self._fault.kind == "sleep" or self._epoch + 1 != self._fault.epoch:
            return super().advance(beat)
        if self._fault.kind == "raise":
            raise ValueError(IMPOSSIBLE)
        if self._fault.kind == "memory":
            raise torch.OutOfMemoryError(MEMORY)
        if self._fault.kind == "hang":
            time.sleep(3600)
        report: EpochReport = super().advance(beat)
        if self._fault.kind == "infinite":
            loss = {name: (math.inf,) * len(values) for name, values in report.loss.items()}
            return replace(report, loss=loss)
        return report

    def _train(self, beat: Callable[[], None]) -> Any:
        if self._fault.kind == "sleep":
            time.sleep(SLEEP_SECONDS)
        return super()._train(beat)

    def close(self) -> None:
        """Let go, at once or slowly."""
        if self._fault.kind == "slow":
            time.sleep(SLOW_SECONDS)
        super().close()


class FaultyProblem:
    """The problem of a run with the faults that ``injected.json`` beside the run asks for."""

    def __init__(self, run_root: str, device: str) -> None:
        self._folder = Path(run_root).parent
        self._problem = open_real_problem(run_root, device)
        self.folds: np.ndarray = self._problem.folds
        path = self._folder / INJECTED
        asked = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
        self._faults = [Injected(**one) for one in asked]

    def cross_validation(self, configuration: Configuration) -> CrossValidation:
        """See ``search.trial.Problem``."""
        about = configuration.as_dict()
        fault = next((one for one in self._faults if one.hits(configuration)), None)
        if fault is not None and fault.kind == "diverge":
            configuration = replace(configuration, learning_rate=DIVERGING_RATE)
        inner = self._problem.cross_validation(configuration)
        if fault is None:
            return Noted(inner, about, self._folder)
        return Faulty(inner, about, self._folder, fault)


def open_problem(run_root: str, device: str) -> FaultyProblem:
    """Open the problem of a run, for ``search.run.search(opener=...)``."""
    return FaultyProblem(run_root, device)
