"""How far a ROC curve may be off: an interval of sensitivity at each specificity, by bootstrap."""

from __future__ import annotations

import numpy as np
import pandas as pd

RESAMPLES = 2000
STEPS = 100


def roc_band(
    rates: pd.DataFrame,
    positives: int,
    n: int,
    confidence: float,
    *,
    generator: np.random.Generator,
) -> pd.DataFrame:
    """Return the pointwise percentile interval of sensitivity at each false positive rate.

    The curve itself holds all that is needed: how many patients of each class lie between two of
    its points. Patients are resampled together, as for the AUC; a resample of one class has no
    curve and is left out. Where the curve touches an edge the interval is too narrow.

    Args:
        rates: ``false_positive_rate`` and ``true_positive_rate`` from (0, 0) to (1, 1).
        positives: patients with the outcome, at least one.
        n: all patients, at least one of them without the outcome.
        confidence: of each interval, not of the band as a whole.
        generator: the only source of randomness.

    Returns:
        ``false_positive_rate`` (0 to 1 in hundredths), ``low``, ``high``.
    """
    steps = [
        np.diff(rates[name]) * count
        for name, count in (
            ("true_positive_rate", positives),
            ("false_positive_rate", n - positives),
        )
    ]
    patients = np.concatenate(steps).round()
    drawn = generator.multinomial(n, patients / patients.sum(), size=RESAMPLES)
    cases, controls = np.split(drawn, 2, axis=1)
    has_both = (cases.sum(axis=1) > 0) & (controls.sum(axis=1) > 0)
    sensitivity, false_rate = (_shares(counts[has_both]) for counts in (cases, controls))
    at = np.linspace(0, 1, STEPS + 1)
    # Of several points above one another np.interp takes the uppermost, as the ROC curve does.
    curves = [np.interp(at, x, y) for x, y in zip(false_rate, sensitivity, strict=True)]
    tail = (1 - confidence) / 2
    low, high = np.quantile(curves, (tail, 1 - tail), axis=0)
    return pd.DataFrame({"false_positive_rate": at, "low": low, "high": high})


def _shares(counts: np.ndarray) -> np.ndarray:
    """Return cumulative shares of (resamples, steps), from 0 to 1."""
    summed = np.pad(counts.cumsum(axis=1), ((0, 0), (1, 0)))
    shares: np.ndarray = summed / summed[:, -1:]
    return shares
