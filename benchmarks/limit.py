"""How near a search comes to the limit: matrix peak, bare trunk and head, and the whole search."""

from __future__ import annotations

import multiprocessing
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.measuring import (
    Out,
    Quick,
    console,
    goal,
    machine,
    show_goals,
    spread,
    summarise,
    table,
    write_results,
)
from cohort.drawing.phantom import draw_phantom
from cohort.enrolment import enrol, record
from spaces.parameters import Configuration
from spaces.run_files import RunFiles
from spaces.study import Study
from spaces.trial_log import read_trials
from trainable.features import Outputs
from trainable.lockstep import FoldTraining
from trainable.problem import Problem, missing_parts, open_problem

SLOTS = 2
TEST = 93
SHARE_OF_PEAK, OVERHEAD = 0.60, 1.25
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
    """Return floating-point operations a second of the fastest product that the head is made of.

    The head's own layers decide the shapes (rows x inputs x outputs of each matrix product).
    """
    found = []
    pixels = batch[0][0].shape[0] * int(np.prod(batch[0][0].shape[2:]))
    for layer in head.modules():
        if isinstance(layer, torch.nn.Conv2d):
            inputs, outputs = layer.in_channels, layer.out_channels
            inputs *= int(np.prod(layer.kernel_size))
            rows = torch.randn(pixels, inputs).to(batch[0][0].dtype)
            weight = torch.randn(outputs, inputs).to(rows.dtype)
            operations = 2.0 * pixels * inputs * outputs
            multiply = partial(functional.linear, rows, weight)
            found.append(rate(multiply, operations, seconds))
    return max(found)


def measure_slot(root: str, seconds: float) -> dict[str, float]:
    """Return the rates of one slot: one thread, while the other slot does the same."""
    problem = open_problem(root, "cpu")
    size = problem.study.network.image_size
    images = np.random.default_rng(0).integers(0, 256, (32, 3, size, size), dtype=np.uint8)
    extractor = problem.extractor
    trunk = extractor.trunk
    assert trunk is not None
    prepared = extractor._prepare(images[:4], np.zeros((4, 3)), 0.0)
    batch = [extractor.extract(images, np.zeros((32, 3)), 0.0)]
    training = problem.cross_validation(CONFIGURATION).trainings[0]
    constant = OneBatch(batch)
    rows = training.fold.train[:32]
    operations = count_operations(training, constant, rows)

    def forward() -> None:
        with torch.inference_mode():
            trunk(prepared)

    def train() -> None:
        training.train(constant, 1)

    def validate() -> None:
        training.validate(constant)

    patients, validated = len(training.fold.train), len(training.fold.validation)
    return {
        "product_operations": product_rate(training.head, batch, seconds),
        "trunk_images": rate(forward, 4, seconds),
        "head_trained": rate(train, patients, seconds),
        "head_validated": rate(validate, validated, seconds),
        "operations_a_sample": operations / len(rows),
    }


def count_operations(training: FoldTraining, features: OneBatch, rows: np.ndarray) -> float:
    """Return the floating-point operations of training one batch, forward and backward."""
    with FlopCounterMode(display=False) as counter:
        losses = training._losses(training.head(features.read(0.0, 0, rows)), rows, 0.5)
        losses["total"].backward()  # type: ignore[no-untyped-call]
    return float(counter.get_total_flops())


def run_slot(root: str, seconds: float, together: Barrier, results: Any) -> None:
    """Measure in a process of its own, in step with the other slot."""
    torch.set_num_threads(1)
    open_problem(root, "cpu")
    together.wait()
    results.put(measure_slot(root, seconds))


def measure_slots(root: Path, seconds: float) -> dict[str, float]:
    """Return the rates of all slots together, each with one thread, at the same time."""
    context = multiprocessing.get_context("spawn")
    together, results = context.Barrier(SLOTS), context.Queue()
    processes = [
        context.Process(target=run_slot, args=(str(root), seconds, together, results))
        for _ in range(SLOTS)
    ]
    for process in processes:
        process.start()
    found = [results.get() for _ in processes]
    for process in processes:
        process.join()
    summed = {name: sum(slot[name] for slot in found) for name in found[0]}
    return summed | {"operations_a_sample": found[0]["operations_a_sample"]}


def prepare(
    folder: Path, backbone: str, *, patients: int, trials: int, epochs: int, size: int
) -> RunFiles:
    """Draw the cohort and begin the run of a study without pruning."""
    draw_phantom(folder / "cohort", patients=patients + TEST, inputs=["reserve"], ceiling=False)
    study = Study.model_validate(
        {
            "name": "limit",
            "cohort": {
                "path": "cohort/cohort.csv",
                "inputs": ["reserve"],
                "target": "impaired_any",
                "derive": {"impaired_any": {"below": 2.0}},
                "colour_scale": "fixed",
                "split": {"test": TEST},
            },
            "network": {
                "backbone": backbone,
                "image_size": size,
                "weights": "imagenet" if backbone == "efficientnet_lite0" else "random",
            },
            "training": {"epochs": epochs},
            "search": {"trials": trials, "scheduler": "none"},
            "resources": {"device": "cpu", "slots": SLOTS},
        }
    )
    run = RunFiles(folder / "runs" / study.name)
    cohort = enrol(study, folder, run)
    run.root.mkdir(parents=True)
    record(run, study, folder, cohort)
    # Random weights get their statistics once, before anything is timed.
    Problem(study, cohort, folder, "cpu").check_weights()
    return run


def time_search(run: RunFiles) -> float:
    """Return the wall seconds of `polartune search RUN`, from command to prompt."""
    began = time.perf_counter()
    command = [sys.executable, "-m", "polartune", "search", str(run.root)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)  # noqa: S603
    return time.perf_counter() - began


def restart(run: RunFiles, banks: Path) -> None:
    """Forget every trial and the bank."""
    run.trials.unlink(missing_ok=True)
    kept = [path for path in banks.iterdir() if not path.is_dir()]  # a random trunk's statistics
    for path in (run.out_of_fold, run.tune, run.tensorboard, *set(banks.iterdir()) - set(kept)):
        shutil.rmtree(path, ignore_errors=True)


def compare(run: RunFiles, rates: dict[str, float], images: int, wall: float) -> dict[str, float]:
    """Return what the rates predict for the work that the log shows, and the wall's ratio to it."""
    trials = read_trials(run.trials)
    problem = open_problem(str(run.root), "cpu")
    fold_epochs = sum(len(trial.epochs) for trial in trials)
    patients, folds = len(problem.folds), len(np.unique(problem.folds))
    trained, validated = fold_epochs * patients * (folds - 1), fold_epochs * patients
    bank = images / rates["trunk_images"]
    head = trained / rates["head_trained"] + validated / rates["head_validated"]
    return {
        "bank_images": images,
        "trained_samples": trained,
        "validated_samples": validated,
        "bank_seconds": bank,
        "head_seconds": head,
        "wall_seconds": wall,
        "ratio": wall / (bank + head),
    }


def main(  # noqa: PLR0917  typer's options
    backbone: Annotated[str, typer.Option(help="efficientnet_lite0 or resnet50.")] = (
        "efficientnet_lite0"
    ),
    patients: Annotated[int, typer.Option(help="In development.")] = 851,
    trials: Annotated[int, typer.Option(help="Of the timed search.")] = 16,
    epochs: Annotated[int, typer.Option(help="Of each trial; nothing is pruned.")] = 10,
    repeats: Annotated[int, typer.Option(min=1, help="Searches, each with a cold bank.")] = 1,
    quick: Quick = False,
    out: Out = None,
) -> None:
    """Measure matrix peak, bare trunk and bare head, and a whole search against their sum."""
    terminal, described = console(), machine()
    size, seconds = 224, 4.0
    if quick:
        patients, trials, epochs, repeats, size, seconds = 40, 2, 1, 1, 64, 0.05
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        run = prepare(folder, backbone, patients=patients, trials=trials, epochs=epochs, size=size)
        images = sum(part.images for part in missing_parts(str(run.root), "cpu"))
        found, slots = [], []
        for repeat in range(repeats):
            if repeat:
                restart(run, folder / "cohort" / "banks")
            slots.append(measure_slots(run.root, seconds))
            found.append(compare(run, slots[-1], images, time_search(run)))
    shares = [
        slot["head_trained"] * slot["operations_a_sample"] / slot["product_operations"]
        for slot in slots
    ]
    ratios = [one["ratio"] for one in found]
    rows = table(f"{backbone}, {SLOTS} slots of one thread, {repeats} repeats", "", "")
    for label, name, scale in (
        ("fastest product of the head, GFLOP/s", "product_operations", 1e-9),
        ("bare trunk, images/s", "trunk_images", 1.0),
        ("bare head trained, samples/s", "head_trained", 1.0),
        ("bare head validated, samples/s", "head_validated", 1.0),
    ):
        rows.add_row(label, spread([slot[name] * scale for slot in slots], 0))
    rows.add_row("share of that product inside the head", spread(shares, 2))
    for label, name in (
        ("bank at the bare rate, s", "bank_seconds"),
        ("heads at the bare rate, s", "head_seconds"),
        ("the whole search, s", "wall_seconds"),
    ):
        rows.add_row(label, spread([one[name] for one in found], 0))
    rows.add_row("search / (bank + heads)", spread(ratios, 2))
    terminal.print(rows)
    goals = [
        goal(
            f"at least {SHARE_OF_PEAK:.0%} of the matrix peak inside the head",
            reached=float(np.median(shares)) >= SHARE_OF_PEAK,
        ),
        goal(
            f"a search takes at most {OVERHEAD} times its parts",
            reached=float(np.median(ratios)) <= OVERHEAD,
        ),
    ]
    show_goals(goals, terminal, quick=quick)
    content = {
        "settings": {
            "backbone": backbone,
            "patients": patients,
            "trials": trials,
            "epochs": epochs,
            "image_size": size,
            "slots": SLOTS,
        },
        "rates": slots,
        "share_of_peak": summarise(shares),
        "searches": found,
        "ratio": summarise(ratios),
        "goals": goals,
    }
    path = write_results(f"limit_{backbone}", content, described, quick=quick, out=out)
    terminal.print(f"Wrote {path}", soft_wrap=True)


if __name__ == "__main__":
    typer.run(main)
