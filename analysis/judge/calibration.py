"""Whether probabilities mean what they say, and whether a threshold of the folds still does."""

from __future__ import annotations

from typing import Any

import numpy as np

from analysis.statistics.bootstrap import Resamples, percentile_interval, why_unreliable
from analysis.statistics.curves import fit_in_the_large, fit_slope, why_no_slope
from analysis.statistics.metrics import (
    Estimate,
    describe_brier,
    estimate_of,
    log_odds_of,
    probability_of,
)
from spaces.sections import EvaluationSection


def describe_calibration(
    positive: np.ndarray, logits: np.ndarray, resamples: Resamples, confidence: float
) -> dict[str, Estimate]:
    """Return ``in_the_large``, ``slope`` and ``brier`` of the predictions, with intervals.

    Calibration in the large and slope have Wald intervals; without overlap of the classes the slope
    is infinite, hence null.

    Args:
        positive: bool, (n,); both classes present.
        logits: (n, 2).
        resamples: of these n patients.
        confidence: for example .95.
    """
    n, log_odds = len(positive), log_odds_of(logits)
    few, why = why_unreliable(positive, resamples), why_no_slope(positive, log_odds)
    found = {
        "in_the_large": (fit_in_the_large(positive, log_odds, confidence), few),
        "slope": (fit_slope(positive, log_odds, confidence), why or few),
    }
    described = {
        name: estimate_of(its.estimate, n, [its.interval], unreliable=reason)
        for name, (its, reason) in found.items()
    }
    brier = describe_brier(positive, probability_of(log_odds), resamples, confidence)
    return described | {"brier": brier}


def describe_shift(
    folds: np.ndarray,
    model: np.ndarray,
    threshold: float,
    settings: EvaluationSection,
    *,
    generator: np.random.Generator,
) -> dict[str, Any]:
    """Return whether a threshold of the fold models means the same to the final model.

    The threshold was found on fold models, which saw a part of the development patients; the final
    model saw all of them. All of them judge the same test patients, so that no difference between
    patients enters; nobody's outcome is asked, only whom each model calls positive.

    Args:
        folds: log odds of the test patients from each fold model, (n, folds).
        model: from the final model, (n,).
        threshold: probability, found on out-of-fold predictions.
        settings: resamples and level of the interval.
        generator: draws the resamples.

    Returns:
        ``threshold``; ``n``; ``folds``, how many patients each fold model calls positive;
        ``model``, how many the final model does; ``difference`` (Estimate, share of the final
        model minus mean share of the fold models, paired percentile interval over patients); and
        ``same_share_threshold``, above which the final model calls as many positive as they.
    """
    by_folds, called = (probability_of(its) >= threshold for its in (folds, model))
    differences, n = called - by_folds.mean(axis=1), len(model)
    counts = generator.multinomial(n, np.full(n, 1 / n), size=settings.bootstraps)
    interval = percentile_interval(counts @ differences / n, settings.confidence)
    share = float(by_folds.mean())
    return {
        "threshold": threshold,
        "n": n,
        "folds": [int(count) for count in by_folds.sum(axis=0)],
        "model": int(called.sum()),
        "difference": estimate_of(float(differences.mean()), n, [interval]),
        "same_share_threshold": float(np.quantile(probability_of(model), 1 - share)),
    }
