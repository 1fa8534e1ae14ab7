"""Patient-level bootstrap and the intervals built on it; every resample is handled at once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import stats

PERCENTILE = "percentile"
BCA = "bca"
LOGIT_DELONG = "logit_delong"
CLOPPER_PEARSON = "clopper_pearson"


@dataclass(frozen=True)
class Interval:
    """A confidence interval, in the unit of its statistic.

    Attributes:
        method: ``percentile``, ``bca``, ``logit_delong`` or ``clopper_pearson``.
        low: the lower limit; nan when the method is undefined for these patients.
        high: the upper limit.
    """

    method: str
    low: float
    high: float

    @property
    def is_defined(self) -> bool:
        """Whether the method gave limits at all."""
        return bool(np.isfinite(self.low) and np.isfinite(self.high))

    @property
    def is_degenerate(self) -> bool:
        """Whether the interval collapsed to a point, as at an AUC of 1: it then says nothing."""
        return self.is_defined and self.low == self.high

    def as_dict(self) -> dict[str, float | bool | None]:
        """Return the limits and the flag for JSON; undefined limits are null."""
        low, high = (self.low, self.high) if self.is_defined else (None, None)
        return {"low": low, "high": high, "degenerate": self.is_degenerate}


@dataclass(frozen=True)
class Resamples:
    """Bootstrap resamples of patients, the same for every statistic that is compared.

    Attributes:
        indices: int, (resamples, patients): who was drawn.
        counts: float64, (resamples, patients): how often each patient was drawn.
        redrawn: resamples that held one class only, hence no AUC; they were drawn again.
    """

    indices: np.ndarray
    counts: np.ndarray
    redrawn: int


def draw_resamples(
    positive: np.ndarray, count: int, *, generator: np.random.Generator
) -> Resamples:
    """Return ``count`` resamples of patients with replacement, each with both classes.

    Args:
        positive: bool, (n,); who has the outcome.
        count: resamples wanted.
        generator: the only source of randomness.

    Raises:
        ValueError: ``positive`` holds one class only, so that no resample could be kept.
    """
    n = len(positive)
    if positive.all() or not positive.any():
        raise ValueError("a bootstrap of the AUC needs patients of both classes")
    indices = generator.integers(0, n, size=(count, n))
    redrawn = 0
    while True:
        drawn = positive[indices]
        undefined = np.flatnonzero(drawn.all(axis=1) | ~drawn.any(axis=1))
        if not len(undefined):
            return Resamples(indices, _multiplicities(indices), redrawn)
        redrawn += len(undefined)
        indices[undefined] = generator.integers(0, n, size=(len(undefined), n))


def _multiplicities(indices: np.ndarray) -> np.ndarray:
    """Return how often each of n patients stands in each row of ``indices``, float64 (rows, n)."""
    rows, n = indices.shape
    flat = indices + np.arange(rows)[:, None] * n
    return np.bincount(flat.ravel(), minlength=rows * n).reshape(rows, n).astype(np.float64)


def weighted_auc(positive: np.ndarray, score: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Return the AUC of every resample; ties count half.

    The patients are sorted once. A resample is a row of multiplicities, so its AUC is the sum over
    the distinct scores of (positives there) x (negatives below + half the negatives there),
    divided by (positives) x (negatives).

    Args:
        positive: bool, (n,).
        score: float, (n,); higher means more probably positive.
        counts: float, (resamples, n): the multiplicity of each patient.

    Returns:
        float64, (resamples,); nan where a class is missing.
    """
    order = np.argsort(score, kind="stable")
    starts = np.flatnonzero(np.r_[True, np.diff(score[order]) > 0])
    sorted_counts = counts[:, order]
    ranked = positive[order]
    positives = np.add.reduceat(sorted_counts * ranked, starts, axis=1)
    negatives = np.add.reduceat(sorted_counts * ~ranked, starts, axis=1)
    below = np.cumsum(negatives, axis=1) - negatives / 2
    pairs = positives.sum(axis=1) * negatives.sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray((positives * below).sum(axis=1) / pairs, dtype=np.float64)


def auc_of(positive: np.ndarray, score: np.ndarray) -> float:
    """Return the AUC, nan when a class is missing.

    >>> auc_of(np.array([False, True, True]), np.array([0.2, 0.2, 0.9]))
    0.75
    """
    return float(weighted_auc(positive, score, np.ones((1, len(score))))[0])


def jackknife_counts(n: int) -> np.ndarray:
    """Return the multiplicities of the n samples that each leave one patient out, (n, n)."""
    return np.ones((n, n)) - np.eye(n)


def percentile_interval(distribution: np.ndarray, confidence: float) -> Interval:
    """Return the plain percentile interval, as in Yeung et al. 2022; nan values are left out."""
    defined = distribution[np.isfinite(distribution)]
    if not len(defined):
        return Interval(PERCENTILE, np.nan, np.nan)
    tail = (1 - confidence) / 2
    low, high = np.quantile(defined, [tail, 1 - tail])
    return Interval(PERCENTILE, float(low), float(high))


def bca_interval(
    distribution: np.ndarray, estimate: float, jackknife: np.ndarray, confidence: float
) -> Interval:
    """Return the bias-corrected and accelerated interval (Efron 1987, 10.2307/2289144).

    Args:
        distribution: the statistic of every resample, (resamples,).
        estimate: the statistic of the patients themselves.
        jackknife: the statistic with each patient left out, (n,).
        confidence: for example .95.

    Returns:
        Undefined (nan) where leaving a patient out removes a class; collapsed to the estimate where
        nothing varies.
    """
    if not np.isfinite(jackknife).all():
        return Interval(BCA, np.nan, np.nan)
    if np.ptp(distribution) == 0:
        return Interval(BCA, estimate, estimate)
    share = (np.mean(distribution < estimate) + np.mean(distribution <= estimate)) / 2
    bias = stats.norm.ppf(share)
    influence = jackknife.mean() - jackknife
    spread = (influence**2).sum() ** 1.5
    acceleration = (influence**3).sum() / (6 * spread) if spread > 0 else 0.0
    tails = stats.norm.ppf([(1 - confidence) / 2, (1 + confidence) / 2])
    shifted = bias + tails
    levels = stats.norm.cdf(bias + shifted / (1 - acceleration * shifted))
    if not np.isfinite(levels).all():
        return Interval(BCA, np.nan, np.nan)
    low, high = np.quantile(distribution, levels)
    return Interval(BCA, float(low), float(high))


def delong_variance(positive: np.ndarray, score: np.ndarray) -> float:
    """Return the variance of the AUC after DeLong et al. 1988 (10.2307/2531595), by midranks.

    The midrank form is that of Sun and Xu 2014 (10.1109/LSP.2014.2337313).
    """
    cases, controls = score[positive], score[~positive]
    m, n = len(cases), len(controls)
    if m < 2 or n < 2:
        return float("nan")
    ranks = stats.rankdata(np.concatenate([cases, controls]))
    of_cases = (ranks[:m] - stats.rankdata(cases)) / n
    of_controls = 1 - (ranks[m:] - stats.rankdata(controls)) / m
    return float(of_cases.var(ddof=1) / m + of_controls.var(ddof=1) / n)


def logit_delong_interval(positive: np.ndarray, score: np.ndarray, confidence: float) -> Interval:
    """Return DeLong's interval on the logit scale, which stays inside (0, 1).

    At an AUC of 0 or 1 the variance is 0 and the interval collapses to the estimate.
    """
    estimate, variance = auc_of(positive, score), delong_variance(positive, score)
    if not np.isfinite(variance):
        return Interval(LOGIT_DELONG, np.nan, np.nan)
    if variance == 0 or estimate in {0.0, 1.0}:
        return Interval(LOGIT_DELONG, estimate, estimate)
    centre = np.log(estimate / (1 - estimate))
    width = stats.norm.ppf((1 + confidence) / 2) * np.sqrt(variance) / (estimate * (1 - estimate))
    low, high = 1 / (1 + np.exp(-np.array([centre - width, centre + width])))
    return Interval(LOGIT_DELONG, float(low), float(high))


def clopper_pearson_interval(successes: int, trials: int, confidence: float) -> Interval:
    """Return the exact interval of a proportion (Clopper and Pearson 1934)."""
    exact = stats.binomtest(successes, trials).proportion_ci(confidence, method="exact")
    return Interval(CLOPPER_PEARSON, float(exact.low), float(exact.high))
