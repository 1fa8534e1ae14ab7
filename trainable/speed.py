"""How fast this computer's CPU passes images through the trunk and trains the head, measured."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch

from spaces.parameters import PAPER_LIKE
from trainable.features import TOGETHER, Outputs
from trainable.lockstep import Fold
from trainable.problem import Problem

TRAINED_TOGETHER = 32
WHOLE_TOGETHER = 4
"""Samples of the measured batch where every layer trains: 32 would take many seconds."""
LONG_ENOUGH = 0.3


@dataclass(frozen=True)
class Rates:
    """Speed of one trial's CPU cores.

    Attributes:
        trunk: images a second through the frozen layers; infinite if there are none.
        head: samples a second through the layers that train, all maps, backward included.
    """

    trunk: float
    head: float


def measure_rates(problem: Problem) -> Rates:
    """Return the rates at which one trial would work here; takes a second or two.

    Blank images serve, so no patient's map is read. The threads are those of one trial.
    """
    with _threads_of_a_trial(problem.study.resources.cpus_per_trial):
        together = TOGETHER["cpu"]
        trunk = together / _seconds(lambda: problem.blank_outputs(together))
        return Rates(trunk if problem.has_trunk else np.inf, _measure_head(problem))


def _measure_head(problem: Problem) -> float:
    [training] = problem.development_training(PAPER_LIKE).trainings
    batch = min(TRAINED_TOGETHER, problem.study.training.batch_size)
    rows = training.fold.train[: batch if problem.has_trunk else WHOLE_TOGETHER]
    training.fold = Fold(training.fold.number, rows, rows[:0])
    maps = [problem.blank_outputs(len(rows))] * problem.columns
    seconds = _seconds(lambda: training.train(_Blank(maps), 1))
    return len(rows) / seconds


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
