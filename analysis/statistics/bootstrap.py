"""Patient-level bootstrap and the intervals built on it; every resample is handled at once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import stats

PERCENTILE = "percentile"
BCA = "bca"
LOGIT_DELONG = "logit_delong"
CLOPPER_PEARSON = "clopper_pearson"

FEWEST_OF_A_CLASS = 10
MOST_UNDEFINED = 0.01
LAST_BIT = 1e-12


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
        drawn = positive[indices].sum(axis=1)
        undefined = np.flatnonzero((drawn == 0) | (drawn == n))
        if not len(undefined):
            return Resamples(indices, _multiplicities(indices), redrawn)
        redrawn += len(undefined)
        indices[undefined] = generator.integers(0, n, size=(len(undefined), n))


def _multiplicities(indices: np.ndarray) -> np.ndarray:
    """Return how often each of n patients stands in each row of ``indices``, float64 (rows, n)."""
    rows, n = indices.shape
    flat = indices + np.arange(rows)[:, None] * n
    return np.bincount(flat.ravel(), minlength=rows * n).reshape(rows, n).astype(np.float64)


def why_unreliable(positive: np.ndarray, resamples: Resamples) -> str | None:
    """Return why intervals of what needs both classes cannot be relied on, or None.

    Below ten patients of a class each of them carries the interval. Redrawing one-class resamples
    leaves out the least favourable draws, which must stay rare.

    Args:
        positive: bool, (n,); who has the outcome.
        resamples: of these n patients.
    """
    redrawn = resamples.redrawn / len(resamples.counts)
    return too_few(positive) or undefined_too_often(redrawn)


def too_few(positive: np.ndarray) -> str | None:
    """Return which class has fewer than ten patients, so that each carries the interval, or None.

    Args:
        positive: bool, (n,); who has the outcome.
    """
    for name, here in (("positive", int(positive.sum())), ("negative", int((~positive).sum()))):
        if here < FEWEST_OF_A_CLASS:
            return f"{here} {name}, fewer than {FEWEST_OF_A_CLASS}"
    return None


def undefined_too_often(share: float) -> str | None:
    """Return why a share of undefined resamples makes an interval unreliable, or None."""
    return f"undefined in {share:.1%} of the resamples" if share > MOST_UNDEFINED else None


def weighted_auc(positive: np.ndarray, score: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Return the AUC of every resample; ties count half.

    The negatives are sorted once. A resample is a row of multiplicities, so its AUC is the sum over
    the positives of (how often drawn) x (negatives drawn below + half of those tied), divided by
    (positives drawn) x (negatives drawn). All sums are of halves and whole numbers, hence exact.

    Args:
        positive: bool, (n,).
        score: float, (n,); higher means more probably positive; no nan.
        counts: float, (resamples, n): the multiplicity of each patient.

    Returns:
        float64, (resamples,); nan where a class is missing.
    """
    cases, controls = np.flatnonzero(positive), np.flatnonzero(~positive)
    controls = controls[np.argsort(score[controls], kind="stable")]
    first = np.searchsorted(score[controls], score[cases], side="left")
    last = np.searchsorted(score[controls], score[cases], side="right")
    up_to = np.zeros((len(counts), len(controls) + 1))
    np.cumsum(counts[:, controls], axis=1, out=up_to[:, 1:])
    below = up_to[:, first]
    if (first != last).any():
        below = (below + up_to[:, last]) / 2
    weights = counts[:, cases]
    pairs = weights.sum(axis=1) * up_to[:, -1]
    with np.errstate(invalid="ignore"):
        return np.asarray(np.einsum("rc,rc->r", weights, below) / pairs, dtype=np.float64)


def auc_of(positive: np.ndarray, score: np.ndarray) -> float:
    """Return the AUC, nan when a class is missing.

    >>> auc_of(np.array([False, True, True]), np.array([0.2, 0.2, 0.9]))
    0.75
    """
    return float(weighted_auc(positive, score, np.ones((1, len(score))))[0])


def placements(positive: np.ndarray, score: np.ndarray) -> np.ndarray:
    """Return for each patient the share of the other class that it is ranked right against.

    Ties count half; the mean over either class is the AUC. By midranks, as in Sun and Xu 2014
    (10.1109/LSP.2014.2337313).

    Args:
        positive: bool, (n,); both classes present.
        score: float, (n,).

    Returns:
        float64, (n,).
    """
    cases, controls = score[positive], score[~positive]
    ranks = stats.rankdata(np.concatenate([cases, controls]))
    placed = np.empty(len(score))
    placed[positive] = (ranks[: len(cases)] - stats.rankdata(cases)) / len(controls)
    placed[~positive] = 1 - (ranks[len(cases) :] - stats.rankdata(controls)) / len(cases)
    return placed


def jackknife_auc(positive: np.ndarray, score: np.ndarray) -> np.ndarray:
    """Return the AUC with each patient left out in turn, float64 (n,); nan where a class would end.

    Leaving one of m patients of a class out takes its placement from a mean over m.
    """
    placed, estimate = placements(positive, score), auc_of(positive, score)
    of_class = np.where(positive, positive.sum(), (~positive).sum())
    with np.errstate(invalid="ignore", divide="ignore"):
        left = (of_class * estimate - placed) / (of_class - 1)
    return np.asarray(np.where(of_class > 1, left, np.nan))


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
        Undefined (nan) where leaving a patient out removes a class, or where the estimate lies
        outside the distribution; collapsed to the estimate where nothing varies.
    """
    if not np.isfinite(jackknife).all():
        return Interval(BCA, np.nan, np.nan)
    if np.ptp(distribution) == 0:
        return Interval(BCA, estimate, estimate)
    # A difference of AUCs that equals the estimate may miss it by its last bit.
    below, not_above = (np.mean(distribution < estimate + nudge) for nudge in (-LAST_BIT, LAST_BIT))
    share = (below + not_above) / 2
    if share in {0.0, 1.0}:
        return Interval(BCA, np.nan, np.nan)
    bias = stats.norm.ppf(share)
    influence = jackknife.mean() - jackknife
    spread = (influence**2).sum() ** 1.5
    acceleration = (influence**3).sum() / (6 * spread) if spread > 0 else 0.0
    tails = stats.norm.ppf([(1 - confidence) / 2, (1 + confidence) / 2])
    shifted = bias + tails
    levels = stats.norm.cdf(bias + shifted / (1 - acceleration * shifted))
    low, high = np.quantile(distribution, levels)
    return Interval(BCA, float(low), float(high))


def delong_variance(positive: np.ndarray, score: np.ndarray) -> float:
    """Return the variance of the AUC after DeLong et al. 1988 (10.2307/2531595).

    nan when a class has fewer than two patients.
    """
    m, n = int(positive.sum()), int((~positive).sum())
    if m < 2 or n < 2:
        return float("nan")
    placed = placements(positive, score)
    return float(placed[positive].var(ddof=1) / m + placed[~positive].var(ddof=1) / n)


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
