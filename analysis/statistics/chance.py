"""Could it be chance: the permutation test of an AUC, and Holm's correction for many of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import stats

PERMUTATIONS = 9999
# Scores that are permuted at once: scipy ranks them with some 100 bytes for each, 200 MB in all.
AT_ONCE = 2_000_000


def permutation_p(
    positive: np.ndarray,
    score: np.ndarray,
    *,
    generator: np.random.Generator,
    permutations: int = PERMUTATIONS,
) -> float:
    """Return the chance of an AUC as high as this one if labels had nothing to do with scores.

    Labels are permuted among the patients. The AUC is Mann and Whitney's U divided by a constant,
    so its permutation test is that of U; ties count half. One-sided: an AUC below .5 is no finding.

    Args:
        positive: (n,) whether a patient is positive; both classes.
        score: (n,) the higher, the more probably positive.
        generator: draws the permutations.
        permutations: how many; the smallest p is 1 / (permutations + 1).

    Source: Mann and Whitney 1947, doi:10.1214/aoms/1177730491; the added one: Phipson and Smyth
    2010, doi:10.2202/1544-6115.1585.
    """
    # Permutations are drawn one by one: their number in a batch changes the memory, not the p.
    batch = max(1, AT_ONCE // len(score))
    method = stats.PermutationMethod(n_resamples=permutations, batch=batch, rng=generator)
    found = stats.mannwhitneyu(
        score[positive], score[~positive], alternative="greater", method=method
    )
    return float(found.pvalue)


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values corrected for their number: all of a family of tests hold together.

    Source: Holm 1979, Scandinavian Journal of Statistics 6:65-70.

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    order = np.argsort(p_values, kind="stable")
    steps = np.asarray(p_values, dtype=np.float64)[order] * np.arange(len(order), 0, -1)
    corrected = np.empty(len(order))
    corrected[order] = np.minimum(1.0, np.maximum.accumulate(steps))
    return [float(p) for p in corrected]
