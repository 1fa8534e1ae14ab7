"""Decision curves: what acting on a prediction is worth against acting on all, or on nobody."""

from __future__ import annotations

import numpy as np
import pandas as pd

from analysis.statistics.bootstrap import Resamples, percentile_interval

STEPS = 50


def net_benefit(
    positive: np.ndarray, called: np.ndarray, threshold: float, counts: np.ndarray
) -> np.ndarray:
    """Return the net benefit of acting on ``called`` in every resample, (resamples,).

    True positives minus false positives weighed by the odds of the threshold, a patient: whoever
    acts from a probability p on finds 1 - p harm as bad as p benefit good (Vickers and Elkin 2006,
    10.1177/0272989X06295361).

    Args:
        positive: bool, (n,).
        called: bool, (n,).
        threshold: probability, in (0, 1).
        counts: (resamples, n), multiplicities.
    """
    odds = threshold / (1 - threshold)
    worth = (positive & called) - odds * (~positive & called)
    return np.asarray(counts @ worth / counts.sum(axis=1))


def decision_curve(
    positive: np.ndarray,
    probability: np.ndarray,
    bounds: tuple[float, float],
    resamples: Resamples,
    confidence: float,
) -> pd.DataFrame:
    """Return net benefits over a range of thresholds that was fixed beforehand.

    Args:
        positive: bool, (n,).
        probability: (n,), of being positive.
        bounds: the lowest and the highest threshold.
        resamples: of these n patients.
        confidence: of each interval, not of the curve as a whole.

    Returns:
        ``threshold``, ``model`` with ``low`` and ``high``, ``treat_all`` (``treat_none`` is 0), and
        ``gain``, the model's minus the better of both, with ``gain_low`` and ``gain_high``.
    """
    here, everyone = np.ones((1, len(positive))), np.ones(len(positive), dtype=bool)
    rows, (lowest, highest) = [], bounds
    for threshold in np.linspace(lowest, highest, STEPS + 1):
        called = probability >= threshold
        of_model = net_benefit(positive, called, threshold, resamples.counts)
        of_all = net_benefit(positive, everyone, threshold, resamples.counts)
        model = float(net_benefit(positive, called, threshold, here)[0])
        treat_all = float(net_benefit(positive, everyone, threshold, here)[0])
        interval = percentile_interval(of_model, confidence)
        # Which of the two is better is decided once, on the patients themselves.
        rival, rivals = (treat_all, of_all) if treat_all > 0 else (0.0, np.zeros_like(of_all))
        gained = percentile_interval(of_model - rivals, confidence)
        rows.append(
            {
                "threshold": float(threshold),
                "model": model,
                "low": interval.low,
                "high": interval.high,
                "treat_all": treat_all,
                "treat_none": 0.0,
                "gain": model - rival,
                "gain_low": gained.low,
                "gain_high": gained.high,
            }
        )
    return pd.DataFrame(rows)
