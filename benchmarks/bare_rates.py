"""What the processor gives when nothing is in the way: matrix peak, bare trunk, bare head.

Every slot measures in a process of its own while the other slots do the same.
"""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable
from functools import partial
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from spaces.parameters import Configuration
from trainable.features import Outputs
from trainable.lockstep import FoldTraining
from trainable.problem import open_problem

SLOTS = 2
SQUARE = 2048
CONFIGURATION = Configuration.from_mapping(
    {"lambda": 0.5, "learning_rate": 1e-3, "weight_decay": 1e-2, "augmentation_strength": 0.0}
)


class OneBatch:
    """Features that are read from nowhere: the same trunk outputs for whatever patients."""

    def __init__(self, outputs: list[Outputs]) -> None:
        self._outputs = outputs

    def read(self, strength: float, view: int, rows: np.ndarray) -> list[Outputs]:  # noqa: ARG002
        """Return the first rows of the batch."""
        return [tuple(one[: len(rows)] for one in outputs) for outputs in self._outputs]


def rate(work: Callable[[], Any], amount: float, seconds: float) -> float:
    """Return ``amount`` a second, as long as ``work`` is done again and again."""
    work()
    began, times = time.perf_counter(), 0
    while (passed := time.perf_counter() - began) < seconds or not times:
        work()
        times += 1
    return amount * times / passed


def product_rate(head: torch.nn.Module, batch: list[Outputs], seconds: float) -> float:
    """Return floating-point operations a second of the fastest product that could be found.

    Tried are each of the head's convolutions as one matrix product (rows x inputs x outputs) and as
    the library's own convolution, and a square product that is large and fits the caches well.
    """
    dtype = batch[0][0].dtype
    edge = torch.randn(SQUARE, SQUARE).to(dtype)
    found = [rate(partial(functional.linear, edge, edge), 2.0 * SQUARE**3, seconds)]
    count, _, height, width = batch[0][0].shape
    for layer in head.modules():
        if not isinstance(layer, torch.nn.Conv2d):
            continue
        inputs = layer.in_channels * int(np.prod(layer.kernel_size)) // layer.groups
        rows = torch.randn(count * height * width, inputs).to(dtype)
        weight = torch.randn(layer.out_channels, inputs).to(dtype)
        operations = 2.0 * len(rows) * weight.numel()
        found.append(rate(partial(functional.linear, rows, weight), operations, seconds))
        if layer.kernel_size != (1, 1) and layer.stride == (1, 1):
            found.append(_convolution_rate(layer, batch[0][0], operations, seconds))
    return max(found)


def _convolution_rate(
    layer: torch.nn.Conv2d, like: Tensor, operations: float, seconds: float
) -> float:
    """Return the rate of the library's convolution on images of the size and type of ``like``."""
    image = torch.randn(len(like), layer.in_channels, *like.shape[2:])
    image = image.to(like.dtype, memory_format=torch.channels_last)
    weight = layer.weight.detach().to(like.dtype, memory_format=torch.channels_last)
    convolve = partial(functional.conv2d, image, weight, padding=layer.padding, groups=layer.groups)
    return rate(convolve, operations, seconds)


def measure_slot(root: str, seconds: float) -> dict[str, float]:
    """Return the rates of one slot: one thread, while the other slot does the same."""
    problem = open_problem(root, "cpu")
    size = problem.study.network.image_size
    images = np.random.default_rng(0).integers(0, 256, (32, 3, size, size), dtype=np.uint8)
    extractor = problem.frozen[0].extractor
    trunk = extractor.trunk
    assert trunk is not None
    prepared = extractor._prepare(images[:4], np.zeros((4, 3)), 0.0)
    batch = [extractor.extract(images, np.zeros((32, 3)), 0.0)]
    training = problem.cross_validation(CONFIGURATION).trainings[0]
    training.features = OneBatch(batch)
    rows = training.fold.train[:32]
    operations = count_operations(training, rows)

    def forward() -> None:
        with torch.inference_mode():
            trunk(prepared)

    def train() -> None:
        training.train(1)

    def validate() -> None:
        training.validate()

    patients, validated = len(training.fold.train), len(training.fold.validation)
    return {
        "product_operations": product_rate(training.head, batch, seconds),
        "trunk_images": rate(forward, 4, seconds),
        "head_trained": rate(train, patients, seconds),
        "head_validated": rate(validate, validated, seconds),
        "operations_a_sample": operations / len(rows),
    }


def count_operations(training: FoldTraining, rows: np.ndarray) -> float:
    """Return the floating-point operations of training one batch, forward and backward."""
    with FlopCounterMode(display=False) as counter:
        losses = training._losses(training.head(training.features.read(0.0, 0, rows)), rows, 0.5)
        losses["total"].backward()  # type: ignore[no-untyped-call]
    return float(counter.get_total_flops())


def run_slot(root: str, seconds: float, threads: int, together: Barrier, results: Any) -> None:
    """Measure in a process of its own, in step with the other slots."""
    open_problem(root, "cpu")
    torch.set_num_threads(threads)  # opening has set what the study says
    together.wait()
    results.put(measure_slot(root, seconds))


def measure_slots(
    root: Path, seconds: float, *, slots: int = SLOTS, threads: int = 1
) -> dict[str, float]:
    """Return the rates of all slots together, which measure at the same time.

    Args:
        root: a run that has begun.
        seconds: of each measurement.
        slots: processes.
        threads: of each.
    """
    context = multiprocessing.get_context("spawn")
    together, results = context.Barrier(slots), context.Queue()
    processes = [
        context.Process(target=run_slot, args=(str(root), seconds, threads, together, results))
        for _ in range(slots)
    ]
    for process in processes:
        process.start()
    found = [results.get() for _ in processes]
    for process in processes:
        process.join()
    summed = {name: sum(slot[name] for slot in found) for name in found[0]}
    return summed | {"operations_a_sample": found[0]["operations_a_sample"]}
