"""How much of the winner's luck the bias correction takes away, in searches whose truth is known.

Every replicate is a whole search: trials with learning curves, stopped by our successive halving,
the winner chosen by our score over its best window, corrected by our bias correction. Patients'
scores are binormal, so that the AUC of any trial at any epoch is known. Writes
``analysis/judge/optimism.json``, which the report quotes; a run that was cut off goes on.
"""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from typing import Annotated, Any

import numpy as np
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from scipy import stats
from threadpoolctl import threadpool_limits

from analysis.judge.luck import GRID, KIND
from analysis.judge.optimism import corrected_score
from analysis.statistics.bootstrap import auc_of
from benchmarks.measuring import FOLDER, Out, Quick, console, goal, machine, show_goals, table
from search.scheduler import rungs, stop_reason
from spaces.run_files import read_json, write_json
from spaces.sections import SearchSection
from spaces.trial_log import WINDOW, best_epoch, scores

PATIENTS, PREVALENCES = (240, 851), (0.15, 0.5)
FOLDS, TRIALS, EPOCHS = 5, 16, 10
SEARCH = SearchSection(trials=TRIALS, generation=4, grace=3, eta=3)
# What trials share of a patient's score is what makes them wrong about the same patients.
TRUE_AUC = {"mean": 0.75, "sd": 0.05}  # of trials, when they have learnt
OF_PATIENT, OF_TRIAL, OF_EPOCH = 0.6, 0.3, 0.1
MOST_BIAS = 0.01


@dataclass(frozen=True)
class Cell:
    """Development patients and their share of positives."""

    n: int
    prevalence: float


def draw_search(cell: Cell, generator: np.random.Generator) -> dict[str, Any]:
    """Return a search over trials of known worth, stopped as ours are.

    Final AUCs of trials scatter around .75 (SD .05), those of a trial's folds around it; learning
    takes one to five epochs.

    Returns:
        ``positive``, ``folds``, ``scores`` (a list of (epochs, n), stopped trials included),
        ``best`` (the winner's score) and ``truth`` (its true mean AUC over the chosen window).
    """
    positive, folds = _draw_patients(cell, generator)
    of_patient = np.sqrt(OF_PATIENT) * generator.normal(size=cell.n)
    curves: list[list[float]] = []
    found, candidates = [], []
    for number in range(TRIALS):
        its, truths = _draw_trial(positive, folds, of_patient, generator)
        means = [_mean_fold_auc(positive, score, folds) for score in its]
        curve = scores(means, EPOCHS)
        done = _epochs_until_stopped(curve, curves[: number - number % SEARCH.generation])
        found.append(its[:done])
        curves.append(curve[:done])
        if done == EPOCHS:
            end = best_epoch(means, EPOCHS)
            candidates.append((curve[-1], float(np.mean(truths[end - WINDOW : end]))))
    best, truth = max(candidates)
    return {"positive": positive, "folds": folds, "scores": found, "best": best, "truth": truth}


def _draw_patients(cell: Cell, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return classes and folds; folds hold the same share of each class."""
    positive = np.arange(cell.n) < round(cell.n * cell.prevalence)
    folds = np.empty(cell.n, dtype=np.int64)
    for of_class in (positive, ~positive):
        folds[of_class] = generator.permutation(np.arange(of_class.sum()) % FOLDS)
    return positive, folds


def _draw_trial(
    positive: np.ndarray, folds: np.ndarray, of_patient: np.ndarray, generator: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Return a trial's out-of-fold scores, (EPOCHS, n), and its true mean fold AUCs, (EPOCHS,)."""
    final = np.sqrt(2) * stats.norm.ppf(
        np.clip(generator.normal(TRUE_AUC["mean"], TRUE_AUC["sd"]), 0.5, 0.95)
    )
    learnt = 1 - np.exp(-np.arange(1, EPOCHS + 1) / generator.uniform(1, 5))
    apart = final * learnt[:, None] + 0.1 * generator.normal(size=(1, FOLDS))
    noise = of_patient + np.sqrt(OF_TRIAL) * generator.normal(size=len(positive))
    noise = noise + np.sqrt(OF_EPOCH) * generator.normal(size=(EPOCHS, len(positive)))
    found = apart[:, folds] * positive + noise
    return found, stats.norm.cdf(apart / np.sqrt(2)).mean(axis=1)


def _epochs_until_stopped(curve: list[float], earlier: list[list[float]]) -> int:
    """Return how many epochs a trial gets beside those of earlier generations."""
    for rung in rungs(SEARCH, EPOCHS):
        others = [other[rung - 1] for other in earlier if len(other) >= rung]
        if stop_reason(curve[rung - 1], others, rung=rung, eta=SEARCH.eta):
            return rung
    return EPOCHS


def _mean_fold_auc(positive: np.ndarray, score: np.ndarray, folds: np.ndarray) -> float:
    return float(np.mean([auc_of(positive[folds == k], score[folds == k]) for k in range(FOLDS)]))


def replicate(cell: Cell, bootstraps: int, seed: tuple[int, ...]) -> tuple[float, float]:
    """Return by how much the winner's score, and its corrected value, exceed the truth."""
    generator = np.random.default_rng(seed)
    with threadpool_limits(1):
        its = draw_search(cell, generator)
        corrected = corrected_score(
            its["scores"],
            its["positive"],
            its["folds"],
            window=WINDOW,
            generator=generator,
            bootstraps=bootstraps,
        )
    return its["best"] - its["truth"], corrected - its["truth"]


def measure(
    cell: Cell, *, replicates: int, bootstraps: int, seed: int, processes: int = 1
) -> dict[str, Any]:
    """Return a cell's entry in the file: both biases, each with its Monte-Carlo error."""
    key = (seed, cell.n, round(1000 * cell.prevalence))
    seeds = [(*key, number) for number in range(replicates)]
    work = partial(replicate, cell, bootstraps)
    if processes > 1:
        with ProcessPoolExecutor(processes) as pool:
            pairs = np.array(list(pool.map(work, seeds, chunksize=4)))
    else:
        pairs = np.array([work(one) for one in seeds])
    biases, errors = pairs.mean(axis=0), pairs.std(axis=0, ddof=1) / np.sqrt(replicates)
    return asdict(cell) | {
        "replicates": replicates,
        "score": {"bias": float(biases[0]), "standard_error": float(errors[0])},
        "corrected": {"bias": float(biases[1]), "standard_error": float(errors[1])},
    }


def show(content: dict[str, Any], terminal: Console) -> None:
    """Print both biases of every cell."""
    rows = table(
        f"Bias of the winner's score, {TRIALS} trials x {EPOCHS} epochs, ASHA (standard error)",
        "development patients, positive",
        "score",
        "corrected",
    )
    for cell in content["cells"]:
        rows.add_row(
            f"{cell['n']}, {100 * cell['prevalence']:.0f} %",
            *(
                f"{cell[name]['bias']:+.4f} ({cell[name]['standard_error']:.4f})"
                for name in ("score", "corrected")
            ),
        )
    terminal.print(rows)


def main(
    *,
    replicates: Annotated[int, typer.Option(min=2, help="Simulated searches a cell.")] = 500,
    bootstraps: Annotated[int, typer.Option(min=2, help="Of each correction.")] = 200,
    seed: Annotated[int, typer.Option(min=0, help="Of everything that is drawn.")] = 2022,
    processes: Annotated[int, typer.Option(min=1, help="To compute in.")] = 2,
    quick: Quick = False,
    out: Out = None,
) -> None:
    """Measure how much of the winner's luck is left after the bias correction."""
    terminal = console()
    if quick:
        replicates, bootstraps, out = 4, 20, out or FOLDER / "optimism.quick.json"
    path = out or GRID
    unfinished = (out.parent if out else FOLDER) / f"{path.stem}.partial.json"
    settings = {
        "replicates": replicates,
        "bootstraps": bootstraps,
        "seed": seed,
        "trials": TRIALS,
        "epochs": EPOCHS,
        "folds": FOLDS,
        "search": SEARCH.model_dump(),
        "true_auc": TRUE_AUC,
        "scores": "binormal; trials share 0.6 of a patient's variance, epochs of a trial 0.9",
    }
    content: dict[str, Any] = {"settings": settings, "machine": machine(), "cells": []}
    if unfinished.exists() and read_json(unfinished, KIND)["settings"] == settings:
        content = read_json(unfinished, KIND)
    found = {(cell["n"], cell["prevalence"]) for cell in content["cells"]}
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, TimeElapsedColumn(), console=terminal) as bar:
        cells = [Cell(n, share) for n in PATIENTS[: 1 if quick else None] for share in PREVALENCES]
        for cell in bar.track(cells, description="cells"):
            if (cell.n, cell.prevalence) not in found:
                content["cells"].append(
                    measure(
                        cell,
                        replicates=replicates,
                        bootstraps=bootstraps,
                        seed=seed,
                        processes=processes,
                    )
                )
                write_json(unfinished, KIND, content)
    largest = max(abs(cell["corrected"]["bias"]) for cell in content["cells"])
    content["goals"] = [
        goal(f"at most {MOST_BIAS} remains ({largest:.4f})", reached=largest <= MOST_BIAS)
    ]
    show(content, terminal)
    show_goals(content["goals"], terminal, quick=quick)
    write_json(path, KIND, content)
    unfinished.unlink(missing_ok=True)
    terminal.print(f"Wrote {path}", soft_wrap=True)


if __name__ == "__main__":
    typer.run(main)
