"""From the curves of many searches to medians, differences and a winner."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from rich.console import Console
from scipy import stats

from benchmarks.measuring import table
from search.searcher import SAMPLER
from spaces.run_files import RunFiles
from spaces.sections import SearchSection
from spaces.study import read_study
from spaces.trial_log import WINDOW, TrialRecord, read_trials

DEFAULT = f"{SearchSection().sampler}+{SearchSection().scheduler}"
RESAMPLES = 10_000
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Curve:
    """What one search had found after how many epochs, and what it selects.

    The curve is about the sampler's own proposals: the paper-like configurations that every search
    asks first are often near the best, and would hide what the samplers do. It counts stopped
    trials too. What is selected is the product's: of all complete trials, the first ones included.

    Attributes:
        epochs: epochs trained by all trials when the best score of a proposal rose.
        best: what it rose to.
        total: epochs trained in the whole search.
        stopped: trials that ASHA stopped.
        selected: the score of the selected trial.
        chosen: its configuration.
        fresh: its AUC on fresh phantoms.
    """

    epochs: tuple[int, ...]
    best: tuple[float, ...]
    total: int
    stopped: int
    selected: float
    chosen: Mapping[str, float]
    fresh: float

    @classmethod
    def of(cls, run: RunFiles, selected: TrialRecord, fresh: float) -> Curve:
        """Return the curve that a run's log tells."""
        trials = {trial.number: trial for trial in read_trials(run.trials)}
        window = min(WINDOW, read_study(run.study).training.epochs)
        epochs: list[int] = []
        best: list[float] = []
        total = 0
        for line in run.trials.read_text(encoding="utf-8").splitlines()[1:]:
            event = json.loads(line)
            if event["event"] != "epoch":
                continue
            total += 1
            if trials[event["number"]].source != SAMPLER or event["epoch"] < window:
                continue
            if not best or event["score"] > best[-1]:
                epochs.append(total)
                best.append(event["score"])
        return cls(
            epochs=tuple(epochs),
            best=tuple(best),
            total=total,
            stopped=sum(trial.state == "stopped" for trial in trials.values()),
            selected=float(selected.score or 0.0),
            chosen=selected.configuration.as_dict(),
            fresh=fresh,
        )

    def at(self, epochs: int) -> float:
        """Return the best proposal's score after so many epochs; nan before there is one."""
        reached = [best for end, best in zip(self.epochs, self.best, strict=True) if end <= epochs]
        return reached[-1] if reached else float("nan")


Curves = Mapping[str, Sequence[Curve]]


def summarise_ways(curves: Curves, full: int) -> dict[str, Any]:
    """Return everything that is reported.

    Args:
        curves: for each way to search, one curve a seed, in the order of the seeds.
        full: epochs of a search that stops nothing.
    """
    seeds = range(len(curves[DEFAULT]))
    # The search that ends first decides, in each seed, after how many epochs all are compared.
    equal = [min(curves[way][seed].total for way in curves) for seed in seeds]
    at_equal = {way: [c.at(e) for c, e in zip(curves[way], equal, strict=True)] for way in curves}
    selected = {way: [curve.selected for curve in curves[way]] for way in curves}
    fresh = {way: [curve.fresh for curve in curves[way]] for way in curves}
    # The default wins a tie: it comes first, and max takes the first of equals.
    ranked = sorted(curves, key=lambda way: way != DEFAULT)
    winner = max(ranked, key=lambda way: float(np.mean(at_equal[way])))
    return {
        "default": DEFAULT,
        "winner": winner,
        "equal_epochs": equal,
        "ways": {
            way: {
                "after": {
                    str(epochs): median_of([curve.at(epochs) for curve in curves[way]])
                    for epochs in (full // 4, full // 2, full)
                },
                "at_equal_epochs": median_of(at_equal[way]),
                "selected": median_of(selected[way]),
                "fresh": median_of(fresh[way]),
            }
            for way in curves
        },
        "default_minus": {
            way: {
                "at_equal_epochs": difference_of(at_equal[DEFAULT], at_equal[way]),
                "selected": difference_of(selected[DEFAULT], selected[way]),
                "fresh": difference_of(fresh[DEFAULT], fresh[way]),
            }
            for way in curves
            if way != DEFAULT
        },
        "asha": {
            way.removesuffix("+asha"): asha_row(curves[way.replace("asha", "none")], curves[way])
            for way in curves
            if way.endswith("+asha")
        },
    }


def asha_row(without: Sequence[Curve], stopping: Sequence[Curve]) -> dict[str, Any]:
    """Return what ASHA saves and what it costs, at the end of searches of equally many trials."""
    pairs = list(zip(without, stopping, strict=True))
    return {
        "epochs_saved": median_of([1 - asha.total / none.total for none, asha in pairs]),
        "score": difference_of([a.selected for a in stopping], [n.selected for n in without]),
        "fresh": difference_of([a.fresh for a in stopping], [n.fresh for n in without]),
        "same_chosen": sum(none.chosen == asha.chosen for none, asha in pairs),
        "seeds": len(pairs),
    }


def median_of(values: Sequence[float]) -> dict[str, float] | None:
    """Return the median over seeds with its bootstrap interval; None if one seed has no value."""
    found = np.asarray(values, dtype=np.float64)
    if not np.isfinite(found).all():
        return None
    generator = np.random.default_rng(0)
    drawn = np.median(generator.choice(found, (RESAMPLES, len(found))), axis=1)
    low, high = np.quantile(drawn, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return {"median": float(np.median(found)), "low": float(low), "high": float(high)}


def difference_of(one: Sequence[float], other: Sequence[float]) -> dict[str, Any]:
    """Return the mean of ``one - other``, seed by seed, with its t interval.

    Equal in every seed, the difference is 0 with an interval of [0, 0], which includes zero.
    """
    differences = np.asarray(one) - np.asarray(other)
    mean = float(differences.mean())
    error = float(stats.sem(differences)) if len(differences) > 1 else 0.0
    width = float(stats.t.ppf((1 + CONFIDENCE) / 2, max(1, len(differences) - 1))) * error
    low, high = mean - width, mean + width
    return {"mean": mean, "low": low, "high": high, "excludes_zero": low > 0 or high < 0}


def sheets(found: Mapping[str, Any]) -> list[tuple[str, list[str], list[list[str]]]]:
    """Return three tables: title, headings and rows of each."""
    some = next(iter(found["ways"].values()))
    curves = [
        [way, *map(_median, [*one["after"].values(), one["at_equal_epochs"]])]
        for way, one in found["ways"].items()
    ]
    against = [
        [way, *map(_difference, one.values())] for way, one in found["default_minus"].items()
    ]
    stopping = [
        [
            sampler,
            f"{one['epochs_saved']['median']:.0%}",
            _difference(one["score"]),
            _difference(one["fresh"]),
            f"{one['same_chosen']} of {one['seeds']}",
        ]
        for sampler, one in found["asha"].items()
    ]
    epochs = [f"{epochs} epochs" for epochs in some["after"]]
    judged = ["selected", "fresh phantoms"]
    title = "CV AUC of the best proposal, median over seeds (95 %)"
    return [
        (title, ["", *epochs, "equal epochs"], curves),
        (f"{found['default']} minus", ["", "at equal epochs", *judged], against),
        ("With ASHA", ["", "epochs saved", *judged, "same choice"], stopping),
    ]


def show(found: Mapping[str, Any], terminal: Console) -> None:
    """Print the tables and the verdict."""
    for title, headings, lines in sheets(found):
        rows = table(title, *headings)
        for line in lines:
            rows.add_row(*line)
        terminal.print(rows)
    terminal.print(verdict(found))


def verdict(found: Mapping[str, Any]) -> str:
    """Return which way has the highest mean at equal epochs, and how sure that is."""
    winner, default = found["winner"], found["default"]
    if winner == default:
        unsure = [
            way
            for way, one in found["default_minus"].items()
            if not one["at_equal_epochs"]["excludes_zero"]
        ]
        rest = f"its lead over {', '.join(unsure)} may be chance." if unsure else ""
        return f"At equal epochs the default, {winner}, is best on average; {rest or 'surely.'}"
    one = found["default_minus"][winner]["at_equal_epochs"]
    sure = "excludes" if one["excludes_zero"] else "includes"
    return (
        f"At equal epochs {winner} is best on average; the default {default} is "
        f"{-one['mean']:.4f} behind, and the interval {sure} zero."
    )


def _median(one: Mapping[str, float] | None) -> str:
    return f"{_short(one['median'])} ({_short(one['low'])}-{_short(one['high'])})" if one else ""


def _difference(one: Mapping[str, Any]) -> str:
    mean, low, high = (_short(one[name], "+") for name in ("mean", "low", "high"))
    return f"{mean} ({low} {high})"


def _short(value: float, sign: str = "") -> str:
    """Return three digits without the zero before the point: 80 columns are few."""
    return f"{value:{sign}.3f}".replace("0.", ".", 1)
