"""What the products alone cost: the same training steps on random tensors, in bare loops.

No data, no augmentation, no Ray, no metrics. The batches are those of the compared runs, in their
proportion of training and validation, and every core is busy, as it is in a search.
"""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.peer import Patients, open_patients
from benchmarks.tuned import Halves, TunedFold
from benchmarks.workload import CONFIGURATIONS, CORES
from spaces.run_files import RunFiles
from trainable.features import TOGETHER, channels_first, channels_last
from trainable.head import Head, split_network
from trainable.loss import multi_task_loss
from trainable.numerics import precision_of

PATIENCE = 300.0  # seconds in which every process must have started
Step = Callable[[int, bool], None]


def bare_costs(
    run: RunFiles, seconds: float, layouts: Sequence[int]
) -> tuple[dict[int, float], float, float]:
    """Return what bare loops cost, in ms per patient and epoch of five folds.

    Args:
        run: its study and folds say what is computed.
        seconds: of each loop.
        layouts: trials at a time, which share out the cores; as many as cores is the first.

    Returns:
        By layout, the tuned peer's whole network; our head alone; our folded trunk alone if it ran
        in every pass.
    """
    first, *others = layouts
    network, head, trunk = _measure(["network", "head", "trunk"], run, seconds, first)
    by_layout = {k: _measure(["network"], run, seconds, k)[0] for k in others}
    return {first: network, **by_layout}, head, trunk


def _measure(kinds: list[str], run: RunFiles, seconds: float, processes: int) -> list[float]:
    """Run loops in so many processes at once; return what their joint rate makes of a patient."""
    context = multiprocessing.get_context("spawn")
    barrier, results = context.Barrier(processes), context.Queue()
    arguments = (kinds, str(run.root), seconds, CORES // processes, (barrier, results))
    started = [context.Process(target=_work, args=arguments) for _ in range(processes)]
    for process in started:
        process.start()
    costs = [results.get(timeout=PATIENCE + 10 * seconds) for _ in started]
    for process in started:
        process.join()
    return [1 / sum(1 / cost for cost in each) for each in zip(*costs, strict=True)]


def _work(kinds: list[str], root: str, seconds: float, threads: int, joint: Any) -> None:
    """Measure each kind in turn, all processes the same one at the same time."""
    barrier, results = joint
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    patients = open_patients(RunFiles(Path(root)), 1)
    batches = epoch_batches(patients.folds, patients.study.training.batch_size)
    costs = []
    for kind in kinds:
        step = {"network": _network_step, "head": _head_step, "trunk": _trunk_step}[kind](patients)
        _run_epoch(step, batches)
        barrier.wait(PATIENCE)
        epochs, began = 0, time.perf_counter()
        while time.perf_counter() - began < seconds:
            _run_epoch(step, batches)
            epochs += 1
        spent = time.perf_counter() - began
        costs.append(1000 * spent / epochs / len(patients.folds))
    results.put(costs)


def _run_epoch(step: Step, batches: list[tuple[int, bool]]) -> None:
    for count, trains in batches:
        step(count, trains)


def epoch_batches(folds: np.ndarray, size: int) -> list[tuple[int, bool]]:
    """Return the batches of an epoch of all folds: patients in it, and whether it trains.

    >>> epoch_batches(np.array([0, 0, 1]), 2)
    [(1, True), (2, False), (2, True), (1, False)]
    """
    found = []
    for fold in np.unique(folds):
        for rows, trains in ((folds != fold, True), (folds == fold, False)):
            left = int(rows.sum())
            found += [(min(size, left - at), trains) for at in range(0, left, size)]
    return found


def _network_step(patients: Patients) -> Step:
    section = patients.study.network
    assert isinstance(section.trainable_layers, int)
    dtype = _dtype(patients)
    halves = Halves(patients.network(), section.trainable_layers, dtype)
    fold = TunedFold(0, 0, halves, CONFIGURATIONS[0].as_dict())
    pixels = _pixels(patients, dtype)
    target, segments = _labels(patients)

    def step(count: int, trains: bool) -> None:
        if trains:
            fold.update(pixels[:count], target[:count], segments[:count])
        else:
            fold.predict(pixels[:count])

    return step


def _head_step(patients: Patients) -> Step:
    trunk, untrained = _our_halves(patients)
    head = untrained.copy(torch.Generator().manual_seed(0))
    with torch.no_grad():
        shapes = [output.shape[1:] for output in trunk(_pixels(patients, _dtype(patients))[:1])]
    size = patients.study.training.batch_size
    features = [
        channels_first(channels_last(torch.randn(size, *shape).to(_dtype(patients))))
        for shape in shapes
    ]
    target, segments = _labels(patients)
    configuration = CONFIGURATIONS[0]
    optimiser = torch.optim.AdamW(
        head.parameters_that_train(), lr=configuration.learning_rate, fused=True
    )

    def step(count: int, trains: bool) -> None:
        part = [tuple(output[:count] for output in features)]
        if not trains:
            with torch.inference_mode():
                head(part)
            return
        optimiser.zero_grad(set_to_none=True)
        loss, _, _ = multi_task_loss(
            head(part), target[:count], segments[:count], configuration.lambda_
        )
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()

    return step


def _trunk_step(patients: Patients) -> Step:
    trunk, _ = _our_halves(patients)
    together = TOGETHER["cpu"]
    pixels = _pixels(patients, _dtype(patients))[:together]

    def step(count: int, trains: bool) -> None:
        del trains
        with torch.no_grad():
            for at in range(0, count, together):
                trunk(pixels[: count - at])

    return step


def _our_halves(patients: Patients) -> tuple[Any, Head]:
    section = patients.study.network
    trunk, head = split_network(
        patients.network(),
        section.trainable_layers,
        widened=False,
        dtype=_dtype(patients),
    )
    assert trunk is not None
    return trunk.eval(), head


def _dtype(patients: Patients) -> torch.dtype:
    return precision_of(patients.study.network, "cpu")


def _pixels(patients: Patients, dtype: torch.dtype) -> Tensor:
    edge, size = patients.study.network.image_size, patients.study.training.batch_size
    return torch.randn(size, 3, edge, edge).to(dtype, memory_format=torch.channels_last)


def _labels(patients: Patients) -> tuple[Tensor, Tensor]:
    size = patients.study.training.batch_size
    return (torch.arange(size) % 2).to(torch.float32), torch.randn(size, 17)
