"""What grows with patients, trials and epochs outside the networks: the slopes of docs/scale.md.

Each is measured at several sizes, so that a line that bends is seen. Give the folder that runs
would lie in, on a cluster the shared one: an fsync there costs what it costs there.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import optuna
import pandas as pd
import typer
from rich.console import Console

from benchmarks.empty_trials import FOLDS, value_of
from benchmarks.measuring import (
    Out,
    Quick,
    console,
    machine,
    summarise,
    table,
    unshared_bytes,
    write_results,
)
from benchmarks.phantom_runs import phantom_table
from cohort.reading.images import inspect_images
from cohort.table import read_cohort
from search.searcher import distributions, sampler_of
from spaces.csv_files import write_csv
from spaces.parameters import Space, first_configurations
from spaces.run_files import write_out_of_fold
from spaces.sections import SearchSection
from spaces.study import Study
from spaces.trial_log import LOSSES, Epoch, TrialLog, read_trials
from trainable.problem import Problem

INPUT = "rest"
EPOCHS = 10


@dataclass(frozen=True)
class Sizes:
    """At which sizes is measured; the last of each is the one the slope is taken from."""

    drawn: int = 944
    rows: tuple[int, ...] = (10_000, 100_000)
    trials: tuple[int, ...] = (100, 1_000, 5_000)
    patients: tuple[int, ...] = (10_000, 100_000)
    lines: int = 500
    repeats: int = 5
    backbones: tuple[str, ...] = ("efficientnet_lite0", "resnet50")


QUICK = Sizes(60, (200, 400), (20, 40), (200, 400), 20, 2, ("efficientnet_lite0",))


def seconds_of(act: Callable[[], object], repeats: int) -> dict[str, Any]:
    """Return how long something takes, repeated."""
    found = []
    for _ in range(repeats):
        began = time.perf_counter()
        act()
        found.append(time.perf_counter() - began)
    return summarise(found)


def study_of(cohort: Path, backbone: str = "efficientnet_lite0", layers: int = 3) -> Study:
    """Return a study of one map of a phantom cohort."""
    content = {
        "name": "slopes",
        "cohort": {
            "path": str(cohort),
            "inputs": [INPUT],
            "target": "sex",
            "colour_scale": "fixed",
            "split": {"test": 0.1},
        },
        "network": {
            "backbone": backbone,
            "trainable_layers": layers,
            "weights": "imagenet" if backbone == "efficientnet_lite0" else "random",
        },
    }
    return Study.model_validate(content)


def measure_images(cohort: Path, repeats: int) -> dict[str, Any]:
    """Decode and hash every image of a cohort, as the start of a run does."""
    names = pd.read_csv(cohort)[INPUT]
    paths = [cohort.parent / name for name in names]
    return {"images": len(paths)} | seconds_of(lambda: inspect_images(paths), repeats)


def measure_table(cohort: Path, rows: int, repeats: int) -> dict[str, Any]:
    """Read a table of so many rows, as each slot does; its images are those of the small one."""
    small = pd.read_csv(cohort, dtype=str)
    large = small.iloc[np.arange(rows) % len(small)].assign(patient_id=np.arange(rows).astype(str))
    path = cohort.with_name(f"rows{rows}.csv")
    write_csv(path, large)
    study = study_of(path)
    before = unshared_bytes(os.getpid())
    held = read_cohort(study, path.parent, verify_images=False)
    grown = unshared_bytes(os.getpid()) - before
    assert len(held.development) + held.test_size == rows
    took = seconds_of(
        lambda: read_cohort(study, path.parent, verify_images=False), max(1, repeats // 2)
    )
    return {"rows": rows, "file_mb": path.stat().st_size / 1e6, "mb": grown / 1e6, **took}


def measure_proposal(trials: int, repeats: int) -> dict[str, Any]:
    """Propose a configuration after so many trials, as our searcher does, with TPE."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    space, section = Space(), SearchSection(trials=trials + repeats)
    searched = distributions(space)
    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.RandomSampler(seed=0))
    for _ in range(trials):
        trial = study.ask(searched)
        study.tell(trial, value_of(trial.params["lambda"]))

    def propose() -> None:
        study.sampler = sampler_of(section, 0, len(study.trials))
        study.tell(study.ask(searched), 0.5)

    return {"trials": trials, **seconds_of(propose, repeats)}


def epoch_of(number: int) -> Epoch:
    """Return an epoch as long in the log as a real one."""
    aucs = tuple(float(auc) for auc in np.random.default_rng(number).uniform(0.5, 1, FOLDS))
    loss = dict.fromkeys(LOSSES, aucs)
    return Epoch(number, aucs, aucs[0], loss, aucs[0], aucs[1])


def measure_log(folder: Path, lines: int) -> dict[str, Any]:
    """Append epochs to a log, each on disk before the next."""
    log = TrialLog(folder / "log" / "trials.jsonl")
    _, configuration = first_configurations(Space(), has_segments=True)[0]
    log.asked(0, configuration, "default")
    found = []
    for number in range(1, lines + 1):
        epoch = epoch_of(number)
        began = time.perf_counter()
        log.epoch(0, epoch, "node")
        found.append(time.perf_counter() - began)
    whole = summarise(found)
    return {"lines": lines, **whole, "values": found[:20], "bytes": log.path.stat().st_size / lines}


def measure_reading(folder: Path, trials: int, repeats: int) -> dict[str, Any]:
    """Read the log of so many trials of ten epochs, as a driver that goes on does."""
    log = TrialLog(folder / f"read{trials}" / "trials.jsonl")
    _, configuration = first_configurations(Space(), has_segments=True)[0]
    log.asked(0, configuration, "default")
    for number in range(1, EPOCHS + 1):
        log.epoch(0, epoch_of(number), "node")
    head, *one = log.path.read_text(encoding="utf-8").splitlines(keepends=True)
    more = [line.replace('"number": 0', f'"number": {n}') for n in range(trials) for line in one]
    log.path.write_text(head + "".join(more), encoding="utf-8")
    assert len(read_trials(log.path)) == trials
    took = seconds_of(lambda: read_trials(log.path), max(1, repeats // 2))
    return {"trials": trials, "mb": log.path.stat().st_size / 1e6, **took}


def measure_logits(folder: Path, patients: int, repeats: int) -> dict[str, Any]:
    """Write the logits of ten epochs of so many patients, as the last epoch of a trial does."""
    logits = np.random.default_rng(0).normal(size=(EPOCHS, patients, 2)).astype(np.float32)
    path = folder / "oof.parquet"
    took = seconds_of(lambda: write_out_of_fold(path, logits, np.arange(patients) % FOLDS), repeats)
    return {"patients": patients, "epochs": EPOCHS, "mb": path.stat().st_size / 1e6, **took}


def bank_bytes(cohort: Path, backbone: str) -> dict[str, int]:
    """Return the bytes of one image and view of one map in the bank, by trainable layers."""
    found = {}
    for layers in (3, 1):
        study = study_of(cohort, backbone, layers)
        patients = read_cohort(study, cohort.parent, verify_images=False)
        [frozen] = Problem(study, patients, cohort.parent, "cpu").frozen
        found[str(layers)] = frozen.bytes_an_image
    return found


def measure(sizes: Sizes, folder: Path) -> dict[str, Any]:
    """Return every slope's measurements."""
    cohort = phantom_table(folder, patients=sizes.drawn, maps=[INPUT], size=228)
    repeats = sizes.repeats
    return {
        "images": measure_images(cohort, repeats),
        "table": [measure_table(cohort, rows, repeats) for rows in sizes.rows],
        "proposal": [measure_proposal(trials, repeats) for trials in sizes.trials],
        "log": measure_log(folder, sizes.lines),
        "reading": [measure_reading(folder, trials, repeats) for trials in sizes.trials],
        "logits": [measure_logits(folder, patients, repeats) for patients in sizes.patients],
        "bank_bytes": {name: bank_bytes(cohort, name) for name in sizes.backbones},
    }


def rows_of(found: dict[str, Any]) -> list[tuple[str, str, str]]:
    """Return a row for each measurement: what, at which size, and the figure."""
    images, log = found["images"], found["log"]
    rows = [
        (
            "an image decoded and hashed",
            f"{images['images']:,}",
            f"{1e3 * images['median'] / images['images']:.2f} ms",
        )
    ]
    rows += [
        (
            "the cohort table read, by each slot",
            f"{one['rows']:,} patients",
            f"{one['median']:.2f} s, {one['mb']:.0f} MB",
        )
        for one in found["table"]
    ]
    rows += [
        (
            "a proposal by TPE",
            f"after {one['trials']:,} trials",
            f"{1e3 * one['median']:.1f} ms",
        )
        for one in found["proposal"]
    ]
    rows.append(
        (
            "a line of the log, on disk",
            f"{log['bytes']:.0f} bytes",
            f"{1e3 * log['median']:.2f} ms, at most {1e3 * log['highest']:.1f}",
        )
    )
    rows += [
        (
            "the log read again",
            f"{one['trials']:,} trials x {EPOCHS} epochs",
            f"{one['median']:.2f} s, {one['mb']:.0f} MB",
        )
        for one in found["reading"]
    ]
    rows += [
        (
            "logits written, 10th epoch of a trial",
            f"{one['patients']:,} patients",
            f"{one['median']:.3f} s, {one['mb']:.1f} MB",
        )
        for one in found["logits"]
    ]
    rows += [
        ("bank, an image and view", f"{name}, trainable_layers: {layers}", f"{size / 1e3:.1f} kB")
        for name, sizes in found["bank_bytes"].items()
        for layers, size in sizes.items()
    ]
    return rows


def show(found: dict[str, Any], terminal: Console) -> None:
    """Print the table."""
    rows = table("outside the networks", "", "size", "each time")
    for row in rows_of(found):
        rows.add_row(*row)
    terminal.print(rows)


def main(
    folder: Annotated[Path | None, typer.Option(help="Where to work, as runs would.")] = None,
    quick: Quick = False,
    out: Out = None,
) -> None:
    """Measure what grows with patients, trials and epochs outside the networks."""
    terminal, described = console(), machine()
    sizes = QUICK if quick else Sizes()
    home = Path(tempfile.mkdtemp(prefix="polartune-slopes-", dir=folder))
    try:
        found = measure(sizes, home)
    finally:
        shutil.rmtree(home, ignore_errors=True)
    show(found, terminal)
    content = {"settings": asdict(sizes), **found}
    path = write_results("slopes", content, described, quick=quick, out=out)
    terminal.print(f"Wrote {path}", soft_wrap=True)


if __name__ == "__main__":
    typer.run(main)
