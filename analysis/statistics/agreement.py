"""How well predicted segment values agree with measured ones, after Bland and Altman."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from analysis.statistics.bootstrap import (
    FEWEST_OF_A_CLASS,
    Resamples,
    percentile_interval,
    undefined_too_often,
)
from analysis.statistics.metrics import Estimate, compare_aucs, describe_auc, estimate_of
from cohort.segments import SEGMENTS, TERRITORIES

MEAN = "mean"
MEAN_ABSOLUTE_ERROR = "mean_absolute_error"
BIAS = "bias"
LOWER_LIMIT = "lower_limit"
UPPER_LIMIT = "upper_limit"
R_SQUARED = "r_squared"
SLOPE = "slope"
QUANTITIES = (MEAN_ABSOLUTE_ERROR, BIAS, LOWER_LIMIT, UPPER_LIMIT, R_SQUARED, SLOPE)
# 95 % of normally distributed differences lie within so many standard deviations.
LIMIT = 1.96


@dataclass(frozen=True)
class Region:
    """Segments that are judged as one value, their mean.

    Attributes:
        name: ``mean``, a territory, or ``segment_01`` to ``segment_17``.
        segments: their numbers, from 1.
    """

    name: str
    segments: tuple[int, ...]

    @property
    def label(self) -> str:
        """The region as printed."""
        if self.name == MEAN:
            return f"mean of {SEGMENTS} segments"
        if self.name in TERRITORIES:
            return f"{self.name} territory"
        [number] = self.segments
        [territory] = [name for name, members in TERRITORIES.items() if number in members]
        return f"segment {number} ({territory})"


REGIONS = (
    Region(MEAN, tuple(range(1, SEGMENTS + 1))),
    *(Region(name, members) for name, members in TERRITORIES.items()),
    *(Region(f"segment_{number:02d}", (number,)) for number in range(1, SEGMENTS + 1)),
)


def region_means(
    predicted: np.ndarray, measured: np.ndarray, region: Region
) -> tuple[np.ndarray, np.ndarray]:
    """Return the region's predicted and measured mean of each patient, (n,) each.

    Both means are over the segments that were measured in that patient; nan where none was.

    Args:
        predicted: (n, 17), finite.
        measured: (n, 17), nan where missing.
        region: whose means.
    """
    columns = [number - 1 for number in region.segments]
    known = np.isfinite(measured[:, columns])
    ours, truth = (
        np.where(known, values[:, columns], 0.0).sum(axis=1, dtype=np.float64)
        for values in (predicted, measured)
    )
    with np.errstate(invalid="ignore"):
        return ours / known.sum(axis=1), truth / known.sum(axis=1)


def judge_regions(
    predicted: np.ndarray, measured: np.ndarray, resamples: Resamples, confidence: float
) -> list[dict[str, Any]]:
    """Return each region's errors with patient-level percentile intervals.

    Bias is the mean of predicted minus measured; the limits of agreement lie 1.96 standard
    deviations of that difference to either side of it (Bland and Altman 1986,
    10.1016/S0140-6736(86)90837-8). R squared is 1 - (sum of squared errors) / (sum of squares
    about the mean of these patients' measured values): below 0, that mean would do better. The
    slope is that of the difference on the average of predicted and measured (Bland and Altman
    1999, 10.1177/096228029900800204): below 0 where low values are predicted too high.

    Args:
        predicted: (n, 17), finite, in the unit of the columns.
        measured: (n, 17), nan where missing.
        resamples: of these n patients.
        confidence: of the intervals, for example .95.

    Returns:
        One ``{"region", "segments", "n", <each of QUANTITIES>: Estimate}`` for each of
        ``REGIONS``; n counts the patients in whom any segment of the region was measured.
    """
    return [_judge(region, predicted, measured, resamples, confidence) for region in REGIONS]


def judge_lowest(
    positive: np.ndarray,
    log_odds: np.ndarray | None,
    lowest: np.ndarray,
    resamples: Resamples,
    confidence: float,
) -> dict[str, Estimate]:
    """Return the AUC of minus the lowest predicted segment, and that of the logits minus it.

    Args:
        positive: bool, (n,); both classes present.
        log_odds: (n,), of the model's own two logits; None where they were not trained.
        lowest: (n,), each patient's lowest predicted segment value.
        resamples: of these n patients.
        confidence: for example .95.

    Returns:
        ``auc``, and where there are logits ``logit_auc`` and ``difference`` (logits minus lowest
        segment, paired).
    """
    alone = {"auc": describe_auc(positive, -lowest, resamples, confidence)}
    if log_odds is None:
        return alone
    return alone | {
        "logit_auc": describe_auc(positive, log_odds, resamples, confidence),
        "difference": compare_aucs(positive, log_odds, -lowest, resamples, confidence),
    }


def _judge(
    region: Region,
    predicted: np.ndarray,
    measured: np.ndarray,
    resamples: Resamples,
    confidence: float,
) -> dict[str, Any]:
    ours, truth = region_means(predicted, measured, region)
    known = np.isfinite(truth)
    n = int(known.sum())
    few = f"{n} patients, fewer than {FEWEST_OF_A_CLASS}" if n < FEWEST_OF_A_CLASS else None
    counts = resamples.counts[:, known]
    here = _errors(ours[known], truth[known], np.ones((1, n)))
    everywhere = _errors(ours[known], truth[known], counts)
    judged: dict[str, Any] = {"region": region.name, "segments": list(region.segments), "n": n}
    for name in QUANTITIES:
        undefined = int((~np.isfinite(everywhere[name])).sum())
        judged[name] = estimate_of(
            float(here[name][0]),
            n,
            [percentile_interval(everywhere[name], confidence)],
            undefined_resamples=undefined,
            unreliable=few or undefined_too_often(undefined / len(counts)),
        )
    return judged


def _errors(ours: np.ndarray, truth: np.ndarray, counts: np.ndarray) -> Mapping[str, np.ndarray]:
    """Return each of ``QUANTITIES`` in every row of multiplicities; nan where it is undefined."""
    # Centring first leaves the variances their digits.
    difference, average = ours - truth, (ours + truth) / 2
    centre = _mean(difference)
    about, level, across = difference - centre, truth - _mean(truth), average - _mean(average)
    terms = (
        *(np.ones_like(truth), np.abs(difference), difference**2),
        *(about, about**2, level, level**2, across, across**2, about * across),
    )
    n, absolute, squared, *sums = (counts @ np.stack(terms, axis=1)).T
    with np.errstate(invalid="ignore", divide="ignore"):
        bias = centre + sums[0] / n
        spread, total, width = (
            _positive(second - first**2 / n, second)
            for first, second in (sums[0:2], sums[2:4], sums[4:6])
        )
        # Differences that never vary are no reason to have no limits.
        deviation = np.sqrt(np.nan_to_num(spread) / np.where(n > 1, n - 1, np.nan))
        values = (
            absolute / n,
            bias,
            bias - LIMIT * deviation,
            bias + LIMIT * deviation,
            1 - squared / total,
            (sums[6] - sums[0] * sums[4] / n) / width,
        )
    return dict(zip(QUANTITIES, values, strict=True))


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if len(values) else 0.0


def _positive(squares: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """Return sums of squares, nan where they are nothing but rounding."""
    return np.where(squares > 1e-12 * scale, squares, np.nan)
