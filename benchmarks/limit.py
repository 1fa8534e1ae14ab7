"""How near a search comes to the limit: matrix peak, bare trunk and head, and the whole search."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from benchmarks.bare_rates import SLOTS, measure_slots
from benchmarks.measuring import (
    Out,
    Quick,
    console,
    goal,
    machine,
    show_goals,
    spread,
    step_seconds,
    summarise,
    table,
    write_results,
)
from cohort.drawing.phantom import draw_phantom
from cohort.enrolment import enrol, record
from spaces.run_files import RunFiles
from spaces.study import Study
from spaces.trial_log import read_trials
from trainable.problem import Problem, missing_parts, open_problem

TEST = 93
SHARE_OF_PEAK, OVERHEAD = 0.60, 1.25


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
    log = run.log.read_text(encoding="utf-8")
    epochs = sum(epoch.seconds for trial in trials for epoch in trial.epochs)
    head = trained / rates["head_trained"] + validated / rates["head_validated"]
    return {
        "bank_images": images,
        "trained_samples": trained,
        "validated_samples": validated,
        "bank_seconds": bank,
        "head_seconds": head,
        "bank_step_seconds": step_seconds("bank", log),
        "epoch_seconds": epochs / SLOTS,
        "search_step_seconds": step_seconds("search", log),
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
        terminal.print("Drawing the cohort and beginning a run ...")
        run = prepare(folder, backbone, patients=patients, trials=trials, epochs=epochs, size=size)
        images = sum(part.images for part in missing_parts(str(run.root), "cpu"))
        found, slots = [], []
        for repeat in range(repeats):
            if repeat:
                restart(run, folder / "cohort" / "banks")
            terminal.print(f"Repeat {repeat + 1}: bare rates, then the search (minutes) ...")
            slots.append(measure_slots(run.root, seconds))
            found.append(compare(run, slots[-1], images, time_search(run)))
    shares = [
        slot["head_trained"] * slot["operations_a_sample"] / slot["product_operations"]
        for slot in slots
    ]
    ratios = [one["ratio"] for one in found]
    rows = table(f"{backbone}, {SLOTS} slots of one thread, {repeats} repeats", "", "")
    for label, name, scale in (
        ("matrix peak: the fastest product, GFLOP/s", "product_operations", 1e-9),
        ("bare trunk, images/s", "trunk_images", 1.0),
        ("bare head trained, samples/s", "head_trained", 1.0),
        ("bare head validated, samples/s", "head_validated", 1.0),
    ):
        rows.add_row(label, spread([slot[name] * scale for slot in slots], 0))
    rows.add_row("share of that peak inside the head", spread(shares, 2))
    for label, name in (
        ("bank at the bare rate, s", "bank_seconds"),
        ("  in the search: processes, images, writing", "bank_step_seconds"),
        ("heads at the bare rate, s", "head_seconds"),
        ("  in the search: the epochs", "epoch_seconds"),
        ("  and with Ray, logs, the last trials' end", "search_step_seconds"),
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
