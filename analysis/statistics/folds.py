"""Means over folds whose training sets overlap: their standard error and their interval.

The SD is multiplied by sqrt(1/k + 1/(k - 1)), not by the sqrt(1/k) of independent values: Nadeau
and Bengio 2003, 10.1023/A:1024068626366.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

from scipy import stats

from analysis.statistics.bootstrap import Interval

CORRECTED_T = "corrected_t"


def mean_and_error(values: Sequence[float]) -> tuple[float, float]:
    """Return the mean of one value a fold and its corrected standard error."""
    k = len(values)
    return math.fsum(values) / k, statistics.stdev(values) * math.sqrt(1 / k + 1 / (k - 1))


def paired_difference(first: Sequence[float], second: Sequence[float]) -> tuple[float, float]:
    """Return the mean fold difference and its corrected standard error.

    >>> mean, error = paired_difference([0.8, 0.9], [0.7, 0.6])
    >>> round(mean, 3), round(error, 3)
    (0.2, 0.173)
    """
    return mean_and_error([a - b for a, b in zip(first, second, strict=True)])


def corrected_t_interval(mean: float, error: float, *, folds: int, confidence: float) -> Interval:
    """Return Student's interval of a mean over folds; a point, which says nothing, at error 0.

    Args:
        mean: over the folds.
        error: its corrected standard error.
        folds: how many, two at least.
        confidence: for example .95.
    """
    reach = float(stats.t.ppf((1 + confidence) / 2, folds - 1)) * error
    return Interval(CORRECTED_T, mean - reach, mean + reach)
