"""What was tried to make the heads faster: each way beside the one that was kept.

One thread and a batch of 32, with the shapes of a real head; milliseconds, the ways by turns so
that drift strikes all alike. docs/speed.md says what follows from it.
"""

from __future__ import annotations

import copy
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.bare_rates import CONFIGURATION, SLOTS, OneBatch, measure_slots
from benchmarks.limit import prepare
from benchmarks.measuring import (
    Out,
    Quick,
    console,
    machine,
    spread,
    summarise,
    table,
    write_results,
)
from trainable.cut import cut_encoder
from trainable.features import Outputs
from trainable.fold import TokenPool
from trainable.head import Head
from trainable.lockstep import FoldTraining
from trainable.problem import Problem, fill_part, open_problem

BATCH, FOLDS = 32, 5
Ways = Mapping[str, Callable[[], object]]


def pooling(features: Tensor) -> Ways:
    """Return ways to average over the map, forward and backward; ``features`` as before it."""

    def of(pool: Callable[[Tensor], Tensor]) -> Callable[[], object]:
        return lambda: pool(features.detach().requires_grad_()).sum().backward()  # type: ignore[no-untyped-call]

    def mean(image: Tensor) -> Tensor:
        return image.permute(0, 2, 3, 1).flatten(1, 2).mean(1)

    return {
        "sum over tokens (kept)": of(TokenPool()),
        "mean over tokens": of(mean),
        "adaptive_avg_pool2d": of(lambda image: functional.adaptive_avg_pool2d(image, 1)),
        "avg_pool2d": of(lambda image: functional.avg_pool2d(image, image.shape[-1])),
    }


def products(features: Tensor, outputs: int) -> Ways:
    """Return ways to run a 1x1 convolution, forward and backward for its weights."""
    inputs = features.shape[1]
    weight = torch.randn(outputs, inputs).to(features.dtype).requires_grad_()
    standard = features.contiguous()

    def backward(product: Tensor) -> None:
        product.backward(torch.ones_like(product))  # type: ignore[no-untyped-call]

    def linear() -> None:
        backward(functional.linear(features.permute(0, 2, 3, 1).flatten(0, 2), weight))

    def convolve(image: Tensor) -> Callable[[], None]:
        return lambda: backward(functional.conv2d(image, weight[:, :, None, None]))

    return {
        "matrix product of tokens (kept)": linear,
        "conv2d, channels last": convolve(features),
        "conv2d, channels first": convolve(standard),
    }


def folds_together(features: Tensor, outputs: int) -> Ways:
    """Return five folds' products one after another and as one batched product, forward."""
    rows = features.permute(0, 2, 3, 1).flatten(0, 2)
    all_rows = rows.expand(FOLDS, *rows.shape).contiguous()
    weights = torch.randn(FOLDS, outputs, rows.shape[1]).to(rows.dtype)
    return {
        "five folds in turn (kept)": lambda: [functional.linear(rows, one) for one in weights],
        "five folds in one bmm": lambda: torch.bmm(all_rows, weights.transpose(1, 2)),
    }


def optimisers(head: Head) -> Ways:
    """Return ways to take one AdamW step on the head's parameters."""

    def of(*, fused: bool = False, foreach: bool | None = None) -> Callable[[], object]:
        parameters = [nn.Parameter(p.detach().clone()) for p in head.parameters_that_train()]
        for parameter in parameters:
            parameter.grad = torch.randn_like(parameter)
        return torch.optim.AdamW(parameters, fused=fused, foreach=foreach).step

    return {
        "AdamW, fused (kept)": of(fused=True),
        "AdamW, foreach": of(foreach=True),
        "AdamW, a loop": of(foreach=False),
    }


def steps(problem: Problem, training: FoldTraining, batch: Sequence[Outputs]) -> Ways:
    """Return whole training steps: as they are, and with one thing undone each."""
    rows = training.fold.train[:BATCH]
    plain = copy.deepcopy(training)
    plain.head.tail = _unfolded_tail(problem)
    plain.parameters = [p for p in plain.head.parameters() if p.requires_grad]
    plain.optimiser = torch.optim.AdamW(plain.parameters, lr=1e-3, fused=True)

    def step(with_: FoldTraining, maps: Sequence[Outputs]) -> None:
        losses = with_._losses(with_.head(maps), rows, CONFIGURATION.lambda_)
        with_.optimiser.zero_grad(set_to_none=True)
        losses["total"].backward()  # type: ignore[no-untyped-call]
        with_.optimiser.step()

    def into_the_trunk() -> None:
        step(training, [tuple(one.detach().requires_grad_() for one in maps) for maps in batch])

    def unfolded() -> None:
        with torch.autocast("cpu", problem.dtype):
            step(plain, batch)

    def read() -> None:
        problem.frozen[0].features.read(0.0, 0, rows)

    return {
        "a training step (kept)": lambda: step(training, batch),
        "with a gradient into the trunk": into_the_trunk,
        "batch norm not folded, autocast": unfolded,
        "reading its batch from the bank": read,
    }


def _unfolded_tail(problem: Problem) -> nn.Module:
    """Return the head's convolutions and batch norms as torch.fx cuts them."""
    network = copy.deepcopy(problem.network)
    chosen = [name for name, p in network.named_parameters() if p.requires_grad]
    encoder = [n.removeprefix("encoder.") for n in chosen if n.startswith("encoder.")]
    tail: nn.Module = cut_encoder(network.encoder, encoder).tail
    return tail.to(memory_format=torch.channels_last).eval()


def time_ways(ways: Ways, seconds: float) -> dict[str, dict[str, Any]]:
    """Return milliseconds of each way; they take turns for about so many seconds in all."""
    found: dict[str, list[float]] = {name: [] for name in ways}
    for work in ways.values():
        work()
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or not all(found.values()):
        for name, work in ways.items():
            began = time.perf_counter()
            work()
            found[name].append(1e3 * (time.perf_counter() - began))
    return {name: summarise(values) | {"values": len(values)} for name, values in found.items()}


def measure(root: Path, seconds: float) -> dict[str, dict[str, dict[str, Any]]]:
    """Return milliseconds by topic and way."""
    torch.set_num_threads(1)
    problem = open_problem(str(root), "cpu")
    for part in problem.missing_parts():
        if not part.strength:
            fill_part(str(root), "cpu", part)
    training = problem.cross_validation(CONFIGURATION).trainings[0]
    batch = OneBatch(problem.frozen[0].features.read(0.0, 0, training.fold.train[:BATCH])).read(
        0.0, 0, training.fold.train[:BATCH]
    )
    last = [m for m in training.head.modules() if isinstance(m, nn.Conv2d)][-1]
    features = batch[0][0]
    before = torch.randn(len(features), last.in_channels, *features.shape[2:])
    after = torch.randn(len(features), last.out_channels, *features.shape[2:])
    options: Any = {"dtype": features.dtype, "memory_format": torch.channels_last}
    before, after = before.to(**options), after.to(**options)
    topics: dict[str, Ways] = {
        "step": steps(problem, training, batch),
        "1x1 convolution": products(before, last.out_channels),
        "pooling": pooling(after),
        "folds": folds_together(before, last.out_channels),
        "optimiser": optimisers(training.head),
    }
    return {topic: time_ways(ways, seconds) for topic, ways in topics.items()}


def main(
    backbone: Annotated[str, typer.Option(help="efficientnet_lite0 or resnet50.")] = (
        "efficientnet_lite0"
    ),
    quick: Quick = False,
    out: Out = None,
) -> None:
    """Time the ways that were tried beside those that were kept."""
    terminal, described = console(), machine()
    patients, size, seconds = (45, 64, 0.05) if quick else (100, 224, 3.0)
    with tempfile.TemporaryDirectory() as scratch:
        run = prepare(Path(scratch), backbone, patients=patients, trials=1, epochs=1, size=size)
        found = measure(run.root, seconds)
        layouts = {
            f"{slots} at a time, {SLOTS // slots} threads each": measure_slots(
                run.root, seconds, slots=slots, threads=SLOTS // slots
            )["head_trained"]
            for slots in (SLOTS, 1)
        }
    rows = table(f"{backbone}, batches of {BATCH}, one thread: ms", "", "median (range)")
    for ways in found.values():
        for name, one in ways.items():
            rows.add_row(name, spread([one["lowest"], one["median"], one["highest"]], 2))
        rows.add_section()
    terminal.print(rows)
    for name, samples in layouts.items():
        terminal.print(f"trials, {name}: {samples:.0f} samples/s in all")
    content = {"backbone": backbone, "milliseconds": found, "samples_a_second": layouts}
    path = write_results(f"tried_{backbone}", content, described, quick=quick, out=out)
    terminal.print(f"Wrote {path}", soft_wrap=True)


if __name__ == "__main__":
    typer.run(main)
