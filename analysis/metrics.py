"""What a classifier is worth on given patients: point estimates with intervals, as plain data."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from sklearn.metrics import roc_curve

from analysis.bootstrap import (
    Interval,
    Resamples,
    bca_interval,
    clopper_pearson_interval,
    jackknife_counts,
    logit_delong_interval,
    percentile_interval,
    weighted_auc,
)

# {"estimate", "n", "intervals": {method: {"low", "high", "degenerate"}}, "undefined_resamples"}
Estimate = dict[str, Any]

HALF = "half"
YOUDEN = "youden"
PROPORTIONS = ("accuracy", "balanced_accuracy", "sensitivity", "specificity", "ppv", "npv")


def log_odds_of(logits: np.ndarray) -> np.ndarray:
    """Return the log odds of the positive class, float64 (n,), from (n, 2) logits.

    Patients are ranked by them: beyond about 37 every probability is the same 1.
    """
    return np.asarray(logits[:, 1].astype(np.float64) - logits[:, 0].astype(np.float64))


def probability_of(log_odds: np.ndarray) -> np.ndarray:
    """Return the probability of the positive class, float64 (n,), from its log odds (n,).

    >>> probability_of(np.array([0.0, 38.0]))
    array([0.5, 1. ])
    """
    return np.asarray(0.5 * (1 + np.tanh(log_odds / 2)), dtype=np.float64)


def youden_threshold(positive: np.ndarray, probability: np.ndarray) -> float:
    """Return the probability at which sensitivity + specificity is largest.

    A patient is called positive from the threshold on. Of equally good thresholds the one nearest
    to .5 is taken (Youden 1950, 10.1002/1097-0142(1950)3:1<32::AID-CNCR2820030106>3.0.CO;2-3).
    """
    false_rate, true_rate, thresholds = roc_curve(positive, probability, drop_intermediate=False)
    gain = true_rate - false_rate
    best = np.flatnonzero(np.isfinite(thresholds) & (gain >= gain.max() - 1e-12))
    if not len(best):
        return 0.5
    return float(thresholds[best[np.argmin(np.abs(thresholds[best] - 0.5))]])


def describe_classifier(
    positive: np.ndarray,
    log_odds: np.ndarray,
    thresholds: Mapping[str, float],
    resamples: Resamples,
    confidence: float,
) -> dict[str, Any]:
    """Return AUC, Brier score and the metrics at each threshold, all with intervals.

    The AUC ranks by the log odds; everything else judges the probabilities.

    Args:
        positive: bool, (n,).
        log_odds: float, (n,), of being positive.
        thresholds: probabilities by name; a patient is called positive from the threshold on.
        resamples: of these n patients.
        confidence: for example .95.

    Returns:
        ``{"auc": Estimate, "brier": Estimate, "thresholds": {name: {"threshold", "counts",
        metric: Estimate}}}``.
    """
    probability = probability_of(log_odds)
    return {
        "auc": _describe_auc(positive, log_odds, resamples, confidence),
        "brier": _describe_brier(positive, probability, resamples, confidence),
        "thresholds": {
            name: _describe_calls(positive, probability >= threshold, resamples, confidence)
            | {"threshold": threshold}
            for name, threshold in thresholds.items()
        },
    }


def compare_aucs(
    positive: np.ndarray,
    first: np.ndarray,
    second: np.ndarray,
    resamples: Resamples,
    confidence: float,
) -> Estimate:
    """Return AUC(first) - AUC(second) with intervals; both are seen on the same resamples.

    Args:
        positive: bool, (n,).
        first: float, (n,), log odds.
        second: float, (n,), log odds.
        resamples: of these n patients.
        confidence: for example .95.
    """

    def difference(counts: np.ndarray) -> np.ndarray:
        of_first = weighted_auc(positive, first, counts)
        of_second = weighted_auc(positive, second, counts)
        return np.asarray(of_first - of_second, dtype=np.float64)

    return _bootstrap(difference, resamples, confidence)


def no_information_rate(positive: np.ndarray) -> float:
    """Return the accuracy of calling every patient by the commoner class."""
    share = float(np.mean(positive))
    return max(share, 1 - share)


def _describe_auc(
    positive: np.ndarray, score: np.ndarray, resamples: Resamples, confidence: float
) -> Estimate:
    def auc(counts: np.ndarray) -> np.ndarray:
        return weighted_auc(positive, score, counts)

    return _bootstrap(
        auc, resamples, confidence, logit_delong_interval(positive, score, confidence)
    )


def _describe_brier(
    positive: np.ndarray, probability: np.ndarray, resamples: Resamples, confidence: float
) -> Estimate:
    errors = (probability - positive) ** 2

    def brier(counts: np.ndarray) -> np.ndarray:
        return np.asarray(counts @ errors / len(errors))

    estimate = float(errors.mean())
    percentile = percentile_interval(brier(resamples.counts), confidence)
    return _estimate(estimate, len(positive), [percentile])


def _describe_calls(
    positive: np.ndarray, called: np.ndarray, resamples: Resamples, confidence: float
) -> dict[str, Any]:
    """Return the confusion counts and every proportion of ``PROPORTIONS`` with its interval."""
    cells = np.stack(
        [positive & called, ~positive & called, ~positive & ~called, positive & ~called], axis=1
    ).astype(np.float64)
    counts = cells.sum(axis=0)
    here = _proportions(counts[None])
    everywhere = _proportions(resamples.counts @ cells)
    n = len(positive)
    described: dict[str, Any] = {
        "counts": dict(zip(("tp", "fp", "tn", "fn"), map(int, counts), strict=True))
    }
    for name in PROPORTIONS:
        intervals = [percentile_interval(everywhere[name], confidence)]
        if name == "accuracy":
            right = int(counts[0] + counts[2])
            intervals.append(clopper_pearson_interval(right, n, confidence))
        undefined = int(np.isnan(everywhere[name]).sum())
        described[name] = _estimate(float(here[name][0]), n, intervals, undefined)
    return described


def _proportions(cells: np.ndarray) -> dict[str, np.ndarray]:
    """Return each proportion from rows of (tp, fp, tn, fn); nan where its denominator is 0."""
    tp, fp, tn, fn = cells.T
    with np.errstate(invalid="ignore", divide="ignore"):
        sensitivity, specificity = tp / (tp + fn), tn / (tn + fp)
        values = (
            (tp + tn) / cells.sum(axis=1),
            (sensitivity + specificity) / 2,
            sensitivity,
            specificity,
            tp / (tp + fp),
            tn / (tn + fn),
        )
    return dict(zip(PROPORTIONS, values, strict=True))


def _bootstrap(
    statistic: Callable[[np.ndarray], np.ndarray],
    resamples: Resamples,
    confidence: float,
    *more: Interval,
) -> Estimate:
    """Return a statistic of multiplicities with percentile and BCa intervals, and ``more``."""
    n = resamples.counts.shape[1]
    estimate = float(statistic(np.ones((1, n)))[0])
    distribution = statistic(resamples.counts)
    bca = bca_interval(distribution, estimate, statistic(jackknife_counts(n)), confidence)
    return _estimate(estimate, n, [percentile_interval(distribution, confidence), bca, *more])


def _estimate(
    estimate: float, n: int, intervals: list[Interval], undefined_resamples: int = 0
) -> Estimate:
    return {
        "estimate": estimate if np.isfinite(estimate) else None,
        "n": n,
        "intervals": {interval.method: interval.as_dict() for interval in intervals},
        "undefined_resamples": undefined_resamples,
    }
