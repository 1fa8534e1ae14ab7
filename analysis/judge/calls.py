"""Whom a classifier calls positive: proportions with their denominators and exact intervals."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from analysis.judge.answer import number
from analysis.judge.judgement import OUT_OF_FOLD, TEST, OutOfFold, Row, auc_rows
from analysis.statistics.bootstrap import CLOPPER_PEARSON, PERCENTILE, clopper_pearson_interval
from analysis.statistics.metrics import HALF, PROPORTIONS, YOUDEN

METRIC_LABELS = {
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "sensitivity": "sensitivity",
    "specificity": "specificity",
    "ppv": "positive predictive value",
    "npv": "negative predictive value",
}


def call_rows(described: Mapping[str, Any], key: str, confidence: float) -> list[Row]:
    """Return every proportion at a threshold with its own denominator and exact interval.

    The mean of two proportions, balanced accuracy, keeps its percentile interval.
    """
    calls = described["thresholds"][key]
    rows = []
    for metric in PROPORTIONS:
        count, n = fraction_of(metric, calls["counts"])
        estimate = calls[metric]
        intervals = {PERCENTILE: estimate["intervals"][PERCENTILE]}
        if count is not None:
            exact: Mapping[str, Any] = {"low": None, "high": None, "degenerate": False}
            if n:
                exact = clopper_pearson_interval(count, n, confidence).as_dict()
            intervals = {CLOPPER_PEARSON: exact, **intervals}
        rows.append(
            Row(
                METRIC_LABELS[metric],
                "test",
                estimate["estimate"],
                intervals,
                n,
                TEST,
                count=count,
                unreliable=estimate.get("unreliable"),
            )
        )
    return rows


def fraction_of(metric: str, counts: Mapping[str, int]) -> tuple[int | None, int]:
    """Return numerator and denominator of a proportion; the mean of two has no numerator.

    >>> fraction_of("ppv", {"tp": 3, "fp": 1, "tn": 4, "fn": 2})
    (3, 4)
    """
    tp, fp, tn, fn = (counts[name] for name in ("tp", "fp", "tn", "fn"))
    return {
        "accuracy": (tp + tn, tp + fp + tn + fn),
        "balanced_accuracy": (None, tp + fp + tn + fn),
        "sensitivity": (tp, tp + fn),
        "specificity": (tn, tn + fp),
        "ppv": (tp, tp + fp),
        "npv": (tn, tn + fn),
    }[metric]


def name_threshold(key: str, threshold: float) -> str:
    """Return a threshold as printed: both may round to the same digits.

    >>> name_threshold("half", 0.5), name_threshold("youden", 0.497)
    ('0.50', '0.50 (Youden)')
    """
    return number(threshold) + (" (Youden)" if key == YOUDEN else "")


def one_sided(counts: Mapping[str, int]) -> str:
    """Return the class that everybody was called by; empty if calls differ."""
    if counts["tp"] + counts["fp"] == 0:
        return "negative"
    return "positive" if counts["tn"] + counts["fn"] == 0 else ""


def side_by_side(
    metrics: Mapping[str, Any] | None, development: OutOfFold | None, confidence: float
) -> list[tuple[str, Row | None, Row | None]]:
    """Return (what, out-of-fold, test) of the model's AUC and calls; only if there are both."""
    if metrics is None or development is None:
        return []
    on_test, *_, pooled = auc_rows(metrics, development)
    rows: list[tuple[str, Row | None, Row | None]] = [("AUC", pooled, on_test)]
    for key in (HALF, YOUDEN):
        tested = metrics["model"]["thresholds"][key]
        its = {row.label: row for row in call_rows(metrics["model"], key, confidence)}
        for metric in ("sensitivity", "specificity"):
            count, n = fraction_of(metric, development.counts[key])
            interval = clopper_pearson_interval(count or 0, n, confidence).as_dict()
            before = Row(
                metric,
                "out-of-fold",
                (count or 0) / n,
                {CLOPPER_PEARSON: interval},
                n,
                f"{OUT_OF_FOLD}, chosen trial",
                count=count,
            )
            said = f"{metric} at {name_threshold(key, tested['threshold'])}"
            rows.append((said, before, its[metric]))
    return rows


def describe_thresholds(metrics: Mapping[str, Any], development: OutOfFold) -> list[str]:
    """Return how each threshold of the model did out-of-fold and on the test set."""
    sentences = []
    for key in (HALF, YOUDEN):
        calls = metrics["model"]["thresholds"][key]
        before, after = development.counts[key], calls["counts"]
        first, second = (_counted(counts) for counts in (before, after))
        threshold = name_threshold(key, calls["threshold"])
        sentences.append(f"At {threshold}: out-of-fold, {first}; on the test set, {second}.")
    return sentences


def _counted(counts: Mapping[str, int]) -> str:
    positives, negatives = counts["tp"] + counts["fn"], counts["tn"] + counts["fp"]
    side = one_sided(counts)
    if side:
        n = positives + negatives
        return f"all {n} patients were called {side}, so the threshold separates nobody there"
    return (
        f"{counts['tp']} of {positives} positive patients were found and {counts['tn']} of "
        f"{negatives} negative ones cleared"
    )
