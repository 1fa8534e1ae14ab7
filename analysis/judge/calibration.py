"""Whether probabilities mean what they say, and whether a threshold of the folds still does."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import stats

from analysis.statistics.bootstrap import Interval, Resamples, auc_of, why_unreliable
from analysis.statistics.curves import calibrate
from analysis.statistics.metrics import (
    Estimate,
    describe_brier,
    estimate_of,
    log_odds_of,
    probability_of,
)

WALD, NEWCOMBE = "wald", "newcombe"
SEPARATED = "the classes are separated completely"


def describe_calibration(
    positive: np.ndarray, logits: np.ndarray, resamples: Resamples, confidence: float
) -> dict[str, Estimate]:
    """Return ``intercept``, ``slope`` and ``brier`` of the predictions, with intervals.

    Intercept and slope are of the outcome's logit on the predicted one, with Wald intervals;
    without overlap of the classes they are infinite, hence null.

    Args:
        positive: bool, (n,); both classes present.
        logits: (n, 2).
        resamples: of these n patients.
        confidence: for example .95.
    """
    n, log_odds = len(positive), log_odds_of(logits)
    brier = describe_brier(positive, probability_of(log_odds), resamples, confidence)
    if auc_of(positive, log_odds) in {0.0, 1.0}:
        nothing = estimate_of(np.nan, n, [Interval(WALD, np.nan, np.nan)], unreliable=SEPARATED)
        return {"intercept": nothing, "slope": nothing, "brier": brier}
    found, few = calibrate(positive, logits, confidence), why_unreliable(positive, resamples)
    intercept, slope = (
        estimate_of(value, n, [Interval(WALD, *limits)], unreliable=few)
        for value, limits in (
            (found.intercept, found.intercept_limits),
            (found.slope, found.slope_limits),
        )
    )
    return {"intercept": intercept, "slope": slope, "brier": brier}


def describe_shift(
    out_of_fold: np.ndarray, test: np.ndarray, threshold: float, confidence: float
) -> dict[str, Any]:
    """Return whether a threshold of the fold models means the same to the final model.

    The threshold was found on fold models, which saw a part of the development patients; the final
    model saw all of them. Nobody's outcome is asked: only how many patients are called positive.

    Args:
        out_of_fold: log odds of development patients, each from the fold model that never saw them.
        test: log odds of test patients, from the final model.
        threshold: probability, found on the former.
        confidence: for example .95.

    Returns:
        ``threshold``; ``out_of_fold`` and ``test``, each ``{"called", "n"}``; ``difference``
        (Estimate, share of test minus share out-of-fold, Newcombe's interval); and
        ``same_share_threshold``, above which the final model calls the same share positive.
    """
    shares, counted = [], []
    for log_odds in (out_of_fold, test):
        called = int((probability_of(log_odds) >= threshold).sum())
        counted.append({"called": called, "n": len(log_odds)})
        shares.append(called / len(log_odds))
    interval = difference_of_shares(
        (counted[1]["called"], counted[1]["n"]), (counted[0]["called"], counted[0]["n"]), confidence
    )
    return {
        "threshold": threshold,
        "out_of_fold": counted[0],
        "test": counted[1],
        "difference": estimate_of(shares[1] - shares[0], len(test), [interval]),
        "same_share_threshold": float(np.quantile(probability_of(test), 1 - shares[0])),
    }


def difference_of_shares(
    first: tuple[int, int], second: tuple[int, int], confidence: float
) -> Interval:
    """Return the interval of first share minus second, of different patients.

    Newcombe's hybrid of Wilson's intervals (1998, method 10, 10.1002/(SICI)1097-0258(19980430)
    17:8<873::AID-SIM779>3.0.CO;2-I).

    Args:
        first: how many, of how many.
        second: likewise.
        confidence: for example .95.
    """
    (p, low, high), (q, its_low, its_high) = (
        (count / n, *stats.binomtest(count, n).proportion_ci(confidence, method="wilson"))
        for count, n in (first, second)
    )
    below = np.hypot(p - low, its_high - q)
    above = np.hypot(high - p, q - its_low)
    return Interval(NEWCOMBE, float(p - q - below), float(p - q + above))
