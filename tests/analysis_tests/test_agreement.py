"""Predicted against measured segment values, beside numpy, scipy and scikit-learn."""

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import mean_absolute_error, r2_score, roc_auc_score

from analysis.judge.segment_values import asked_segments, bland_altman
from analysis.report.agreement_figures import MOST_DOTS, thinned
from analysis.statistics.agreement import (
    QUANTITIES,
    REGIONS,
    judge_lowest,
    judge_regions,
    region_means,
)
from analysis.statistics.bootstrap import Resamples, draw_resamples, logit_delong_interval
from cohort.segments import TERRITORIES
from spaces.sections import CohortSection, DerivedTarget

PATIENTS = 45


@pytest.fixture
def values() -> tuple[np.ndarray, np.ndarray]:
    """Predicted and measured values; one in twelve was not measured, nothing in patient 9."""
    generator = np.random.default_rng(1)
    measured = generator.normal(2.4, 0.6, (PATIENTS, 1)) + generator.normal(0, 0.3, (PATIENTS, 17))
    predicted = 0.7 * measured + 0.9 + generator.normal(0, 0.2, measured.shape)
    measured[generator.random(measured.shape) < 1 / 12] = np.nan
    measured[9] = np.nan
    return predicted.astype(np.float32), measured


@pytest.fixture
def positive() -> np.ndarray:
    return np.arange(PATIENTS) % 3 == 0


@pytest.fixture
def resamples(positive: np.ndarray) -> Resamples:
    return draw_resamples(positive, 120, generator=np.random.default_rng(2))


def by_hand(
    predicted: np.ndarray, measured: np.ndarray, segments: tuple[int, ...]
) -> dict[str, float]:
    """Every quantity, patient by patient."""
    ours, truth = [], []
    for row, known in zip(predicted, measured, strict=True):
        there = [s - 1 for s in segments if np.isfinite(known[s - 1])]
        if there:
            ours.append(np.mean(row[there], dtype=np.float64))
            truth.append(np.mean(known[there]))
    a, b = np.array(ours), np.array(truth)
    spread = 1.96 * np.std(a - b, ddof=1)
    return {
        "mean_absolute_error": mean_absolute_error(b, a),
        "bias": np.mean(a - b),
        "lower_limit": np.mean(a - b) - spread,
        "upper_limit": np.mean(a - b) + spread,
        "r_squared": r2_score(b, a),
        "slope": stats.linregress((a + b) / 2, a - b).slope,
    }


def test_every_region_is_that_of_numpy_scipy_and_scikit_learn(
    values: tuple[np.ndarray, np.ndarray], resamples: Resamples
) -> None:
    found = judge_regions(*values, resamples, 0.9)
    assert [region["region"] for region in found] == [region.name for region in REGIONS]
    assert len(found) == 1 + 3 + 17
    for region in found:
        expected = by_hand(*values, tuple(region["segments"]))
        assert {name: region[name]["estimate"] for name in QUANTITIES} == pytest.approx(expected)
        assert region["n"] <= PATIENTS - 1


@pytest.mark.parametrize("at", [0, 2, 6])
def test_intervals_are_percentiles_over_whole_patients(
    values: tuple[np.ndarray, np.ndarray], resamples: Resamples, at: int
) -> None:
    region = judge_regions(*values, resamples, 0.9)[at]
    drawn = [
        by_hand(*(its[rows] for its in values), tuple(region["segments"]))
        for rows in resamples.indices
    ]
    for name in QUANTITIES:
        low, high = np.percentile([its[name] for its in drawn], [5, 95])
        interval = region[name]["intervals"]["percentile"]
        assert (interval["low"], interval["high"]) == pytest.approx((low, high))
        assert region[name]["n"] == region["n"]


def test_both_means_are_over_the_segments_that_were_measured() -> None:
    measured = np.full((2, 17), np.nan)
    measured[0, [0, 6]] = 1.0, 3.0
    predicted = np.arange(17.0)[None].repeat(2, axis=0)
    [lad] = [region for region in REGIONS if region.name == "LAD"]
    assert lad.segments == TERRITORIES["LAD"]
    ours, truth = region_means(predicted, measured, lad)
    assert (ours[0], truth[0]) == (3.0, 2.0)
    assert np.isnan([ours[1], truth[1]]).all()


def test_few_patients_and_values_that_never_vary_are_marked(positive: np.ndarray) -> None:
    measured = np.full((PATIENTS, 17), np.nan)
    measured[:7, 0], measured[:, 1] = np.arange(7.0), 2.0
    predicted = np.nan_to_num(measured) + 0.5
    resamples = draw_resamples(positive, 100, generator=np.random.default_rng(0))
    found = {its["region"]: its for its in judge_regions(predicted, measured, resamples, 0.95)}
    assert found["segment_01"]["bias"]["unreliable"] == "7 patients, fewer than 10"
    assert found["segment_02"]["bias"]["unreliable"] is None
    assert found["segment_02"]["lower_limit"]["estimate"] == pytest.approx(0.5)
    assert found["segment_02"]["r_squared"]["estimate"] is None
    assert found["segment_02"]["r_squared"]["unreliable"] == "undefined in 100.0% of the resamples"
    assert found["segment_03"]["n"] == 0
    assert found["segment_03"]["bias"]["estimate"] is None


def test_the_lowest_segment_ranks_patients_as_scikit_learn_says(
    values: tuple[np.ndarray, np.ndarray], positive: np.ndarray, resamples: Resamples
) -> None:
    lowest = values[0].min(axis=1)
    log_odds = np.random.default_rng(3).normal(size=PATIENTS) + positive
    found = judge_lowest(positive, log_odds, lowest, resamples, 0.95)
    auc, logit = roc_auc_score(positive, -lowest), roc_auc_score(positive, log_odds)
    assert found["auc"]["estimate"] == pytest.approx(auc)
    assert found["logit_auc"]["estimate"] == pytest.approx(logit)
    assert found["difference"]["estimate"] == pytest.approx(logit - auc)
    expected = logit_delong_interval(positive, -lowest, 0.95)
    assert found["auc"]["intervals"]["logit_delong"]["low"] == pytest.approx(expected.low)
    drawn = [
        roc_auc_score(positive[rows], log_odds[rows]) - roc_auc_score(positive[rows], -lowest[rows])
        for rows in resamples.indices
    ]
    interval = found["difference"]["intervals"]["percentile"]
    assert (interval["low"], interval["high"]) == pytest.approx(np.percentile(drawn, [2.5, 97.5]))


@pytest.mark.parametrize(
    ("rule", "segments"),
    [
        (DerivedTarget(below=2.0), range(17)),
        (DerivedTarget(below=2.0, segments="RCA"), [2, 3, 8, 9, 14]),
        (DerivedTarget(below=1.0, segments="RCA", columns="stress_mbf"), range(17)),
        (None, range(17)),
    ],
)
def test_the_second_classifier_looks_where_the_target_looks(
    rule: DerivedTarget | None, segments: list[int]
) -> None:
    section = CohortSection(
        path="c.csv",
        inputs=["reserve"],
        target="impaired",
        derive={"impaired": rule} if rule else {},
        colour_scale="fixed",
    )
    assert asked_segments(section) == list(segments)


def test_points_are_sorted_so_that_no_row_tells_whose_it_is(
    values: tuple[np.ndarray, np.ndarray],
) -> None:
    points = bland_altman(*values)
    ours, truth = region_means(*values, REGIONS[0])
    assert len(points) == PATIENTS - 1
    assert points["average"].is_monotonic_increasing
    assert sorted(points["difference"]) == pytest.approx(
        sorted((ours - truth)[truth > 0]), abs=6e-4
    )
    shuffled = np.random.default_rng(4).permutation(PATIENTS)
    assert points.equals(bland_altman(*(its[shuffled] for its in values)))


def test_many_patients_are_thinned_evenly(values: tuple[np.ndarray, np.ndarray]) -> None:
    points = bland_altman(*values)
    assert thinned(points) is points
    many = points.sample(2 * MOST_DOTS + 1, replace=True, random_state=0)
    assert len(thinned(many)) == -(-len(many) // 3)
