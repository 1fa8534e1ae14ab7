"""How fast this computer's CPU passes images through the trunk and trains the head, measured."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from spaces.parameters import PAPER_LIKE
from trainable.features import TOGETHER, Outputs
from trainable.lockstep import Fold, FoldTraining
from trainable.problem import Problem

TRAINED_TOGETHER = 32
WHOLE_TOGETHER = 4
"""Samples of the measured batch where every layer trains: 32 would take many seconds."""
LONG_ENOUGH = 0.3
FORWARD_AND_BACKWARD = 3
"""Forward passes that a training pass costs: forward, and a product each for weights and input."""


@dataclass(frozen=True)
class Rates:
    """Speed of one trial's CPU cores.

    Attributes:
        trunk: images a second through the frozen layers; infinite if there are none.
        head: samples a second through the layers that train, all maps, backward included.
        trunk_operations: floating-point operations of an image there, products alone.
        head_operations: of a sample there, backward included.
    """

    trunk: float
    head: float
    trunk_operations: float
    head_operations: float


def measure_rates(problem: Problem) -> Rates:
    """Return the rates at which one trial would work here; takes a second or two.

    Blank images serve, so no patient's map is read. The threads are those of one trial.
    """
    with _threads_of_a_trial(problem.study.resources.cpus_per_trial):
        training = _blank_training(problem)
        rows, frozen = training.fold.train, problem.frozen_of(training.fold)
        head = len(rows) / _seconds(lambda: training.train(1))
        trained = FORWARD_AND_BACKWARD * _operations(lambda: training.predict(rows)) / len(rows)
        if not frozen.has_trunk:
            return Rates(np.inf, head, 0.0, trained)
        together = TOGETHER["cpu"]
        passed = _operations(lambda: frozen.blank_outputs(together)) / together
        trunk = together / _seconds(lambda: frozen.blank_outputs(together))
        return Rates(trunk, head, passed, trained)


def _blank_training(problem: Problem) -> FoldTraining:
    """Return what trains one batch of blank images in an epoch."""
    [training] = problem.development_training(PAPER_LIKE).trainings
    frozen = problem.frozen_of(training.fold)
    batch = min(TRAINED_TOGETHER, problem.study.training.batch_size)
    rows = training.fold.train[: batch if frozen.has_trunk else WHOLE_TOGETHER]
    training.fold = Fold(training.fold.number, rows, rows[:0])
    training.features = _Blank([frozen.blank_outputs(len(rows))] * problem.columns)
    return training


def _operations(work: Callable[[], object]) -> float:
    """Return the floating-point operations of its products; torch miscounts backward passes."""
    with FlopCounterMode(display=False) as counter:
        work()
    return float(counter.get_total_flops())


@dataclass(frozen=True)
class _Blank:
    """Stands in for the trunk outputs of patients."""

    maps: list[Outputs]

    def read(self, strength: float, view: int, rows: np.ndarray) -> list[Outputs]:  # noqa: ARG002
        """Return the same outputs whoever is asked for."""
        return self.maps


def _seconds(work: Callable[[], object]) -> float:
    """Return the shortest time that ``work`` takes, once it has run before."""
    work()
    times: list[float] = []
    while sum(times) < LONG_ENOUGH:
        started = time.perf_counter()
        work()
        times.append(time.perf_counter() - started)
    return min(times)


@contextmanager
def _threads_of_a_trial(number: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)
