"""Trials that report at once: for our search, and the equal one for Ray Tune without us."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from ray.tune import Trainable

from spaces.parameters import Configuration
from spaces.trial_log import LOSSES

PATIENTS = 851  # the paper's development set: so many rows has a trial's table of logits
FOLDS = 5
COHORT = {"path": "none.csv", "inputs": ["rest"], "target": "none", "colour_scale": "fixed"}


def value_of(lambda_: float) -> float:
    """Return what a trial scores; the samplers get something to learn."""
    return 0.9 - 0.4 * (lambda_ - 0.3) ** 2


class EmptyCrossValidation:
    """A cross-validation without a network: see ``search.trial.CrossValidation``."""

    def __init__(self, configuration: Configuration) -> None:
        self._auc = value_of(configuration.lambda_)
        self._epoch = 0

    def advance(self, beat: Callable[[], None]) -> Any:
        """Beat once; return a report as large as a real one."""
        beat()
        self._epoch += 1
        return SimpleNamespace(
            epoch=self._epoch,
            auc=(self._auc,) * FOLDS,
            pooled_auc=self._auc,
            loss=dict.fromkeys(LOSSES, (0.5,) * FOLDS),
            seconds=0.0,
            logits=np.zeros((PATIENTS, 2), dtype=np.float32),
            finite=True,
        )

    def save(self, path: Path) -> None:
        """Write the epoch; on a busy machine a short trial, too, may last for a checkpoint."""
        path.write_text(str(self._epoch), encoding="utf-8")

    def restore(self, path: Path) -> None:
        """Go on from what ``save`` wrote."""
        self._epoch = int(path.read_text(encoding="utf-8"))

    def close(self) -> None:
        """Nothing to free."""


class EmptyProblem:
    """A problem without data: see ``search.trial.Problem``."""

    def __init__(self) -> None:
        self.folds = np.arange(PATIENTS) % FOLDS

    def cross_validation(self, configuration: Configuration) -> EmptyCrossValidation:
        """Return the empty cross-validation of a configuration."""
        return EmptyCrossValidation(configuration)


def open_problem(run_root: str, device: str) -> EmptyProblem:  # noqa: ARG001
    """Return the empty problem, for ``search.run.search(opener=...)``."""
    return EmptyProblem()


class EmptyTrainable(Trainable):
    """The same for Tune alone: one report a trial, actors reused."""

    def setup(self, config: dict[str, Any]) -> None:
        """Take the first configuration."""
        self.reset_config(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Take the next configuration."""
        self._lambda = float(new_config["lambda"])
        return True

    def step(self) -> dict[str, Any]:
        """Report once."""
        return {"score": value_of(self._lambda), "reported_at": time.time(), "done": True}
