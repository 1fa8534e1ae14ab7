"""Two groups of patients side by side: what they are like, and how far apart they are.

The tests are those of Yeung et al. 2022 (doi:10.1007/s12350-022-02920-x): Pearson's chi-squared
without Yates' correction and Student's t with equal variances. Where values are skewed Mann and
Whitney's test stands beside it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

BINARY, CONTINUOUS = "binary", "continuous"
PEARSON, STUDENT = "Pearson chi-squared", "Student t"
SKEWED = 1.0
"""The absolute skewness beyond which values have a median and Mann and Whitney's test too."""
FEWEST_EXPECTED = 5
FEW_EXPECTED = f"a count below {FEWEST_EXPECTED} is expected"


@dataclass(frozen=True)
class Summary:
    """One characteristic of one group; None where it does not apply or cannot be had.

    Attributes:
        n: patients in whom it is known.
        missing: the others.
        count: of a binary characteristic, patients who have it.
        share: they among the ``n``.
        mean: of a continuous one, as all that follow.
        sd: n - 1 in the denominator.
        median: half of the patients are below.
        lower_quartile: a quarter of the patients is below.
        upper_quartile: three quarters of the patients are below.
    """

    n: int
    missing: int
    count: int | None = None
    share: float | None = None
    mean: float | None = None
    sd: float | None = None
    median: float | None = None
    lower_quartile: float | None = None
    upper_quartile: float | None = None


@dataclass(frozen=True)
class Characteristic:
    """One row of a table; None where it does not apply or cannot be had.

    Attributes:
        name: the column.
        kind: ``binary`` or ``continuous``.
        groups: by name of the group, the first one first.
        test: whose p-value ``p`` is.
        p: two-sided.
        skewness: adjusted Fisher-Pearson, of the deviations from the group means, which are what
            the t-test takes for normal.
        mann_whitney_p: two-sided; of skewed values only.
        standardised_difference: second group minus first, over the root of the mean variance
            (Austin 2009, doi:10.1080/03610910902859574).
        doubt: why ``p`` cannot be relied on.
    """

    name: str
    kind: str
    groups: Mapping[str, Summary]
    test: str
    p: float | None
    skewness: float | None
    mann_whitney_p: float | None
    standardised_difference: float | None
    doubt: str | None

    @property
    def is_skewed(self) -> bool:
        """Whether a mean alone would mislead."""
        return self.skewness is not None and abs(self.skewness) > SKEWED


def kinds_of(table: pd.DataFrame) -> dict[str, str]:
    """Return what each column of numbers is: binary if every known value is 0 or 1.

    >>> kinds_of(pd.DataFrame({"sex": [0.0, 1.0, np.nan], "vessels": [0.0, 1.0, 2.0]}))
    {'sex': 'binary', 'vessels': 'continuous'}
    """
    return {
        str(name): BINARY if values.dropna().isin([0, 1]).all() else CONTINUOUS
        for name, values in table.items()
    }


def compare_groups(
    table: pd.DataFrame,
    is_second: np.ndarray,
    groups: tuple[str, str],
    kinds: Mapping[str, str] | None = None,
) -> list[Characteristic]:
    """Return one row for each column that has a value at all.

    Args:
        table: one row a patient, columns of numbers, nan where missing.
        is_second: bool, (rows,): who belongs to the second group.
        groups: names of the first group and of the second.
        kinds: ``binary`` or ``continuous`` by column; by default what ``kinds_of`` says.
    """
    kinds = kinds_of(table) if kinds is None else kinds
    return [
        _compare(str(name), kinds[str(name)], values.to_numpy(dtype=np.float64), is_second, groups)
        for name, values in table.items()
        if values.notna().any()
    ]


def pearson_p(first: tuple[int, int], second: tuple[int, int]) -> float | None:
    """Return the p-value of Pearson's chi-squared test of a 2 x 2 table, without correction.

    Args:
        first: how many of the first group have the characteristic, and of how many.
        second: likewise.

    Returns:
        None if nobody or everybody has it, or a group is empty.
    """
    cells = _cells(first, second)
    if not (cells.sum(axis=0).all() and cells.sum(axis=1).all()):
        return None
    return float(stats.chi2_contingency(cells, correction=False).pvalue)


def _cells(first: tuple[int, int], second: tuple[int, int]) -> np.ndarray:
    return np.array([[count, n - count] for count, n in (first, second)])


def _compare(
    name: str, kind: str, values: np.ndarray, is_second: np.ndarray, groups: tuple[str, str]
) -> Characteristic:
    parts = [values[~is_second], values[is_second]]
    known = [part[np.isfinite(part)] for part in parts]
    summarise = _summarise_binary if kind == BINARY else _summarise_continuous
    summaries = [summarise(its, len(part)) for its, part in zip(known, parts, strict=True)]
    of_group = dict(zip(groups, summaries, strict=True))
    difference = _standardise(
        [(float(its.mean()), _variance(its, kind)) for its in known if len(its)]
    )
    if kind == BINARY:
        counts = [(int(its.sum()), len(its)) for its in known]
        p, doubt = pearson_p(*counts), _doubt_counts(_cells(*counts))
        return Characteristic(
            name,
            kind,
            of_group,
            PEARSON,
            p,
            None,
            None,
            difference,
            doubt if p is not None else None,
        )
    skewness = _skewness(known)
    beside = _mann_whitney_p(known) if skewness is not None and abs(skewness) > SKEWED else None
    p = _student_p(known)
    return Characteristic(name, kind, of_group, STUDENT, p, skewness, beside, difference, None)


def _summarise_binary(known: np.ndarray, patients: int) -> Summary:
    n, count = len(known), int(known.sum())
    return Summary(n, patients - n, count=count, share=count / n if n else None)


def _summarise_continuous(known: np.ndarray, patients: int) -> Summary:
    n = len(known)
    if not n:
        return Summary(0, patients)
    lower, median, upper = (float(its) for its in np.quantile(known, (0.25, 0.5, 0.75)))
    return Summary(
        n,
        patients - n,
        mean=float(known.mean()),
        sd=float(known.std(ddof=1)) if n > 1 else None,
        median=median,
        lower_quartile=lower,
        upper_quartile=upper,
    )


def _variance(known: np.ndarray, kind: str) -> float:
    """Return p (1 - p) of a binary characteristic, else the sample variance; nan of one patient."""
    if kind == BINARY:
        share = float(known.mean())
        return share * (1 - share)
    return float(known.var(ddof=1)) if len(known) > 1 else float("nan")


def _standardise(moments: list[tuple[float, float]]) -> float | None:
    """Return second mean minus first over the root of the mean variance, from (mean, variance)."""
    if len(moments) < 2:
        return None
    (first, spread), (second, other_spread) = moments
    pooled = (spread + other_spread) / 2
    return (second - first) / float(np.sqrt(pooled)) if pooled > 0 else None


def _doubt_counts(cells: np.ndarray) -> str | None:
    expected = np.outer(cells.sum(axis=1), cells.sum(axis=0)) / max(1, cells.sum())
    return FEW_EXPECTED if expected.min() < FEWEST_EXPECTED else None


def _skewness(known: list[np.ndarray]) -> float | None:
    deviations = np.concatenate([its - its.mean() for its in known if len(its)])
    if len(deviations) < 3 or np.ptp(deviations) == 0:
        return None
    return float(stats.skew(deviations, bias=False))


def _student_p(known: list[np.ndarray]) -> float | None:
    first, second = known
    is_defined = min(len(first), len(second)) > 0 and len(first) + len(second) > 2
    if not is_defined or np.ptp(first) + np.ptp(second) == 0:
        return None
    return float(stats.ttest_ind(first, second, equal_var=True).pvalue)


def _mann_whitney_p(known: list[np.ndarray]) -> float | None:
    first, second = known
    if not len(first) or not len(second):
        return None
    return float(stats.mannwhitneyu(first, second, alternative="two-sided").pvalue)
