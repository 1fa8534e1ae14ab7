"""How often the intervals cover the truth, on a grid of patients, prevalence and AUC.

Scores are binormal with equal variances: their AUC and their accuracy are known exactly. Every
replicate is a new test set, judged by the functions that judge a real one. Writes
``analysis/judge/coverage.json``, which the report quotes; a run that was cut off goes on.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from scipy import stats
from threadpoolctl import threadpool_limits

from analysis.judge.coverage import GRID, KIND, NOMINAL
from analysis.statistics.bootstrap import (
    BCA,
    CLOPPER_PEARSON,
    LOGIT_DELONG,
    PERCENTILE,
    auc_of,
    bca_interval,
    draw_resamples,
    jackknife_auc,
    weighted_auc,
)
from analysis.statistics.metrics import HALF, compare_aucs, describe_classifier
from benchmarks.measuring import FOLDER, Out, Quick, console, goal, machine, show_goals, table
from spaces.run_files import read_json, write_json

PATIENTS = (93, 300, 1000)
PREVALENCES = (0.15, 0.5)
AUCS = (0.5, 0.6, 0.7, 0.8, 0.9, 0.94)
COMPARED_AUCS = (0.6, 0.8, 0.94)
CORRELATION = 0.5
MANY_RESAMPLES = 4000  # as many as a study draws
MARGIN = 0.015

Limits = dict[tuple[str, str], list[tuple[float, float]]]


@dataclass(frozen=True)
class Cell:
    """One point of the grid: test patients, prevalence, and the true AUC of every score."""

    n: int
    prevalence: float
    auc: float

    @property
    def shift(self) -> float:
        """How many SDs the positives' mean score lies above the negatives'.

        At an AUC of .5 it is no more than tells patients apart: log odds must not all be tied.
        """
        return max(float(np.sqrt(2) * stats.norm.ppf(self.auc)), 1e-9)

    @property
    def prior(self) -> float:
        """The log odds of being positive before any score is known."""
        return float(np.log(self.prevalence / (1 - self.prevalence)))

    @property
    def accuracy(self) -> float:
        """The accuracy of calling a patient positive from a probability of one half on."""
        cut = self.shift / 2 - self.prior / self.shift
        sensitivity, specificity = stats.norm.sf(cut - self.shift), stats.norm.cdf(cut)
        return float(self.prevalence * sensitivity + (1 - self.prevalence) * specificity)

    def draw(self, generator: np.random.Generator, models: int) -> tuple[np.ndarray, np.ndarray]:
        """Return who is positive, bool (n,), and each model's true log odds, (models, n).

        Class counts are random; a test set of one class is drawn again, for it would be refused.
        The scores of two models correlate within a class.
        """
        positive = np.zeros(self.n, dtype=bool)
        while positive.all() or not positive.any():
            positive = generator.random(self.n) < self.prevalence
        common = np.sqrt(CORRELATION) * generator.normal(size=self.n)
        own = np.sqrt(1 - CORRELATION) * generator.normal(size=(models, self.n))
        score = common + own + self.shift * positive
        return positive, self.prior + self.shift * score - self.shift**2 / 2


# Returns the intervals of a simulated test set, {statistic: {method: {"low", "high"}}}.
Judge = Callable[[Cell, np.random.Generator, int], dict[str, dict[str, Any]]]


def judge_model(cell: Cell, generator: np.random.Generator, resamples: int) -> dict[str, Any]:
    """Return the intervals of AUC and accuracy as metrics.json would hold them."""
    positive, (log_odds,) = cell.draw(generator, 1)
    drawn = draw_resamples(positive, resamples, generator=generator.spawn(1)[0])
    found = describe_classifier(positive, log_odds, {HALF: 0.5}, drawn, NOMINAL)
    accuracy = found["thresholds"][HALF]["accuracy"]
    return {"auc": found["auc"]["intervals"], "accuracy": accuracy["intervals"]}


def judge_difference(cell: Cell, generator: np.random.Generator, resamples: int) -> dict[str, Any]:
    """Return the intervals of the difference between two equally good models' AUCs."""
    positive, (first, second) = cell.draw(generator, 2)
    drawn = draw_resamples(positive, resamples, generator=generator.spawn(1)[0])

    def difference(statistic: Callable[..., Any], *given: np.ndarray) -> Any:
        return statistic(positive, first, *given) - statistic(positive, second, *given)

    shown = compare_aucs(positive, first, second, drawn, NOMINAL)["intervals"]
    # No result holds BCa's interval of a difference: what is measured here is why.
    distribution, left_out = difference(weighted_auc, drawn.counts), difference(jackknife_auc)
    bca = bca_interval(distribution, difference(auc_of), left_out, NOMINAL)
    return {"difference": shown | {BCA: bca.as_dict()}}


JUDGES: dict[str, Judge] = {"cells": judge_model, "comparisons": judge_difference}


def simulate(cell: Cell, judge: Judge, *, replicates: int, resamples: int, seed: int) -> Limits:
    """Return low and high of every replicate, nan if undefined, by (statistic, method).

    The same cell and seed draw the same test sets whatever the resamples.
    """
    key = (seed, cell.n, round(1000 * cell.prevalence), round(1000 * cell.auc))
    generator = np.random.default_rng([*key, int(judge is judge_difference)])
    limits: Limits = {}
    for _ in range(replicates):
        for statistic, intervals in judge(cell, generator, resamples).items():
            for method, interval in intervals.items():
                low, high = interval["low"], interval["high"]
                pair = (np.nan, np.nan) if low is None else (low, high)
                limits.setdefault((statistic, method), []).append(pair)
    return limits


def tally(limits: list[tuple[float, float]], truth: float) -> dict[str, float | int]:
    """Return how often intervals covered the truth; undefined ones never do.

    Returns:
        coverage and its Monte-Carlo standard error, the shares with the truth below and above the
        interval, the mean width, and how many were undefined or a single point.
    """
    low, high = np.array(limits, dtype=np.float64).T
    covered = float(np.mean((low <= truth) & (truth <= high)))
    usable = low < high
    return {
        "coverage": covered,
        "standard_error": float(np.sqrt(covered * (1 - covered) / len(limits))),
        "truth_below": float(np.mean(truth < low)),
        "truth_above": float(np.mean(truth > high)),
        "mean_width": float(np.mean((high - low)[usable])) if usable.any() else 0.0,
        "unusable": int(np.sum(~usable)),
    }


def measure(kind: str, cell: Cell, *, replicates: int, resamples: int, seed: int) -> dict[str, Any]:
    """Return a cell's entry in the file; ``kind`` is ``cells`` or ``comparisons``."""
    truths = {"auc": cell.auc, "accuracy": cell.accuracy, "difference": 0.0}
    limits = simulate(cell, JUDGES[kind], replicates=replicates, resamples=resamples, seed=seed)
    measured: dict[str, Any] = asdict(cell) | {"replicates": replicates}
    for (statistic, method), pairs in limits.items():
        its = measured.setdefault(f"{statistic}_intervals", {"truth": truths[statistic]})
        its[method] = tally(pairs, truths[statistic])
        if kind == "comparisons":
            its[method]["type_1_error"] = its[method]["truth_below"] + its[method]["truth_above"]
    return measured


def check_resamples(replicates: int, few: int, many: int, seed: int) -> dict[str, Any]:
    """Return one cell's coverage by few and by many resamples of the same test sets."""
    cell = Cell(93, 0.15, 0.8)
    limits = [
        simulate(cell, judge_model, replicates=replicates, resamples=count, seed=seed + 1)
        for count in (few, many)
    ]
    checked: dict[str, Any] = asdict(cell) | {"replicates": replicates, "resamples": [few, many]}
    for method in (PERCENTILE, BCA):
        pairs = np.array([one["auc", method] for one in limits])  # (2, replicates, 2)
        covered = (pairs[..., 0] <= cell.auc) & (cell.auc <= pairs[..., 1])
        by_pair = covered[0].astype(np.float64) - covered[1]
        checked[method] = {
            "coverage": covered.mean(axis=1).tolist(),
            "difference": float(by_pair.mean()),
            "standard_error": float(by_pair.std() / np.sqrt(replicates)),
        }
    return checked


def goals_of(content: dict[str, Any]) -> list[dict[str, Any]]:
    """Return what the grid must show, with the verdicts."""
    needed = [c for c in content["cells"] if c["n"] == 1000 and c["auc"] <= 0.8]
    off = [abs(c["auc_intervals"][LOGIT_DELONG]["coverage"] - NOMINAL) for c in needed]
    check = content["resamples_check"]
    agree = all(
        abs(check[m]["difference"]) <= 3 * max(check[m]["standard_error"], 1 / check["replicates"])
        for m in (PERCENTILE, BCA)
    )
    few, many = check["resamples"]
    return [
        goal(
            "logit-DeLong covers 95 +- 1.5 % at 1000 patients and AUCs up to .8",
            reached=bool(off) and max(off) <= MARGIN,
        ),
        goal(f"{few} and {many} resamples agree within three standard errors", reached=agree),
    ]


def show(content: dict[str, Any], terminal: Console) -> None:
    """Print the grid: coverage in per cent."""
    headings = ("percentile", "BCa", "logit-DeLong", "exact accuracy")
    rows = table("Coverage of 95 % intervals, %", "patients, positive, AUC", *headings)
    for cell in content["cells"]:
        auc, accuracy = cell["auc_intervals"], cell["accuracy_intervals"]
        its = [auc[m] for m in (PERCENTILE, BCA, LOGIT_DELONG)] + [accuracy[CLOPPER_PEARSON]]
        rows.add_row(_name(cell), *(f"{100 * one['coverage']:.1f}" for one in its))
    terminal.print(rows)
    rows = table(
        "False differences of two equal models, % (nominal 5)",
        "patients, positive, AUC",
        *headings[:2],
    )
    for cell in content["comparisons"]:
        its = [cell["difference_intervals"][m] for m in (PERCENTILE, BCA)]
        rows.add_row(_name(cell), *(f"{100 * one['type_1_error']:.1f}" for one in its))
    terminal.print(rows)


def _name(cell: dict[str, Any]) -> str:
    return f"{cell['n']}, {100 * cell['prevalence']:.0f} %, {cell['auc']:.2f}"


def main(
    *,
    replicates: Annotated[int, typer.Option(min=2, help="Simulated test sets a cell.")] = 2000,
    resamples: Annotated[int, typer.Option(min=2, help="Bootstrap resamples of each.")] = 1000,
    seed: Annotated[int, typer.Option(min=0, help="Of everything that is drawn.")] = 2022,
    fresh: Annotated[bool, typer.Option("--fresh", help="Forget an unfinished run.")] = False,
    quick: Quick = False,
    out: Out = None,
) -> None:
    """Measure on a grid how often the reported intervals cover the truth.

    Takes about a quarter of an hour on one core; a run that was cut off goes on with its next
    cell. The default result file is analysis/judge/coverage.json.
    """
    terminal = console()
    if quick:
        replicates, resamples, out = 20, 50, out or FOLDER / "coverage.quick.json"
    path = out or GRID
    # Never in a package: its folder is what a cluster is sent.
    partial = (out.parent if out else FOLDER) / f"{path.stem}.partial.json"
    content = _begin(partial, replicates, resamples, seed, fresh=fresh)
    found = {kind: {_name(cell) for cell in content[kind]} for kind in JUDGES}
    patients = PATIENTS[:1] if quick else PATIENTS
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with threadpool_limits(1), Progress(*columns, TimeElapsedColumn(), console=terminal) as bar:
        cells = [
            (kind, Cell(n, prevalence, auc))
            for kind, aucs in (("cells", AUCS), ("comparisons", COMPARED_AUCS))
            for n in patients
            for prevalence in PREVALENCES
            for auc in aucs
        ]
        task = bar.add_task("", total=len(cells) + 1)
        for kind, cell in cells:
            name = _name(asdict(cell))
            bar.update(task, description=name)
            if name not in found[kind]:
                content[kind].append(
                    measure(kind, cell, replicates=replicates, resamples=resamples, seed=seed)
                )
                write_json(partial, KIND, content)
            bar.advance(task)
        many = 4 * resamples if quick else MANY_RESAMPLES
        content["resamples_check"] = check_resamples(replicates, resamples, many, seed)
        bar.advance(task)
    content["goals"] = goals_of(content)
    show(content, terminal)
    show_goals(content["goals"], terminal, quick=quick)
    write_json(path, KIND, content)
    partial.unlink(missing_ok=True)
    terminal.print(f"Wrote {path}", soft_wrap=True)


def _begin(
    partial: Path, replicates: int, resamples: int, seed: int, *, fresh: bool
) -> dict[str, Any]:
    """Return the unfinished content of a run with these very settings, or an empty one."""
    settings = {
        "nominal": NOMINAL,
        "replicates": replicates,
        "resamples": resamples,
        "seed": seed,
        "scores": "binormal, equal variances; class counts random, both classes present",
        "correlation_within_class": CORRELATION,
    }
    if partial.exists() and not fresh:
        content = read_json(partial, KIND)
        if content["settings"] == settings:
            return content
    return {"settings": settings, "machine": machine(), "cells": [], "comparisons": []}


if __name__ == "__main__":
    typer.run(main)
