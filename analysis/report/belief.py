"""What a reader may believe of a result and what not, each sentence from the numbers it names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy.stats import fisher_exact

from analysis.judge.answer import limits, number, percent, why_exploratory
from analysis.judge.calls import call_rows, fraction_of, one_sided
from analysis.judge.judgement import OutOfFold, Row, label_of
from analysis.statistics.bootstrap import CLOPPER_PEARSON, LOGIT_DELONG, PERCENTILE
from analysis.statistics.curves import Calibration
from analysis.statistics.folds import CORRECTED_T
from analysis.statistics.metrics import HALF, YOUDEN

POOLING_COSTS = 0.02
"""AUC by which pooled folds must fall behind the folds themselves to be worth a sentence."""


@dataclass
class Belief:
    """Sentences for the first page.

    Attributes:
        yes: what the numbers carry.
        no: what they do not, the gravest first.
    """

    yes: list[str] = field(default_factory=list)
    no: list[str] = field(default_factory=list)


def weigh(
    metrics: Mapping[str, Any],
    development: OutOfFold | None = None,
    differences: Sequence[Row] = (),
    calibration: Calibration | None = None,
    *,
    doubts: Sequence[str] = (),
    score: float | None = None,
    external: Sequence[Mapping[str, Any]] = (),
) -> Belief:
    """Return what to believe and what not.

    Args:
        metrics: the content of metrics.json.
        development: the out-of-fold predictions.
        differences: the model against the regressions, on the test set and out-of-fold.
        calibration: of the out-of-fold predictions.
        doubts: what else is known to be wanting, as sentences.
        score: of the chosen trial, the mean AUC inside the folds.
        external: the content of each external/NAME/metrics.json.
    """
    belief = Belief(no=list(doubts))
    exploratory = why_exploratory(metrics)
    if exploratory:
        belief.no.append(f"That this was the first look: {exploratory}.")
    if "skipped" in metrics["model"]:
        belief.no.append(f"That it tells the classes apart: {metrics['model']['skipped']}.")
    else:
        _weigh_auc(belief, metrics, development)
        _weigh_comparison(belief, metrics, differences)
        _weigh_calls(belief, metrics)
    if calibration is not None:
        _weigh_calibration(belief, calibration)
    if development is not None and score is not None:
        _weigh_pooling(belief, development, score)
    if not exploratory:
        belief.yes.append(
            "In this run the test patients decided nothing: model, thresholds and predictions were "
            "frozen before their outcomes were joined (opening "
            f"{metrics['openings']} of this test set)."
        )
    _weigh_external(belief, external)
    return belief


def is_usable(interval: Mapping[str, Any]) -> bool:
    """Whether an interval is defined and no point."""
    return interval["low"] is not None and not interval["degenerate"]


def _weigh_auc(belief: Belief, metrics: Mapping[str, Any], development: OutOfFold | None) -> None:
    auc = metrics["model"]["auc"]
    interval, said = auc["intervals"][LOGIT_DELONG], _where(metrics)
    value = f"AUC {number(auc['estimate'])} ({limits(interval)}; {said})"
    if not is_usable(interval):
        belief.no.append(
            "That the AUC is known: it has no usable interval, as separation is complete or the "
            f"patients are too few ({said})."
        )
        return
    if interval["low"] > 0.5:
        held = ", if its interval holds (see opposite)" if auc.get("unreliable") else ""
        belief.yes.append(f"The model ranks patients better than chance{held}: {value}.")
    elif interval["high"] < 0.5:
        belief.no.append(
            "That labels and maps belong together: the model ranks patients worse than chance, "
            f"{value}. Check the coding of the target."
        )
    else:
        belief.no.append(f"That it is better than chance: chance (0.50) is not excluded, {value}.")
    if auc.get("unreliable"):
        belief.no.append(f"That the intervals are as good as they look: {auc['unreliable']}.")
    if development and not interval["low"] <= development.auc <= interval["high"]:
        span = limits(development.interval)
        belief.no.append(
            f"That the AUC is settled: out-of-fold it was {number(development.auc)} ({span}; "
            f"development n = {development.n}), outside the interval of the test set."
        )


def _weigh_comparison(
    belief: Belief, metrics: Mapping[str, Any], differences: Sequence[Row]
) -> None:
    if not metrics["differences"]:
        return
    name = metrics["primary_comparison"]
    difference = metrics["differences"][name]
    interval = difference["intervals"][PERCENTILE]
    value = f"{number(difference['estimate'])} ({limits(interval)}; {_where(metrics)})"
    other = "logistic regression on the segment values"
    if not is_usable(interval):
        belief.no.append(f"Any ranking of the model and {other}: no usable interval.")
    elif interval["low"] > 0:
        belief.yes.append(f"On these patients it does better than {other}: by {value}.")
    elif interval["high"] < 0:
        belief.no.append(f"That the network is worth it: {other} does better, by {value}.")
    else:
        belief.no.append(
            f"That it beats {other}, or equals it: the difference is {value}, so these patients do "
            "not show that it does better, or worse."
        )
    folds = (row for row in differences if CORRECTED_T in row.intervals)
    before = next((row for row in folds if row.label == label_of(name)), None)
    is_decided = is_usable(interval) and interval["low"] * interval["high"] > 0
    if before is None or before.estimate is None or not is_decided:
        return
    if before.estimate * difference["estimate"] < 0:
        ahead = "the regression" if before.estimate < 0 else "the model"
        span = limits(before.intervals[CORRECTED_T])
        belief.no.append(
            f"That this order is settled: out-of-fold {ahead} was ahead, a difference of "
            f"{number(before.estimate)} ({span}; development n = {before.n})."
        )


def _weigh_calls(belief: Belief, metrics: Mapping[str, Any]) -> None:
    for key in (YOUDEN, HALF):
        calls = metrics["model"]["thresholds"][key]
        threshold, side = number(calls["threshold"]), one_sided(calls["counts"])
        if side:
            belief.no.append(
                f"Calls at {threshold}: every test patient was called {side} (n = {metrics['n']}), "
                "so that threshold separates nobody."
            )
        elif key == YOUDEN and not _tells_apart(calls["counts"], metrics["confidence"]):
            belief.no.append(
                f"Calls at {threshold}, the threshold fixed beforehand: {_found(metrics)}, which "
                "calling at random does not rule out (Fisher's exact test)."
            )
        elif key == YOUDEN and _is_informative(metrics):
            belief.yes.append(f"At {threshold}, a threshold fixed beforehand, {_found(metrics)}.")
    right, n = fraction_of("accuracy", metrics["model"]["thresholds"][HALF]["counts"])
    if (right or 0) / n < metrics["no_information_rate"] + 1e-12:
        belief.no.append(
            f"That it is right more often than a guess: at 0.50 it was right in {right} of {n}; "
            "calling everybody by the commoner class is right in "
            f"{round(n * metrics['no_information_rate'])} of {n}."
        )


def _tells_apart(counts: Mapping[str, int], confidence: float) -> bool:
    """Whether positives are called positive more often than negatives, beyond chance."""
    table = np.array([[counts["tp"], counts["fn"]], [counts["fp"], counts["tn"]]])
    return bool(fisher_exact(table, alternative="greater").pvalue < (1 - confidence) / 2)


def _is_informative(metrics: Mapping[str, Any]) -> bool:
    """Whether the model is not known to be as good as chance."""
    interval = metrics["model"]["auc"]["intervals"][LOGIT_DELONG]
    return not is_usable(interval) or interval["low"] > 0.5


def _found(metrics: Mapping[str, Any]) -> str:
    rows = {r.label: r for r in call_rows(metrics["model"], YOUDEN, metrics["confidence"])}

    def said(label: str) -> tuple[str, str]:
        row = rows[label]
        low, high = (row.intervals[CLOPPER_PEARSON][end] for end in ("low", "high"))
        share = row.estimate or 0.0
        return f"{row.count} of {row.n}", f"({percent(share)}, {100 * low:.0f} to {percent(high)})"

    (found, found_span), (cleared, cleared_span) = said("sensitivity"), said("specificity")
    return (
        f"it found {found} positive test patients {found_span} and cleared {cleared} negative "
        f"ones {cleared_span}"
    )


def _weigh_calibration(belief: Belief, calibration: Calibration) -> None:
    slope = calibration.slope
    low, high = slope.interval.low, slope.interval.high
    if not slope.interval.is_defined or low <= 1 <= high:
        return
    kind = "too extreme" if high < 1 else "too timid"
    belief.no.append(
        f"Its probabilities as they stand: they are {kind}, calibration slope "
        f"{number(slope.estimate)} ({number(low)} to {number(high)}; out-of-fold, development "
        f"n = {calibration.n}), ideal 1."
    )


def _weigh_pooling(belief: Belief, development: OutOfFold, score: float) -> None:
    """Folds that rank well, each on a scale of its own, rank worse when they are pooled."""
    if score - development.auc < POOLING_COSTS:
        return
    belief.no.append(
        "That a probability means the same in every fold model: inside the folds the AUC is "
        f"{number(score)}, over the pooled folds {number(development.auc)} "
        f"({limits(development.interval)}; development n = {development.n}). The threshold was set "
        "on pooled predictions, so it may fit the final model less well."
    )


def _weigh_external(belief: Belief, external: Sequence[Mapping[str, Any]]) -> None:
    if not external:
        belief.no.append(
            "That it works elsewhere: one cohort, split within itself; no external validation."
        )
        return
    for metrics in external:
        if "skipped" in metrics["model"]:
            continue
        name, auc = metrics["external"], metrics["model"]["auc"]
        interval = auc["intervals"][LOGIT_DELONG]
        value = f"AUC {number(auc['estimate'])} ({limits(interval)}; external n = {metrics['n']})"
        if auc.get("unreliable") or not is_usable(interval):
            why = auc.get("unreliable") or "no usable interval"
            belief.no.append(f"That its AUC in the cohort {name} is known: {why}, {value}.")
        elif interval["low"] > 0.5:
            belief.yes.append(f"In the external cohort {name}, too, it beats chance: {value}.")
        else:
            belief.no.append(
                f"That it works in the external cohort {name}: chance (0.50) is not excluded, "
                f"{value}."
            )
        if why_exploratory(metrics):
            belief.no.append(f"That {name} was unseen: {why_exploratory(metrics)}.")
    names = ", ".join(metrics["external"] for metrics in external)
    belief.no.append(f"That it works everywhere: beside its own cohort it was judged on {names}.")


def _where(metrics: Mapping[str, Any]) -> str:
    return f"test n = {metrics['n']}"
