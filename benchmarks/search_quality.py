"""How good a configuration each way to search finds, for the epochs that it trains.

Three samplers, each with and without ASHA, on small phantom cohorts: another one for each seed, the
same for all six ways. A configuration's curve does not depend on who proposed it, so within a seed
one that comes back is not trained again; it is counted as if it were.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from benchmarks.fresh_maps import FreshMaps, outputs_of
from benchmarks.in_process import open_filled, search_in_process
from benchmarks.measuring import Out, Quick, console, machine, write_results
from benchmarks.phantom_runs import begin_run, phantom_table
from benchmarks.quality_summary import Curve, show, summarise_ways
from cohort.drawing.phantom import draw_patients
from search.trial import CrossValidation, EpochReport
from spaces.parameters import Configuration
from spaces.study import Study
from trainable.lockstep import nothing
from trainable.loss import LOGITS
from trainable.metrics import auc
from trainable.problem import Problem

SAMPLERS = ("tpe", "gp", "random")
SCHEDULERS = ("none", "asha")
WAYS = [f"{sampler}+{scheduler}" for scheduler in SCHEDULERS for sampler in SAMPLERS]
TARGET, INPUT = "sex", "rest"


@dataclass(frozen=True)
class Task:
    """What is searched: small, so that sixty searches take minutes.

    Attributes:
        patients: of each seed's cohort; a fifth is kept out, as the test set would be.
        size: of the maps in pixels.
        layers: that train.
        epochs: of a complete trial.
        trials: of a search.
        fresh: further phantoms, on which the chosen configuration is judged.
    """

    patients: int = 250
    size: int = 112
    layers: int = 3
    epochs: int = 10
    trials: int = 24
    fresh: int = 1000


QUICK = Task(patients=60, size=32, layers=1, epochs=4, trials=6, fresh=40)


class Remembering:
    """A problem whose configurations are trained once: see ``search.trial.Problem``."""

    def __init__(self, problem: Problem) -> None:
        self.folds: np.ndarray = problem.folds
        self.trained = 0
        self._problem = problem
        self._reports: dict[Configuration, list[EpochReport]] = {}

    def cross_validation(self, configuration: Configuration) -> Remembered:
        """Return a cross-validation that trains only the epochs that nobody has trained."""
        return Remembered(self, configuration)

    def report(
        self, configuration: Configuration, epoch: int, folds: CrossValidation | None
    ) -> tuple[EpochReport, CrossValidation | None]:
        """Return the report of an epoch, and the folds if they had to be trained for it."""
        reports = self._reports.setdefault(configuration, [])
        while len(reports) < epoch:
            if folds is None:
                folds = self._problem.cross_validation(configuration)
                for _ in reports:
                    folds.advance(nothing)
            reports.append(folds.advance(nothing))
            self.trained += 1
        return reports[epoch - 1], folds


class Remembered:
    """See ``search.trial.CrossValidation``."""

    def __init__(self, problem: Remembering, configuration: Configuration) -> None:
        self._problem = problem
        self._configuration = configuration
        self._folds: CrossValidation | None = None
        self._epoch = 0

    def advance(self, beat: Callable[[], None]) -> EpochReport:  # noqa: ARG002
        """Return the next epoch's report."""
        self._epoch += 1
        report, self._folds = self._problem.report(self._configuration, self._epoch, self._folds)
        return report

    def save(self, path: Path) -> None:
        """Never called."""

    def restore(self, path: Path) -> None:
        """Never called."""

    def close(self) -> None:
        """Free the folds."""
        self._folds = None


def study_of(task: Task, seed: int, way: str, table: Path) -> Study:
    """Return the study of one way to search; all but sampler and scheduler as by default."""
    sampler, scheduler = way.split("+")
    content = {
        "name": way.replace("+", "-"),
        "seed": seed,
        "cohort": {
            "path": str(table),
            "inputs": [INPUT],
            "target": TARGET,
            "colour_scale": "fixed",
            "split": {"test": 0.2, "stratify": True, "seed": seed},
        },
        "network": {
            "backbone": "efficientnet_lite0",
            "image_size": task.size,
            "trainable_layers": task.layers,
        },
        "augmentation": {"views": 2},
        "training": {"epochs": task.epochs},
        "search": {"trials": task.trials, "sampler": sampler, "scheduler": scheduler},
        "resources": {"device": "cpu"},
    }
    return Study.model_validate(content)


def search_seed(task: Task, folder: Path, seed: int) -> dict[str, Any]:
    """Search the cohort of one seed in every way.

    Returns:
        ``curves`` of each way as plain values, and ``trained``: the epochs that were computed.
    """
    home = folder / f"seed{seed}"
    table = phantom_table(home, patients=task.patients, maps=[INPUT], size=task.size, seed=seed)
    runs = {way: begin_run(study_of(task, seed, way, table), home, home / way) for way in WAYS}
    problem = open_filled(runs[WAYS[0]])
    remembering = Remembering(problem)
    numbers = range(task.patients, task.patients + task.fresh)
    phantoms = draw_patients(numbers, seed=seed, size=task.size, inputs=[INPUT])
    fresh = FreshMaps([outputs_of(problem, phantoms.images[INPUT])])
    curves = {}
    for way, run in runs.items():
        best = search_in_process(run, remembering).best()
        assert best is not None, f"{way}: no trial is complete"
        logits = predict_fresh(problem, best.configuration, best.best_epoch or 1, fresh, task.fresh)
        judged = auc(phantoms.traits[TARGET], logits[:, 1] - logits[:, 0])
        curves[way] = asdict(Curve.of(run, best, judged))
    shutil.rmtree(home)
    return {"seed": seed, "curves": curves, "trained": remembering.trained}


def predict_fresh(
    problem: Problem, configuration: Configuration, epochs: int, fresh: FreshMaps, count: int
) -> np.ndarray:
    """Return logits (count, 2) of fresh phantoms by the model of the whole development set."""
    training = problem.development_training(configuration)
    for _ in range(epochs):
        training.advance()
    [model] = training.trainings
    model.features = fresh
    return model.predict(np.arange(count)).numpy()[:, LOGITS]


def search_all(task: Task, seeds: Sequence[int], processes: int) -> list[dict[str, Any]]:
    """Search every seed's cohort, one seed a process at a time."""
    os.environ["OMP_NUM_THREADS"] = "1"
    folder = Path(tempfile.mkdtemp(prefix="polartune-quality-"))
    try:
        with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
            return list(pool.map(partial(search_seed, task, folder), seeds))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def main(
    seeds: Annotated[int, typer.Option(min=2, help="How many cohorts and searches.")] = 12,
    processes: Annotated[int, typer.Option(min=1, help="Seeds at a time.")] = 2,
    quick: Quick = False,
    out: Out = None,
) -> None:
    """Compare TPE, GP and random search, each with and without ASHA, at equal epochs."""
    terminal, described = console(), machine()
    task, seeds = (QUICK, 2) if quick else (Task(), seeds)
    began = time.perf_counter()
    found = search_all(task, range(seeds), processes)
    seconds = time.perf_counter() - began
    curves = {way: [Curve(**one["curves"][way]) for one in found] for way in WAYS}
    summary = summarise_ways(curves, task.epochs * task.trials)
    show(summary, terminal)
    trained = sum(one["trained"] for one in found)
    counted = sum(curve.total for ways in curves.values() for curve in ways)
    terminal.print(f"{counted} epochs counted, {trained} computed, {seconds / 60:.1f} minutes")
    settings = {**asdict(task), "seeds": seeds, "input": INPUT, "target": TARGET}
    content = {
        "settings": settings,
        "seconds": seconds,
        "epochs": {"counted": counted, "computed": trained},
        **summary,
        "seeds": found,
    }
    path = write_results("search_quality", content, described, quick=quick, out=out)
    terminal.print(f"Wrote {path}", soft_wrap=True)


if __name__ == "__main__":
    typer.run(main)
