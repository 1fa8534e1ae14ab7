"""Every interval against an independent reference."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn.metrics import roc_auc_score

from analysis.statistics.bootstrap import (
    Resamples,
    auc_of,
    bca_interval,
    clopper_pearson_interval,
    delong_variance,
    draw_resamples,
    jackknife_auc,
    logit_delong_interval,
    percentile_interval,
    weighted_auc,
    why_unreliable,
)


def draw_patients(n: int, *, seed: int = 0, ties: bool = True) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    positive = generator.permutation(n) < n // 3
    score = positive + generator.normal(0, 1.2, n)
    return positive, np.round(score, 1) if ties else score


@given(st.integers(0, 10_000), st.booleans())
def test_auc_equals_scikit_learn(seed: int, ties: bool) -> None:
    positive, score = draw_patients(25, seed=seed, ties=ties)
    assert auc_of(positive, score) == pytest.approx(roc_auc_score(positive, score), abs=1e-12)


def test_auc_is_undefined_without_a_class() -> None:
    assert np.isnan(auc_of(np.array([True, True]), np.array([0.1, 0.2])))


@pytest.mark.parametrize("ties", [True, False])
@pytest.mark.parametrize("n", [6, 40])
def test_resampled_aucs_equal_a_plain_loop_over_scikit_learn(n: int, ties: bool) -> None:
    positive, score = draw_patients(n, ties=ties)
    resamples = draw_resamples(positive, 200, generator=np.random.default_rng(1))
    loop = [roc_auc_score(positive[rows], score[rows]) for rows in resamples.indices]
    np.testing.assert_allclose(weighted_auc(positive, score, resamples.counts), loop, atol=1e-12)


def test_the_multiplicities_are_those_of_the_indices() -> None:
    positive, _ = draw_patients(20)
    resamples = draw_resamples(positive, 50, generator=np.random.default_rng(1))
    loop = [np.bincount(rows, minlength=20) for rows in resamples.indices]
    np.testing.assert_array_equal(resamples.counts, loop)


def test_one_class_resamples_are_counted_and_redrawn() -> None:
    positive = np.array([True, False, False, False])
    resamples = draw_resamples(positive, 1000, generator=np.random.default_rng(2))
    # A draw of 4 lacks the positive with probability .75 ** 4, and the negatives with .25 ** 4.
    lost = 0.75**4 + 0.25**4
    assert resamples.redrawn == pytest.approx(1000 * lost / (1 - lost), rel=0.2)
    drawn = positive[resamples.indices]
    assert (drawn.any(axis=1) & ~drawn.all(axis=1)).all()


def test_resampling_leaves_the_global_generator_alone() -> None:
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    draw_resamples(np.array([True, False]), 10, generator=np.random.default_rng(0))
    np.testing.assert_array_equal(before, np.random.get_state()[1])  # noqa: NPY002


def test_a_single_class_cannot_be_resampled() -> None:
    with pytest.raises(ValueError, match="patients of both classes"):
        draw_resamples(np.array([True, True]), 10, generator=np.random.default_rng(0))


def test_bca_and_percentile_equal_scipy_on_the_same_distribution() -> None:
    positive, score = draw_patients(40)
    results = {}
    for method in ("BCa", "percentile"):
        results[method] = stats.bootstrap(
            (positive, score),
            lambda p, s: auc_of(p.astype(bool), s),
            paired=True,
            vectorized=False,
            n_resamples=400,
            method=method,
            rng=np.random.default_rng(4),
        )
    distribution = results["BCa"].bootstrap_distribution
    left_out = jackknife_auc(positive, score)
    bca = bca_interval(distribution, auc_of(positive, score), left_out, 0.95)
    expected = results["BCa"].confidence_interval
    assert (bca.low, bca.high) == pytest.approx((expected.low, expected.high), abs=1e-9)
    percentile = percentile_interval(results["percentile"].bootstrap_distribution, 0.95)
    expected = results["percentile"].confidence_interval
    assert (percentile.low, percentile.high) == pytest.approx((expected.low, expected.high))


def test_resamples_that_equal_the_estimate_count_half_as_in_scipy() -> None:
    right = np.arange(20) < 15
    result = stats.bootstrap((right,), np.mean, n_resamples=300, rng=np.random.default_rng(4))
    left_out = np.array([np.delete(right, i).mean() for i in range(20)])
    bca = bca_interval(result.bootstrap_distribution, right.mean(), left_out, 0.95)
    expected = result.confidence_interval
    assert (bca.low, bca.high) == pytest.approx((expected.low, expected.high), abs=1e-9)
    assert np.mean(result.bootstrap_distribution == right.mean()) > 0.1


@settings(max_examples=25)
@given(st.integers(0, 10_000), st.booleans())
def test_the_jackknife_leaves_out_one_patient_at_a_time(seed: int, ties: bool) -> None:
    positive, score = draw_patients(12, seed=seed, ties=ties)
    loop = [
        roc_auc_score(np.delete(positive, i), np.delete(score, i)) for i in range(len(positive))
    ]
    np.testing.assert_allclose(jackknife_auc(positive, score), loop, atol=1e-12)


def reference_delong_variance(positive: np.ndarray, score: np.ndarray) -> float:
    """DeLong et al. 1988 by their definition: placement values over all pairs."""
    cases, controls = score[positive], score[~positive]
    kernel = (cases[:, None] > controls) + 0.5 * (cases[:, None] == controls)
    of_cases, of_controls = kernel.mean(axis=1), kernel.mean(axis=0)
    return of_cases.var(ddof=1) / len(cases) + of_controls.var(ddof=1) / len(controls)


@given(st.integers(0, 10_000), st.booleans())
def test_delong_equals_the_definition(seed: int, ties: bool) -> None:
    positive, score = draw_patients(21, seed=seed, ties=ties)
    expected = reference_delong_variance(positive, score)
    assert delong_variance(positive, score) == pytest.approx(expected, rel=1e-9, abs=1e-15)


def test_the_logit_interval_is_delongs_on_the_logit_scale() -> None:
    positive, score = draw_patients(60)
    auc = roc_auc_score(positive, score)
    se = np.sqrt(reference_delong_variance(positive, score)) / (auc * (1 - auc))
    logit = np.log(auc / (1 - auc))
    expected = [1 / (1 + np.exp(-(logit + z * se))) for z in (-1.959964, 1.959964)]
    interval = logit_delong_interval(positive, score, 0.95)
    assert (interval.low, interval.high) == pytest.approx(expected, abs=1e-6)


def test_at_an_auc_of_one_every_interval_is_flagged_as_degenerate() -> None:
    positive = np.arange(20) >= 10
    score = np.arange(20.0)
    resamples = draw_resamples(positive, 100, generator=np.random.default_rng(0))
    distribution = weighted_auc(positive, score, resamples.counts)
    left_out = jackknife_auc(positive, score)
    for interval in (
        percentile_interval(distribution, 0.95),
        bca_interval(distribution, 1.0, left_out, 0.95),
        logit_delong_interval(positive, score, 0.95),
    ):
        assert interval.as_dict() == {"low": 1.0, "high": 1.0, "degenerate": True}


def test_bca_is_undefined_when_one_patient_carries_a_class() -> None:
    positive = np.array([True, False, False, False, False])
    score = np.array([0.3, 0.1, 0.5, 0.2, 0.4])
    left_out = jackknife_auc(positive, score)
    assert np.isnan(left_out).tolist() == positive.tolist()
    interval = bca_interval(np.array([0.2, 0.4, 0.6]), 0.5, left_out, 0.95)
    assert interval.as_dict() == {"low": None, "high": None, "degenerate": False}


def test_clopper_pearson_equals_the_beta_quantiles() -> None:
    interval = clopper_pearson_interval(75, 93, 0.95)
    expected = stats.beta.ppf([0.025, 0.975], [75, 76], [19, 18])
    assert (interval.low, interval.high) == pytest.approx(tuple(expected))


@pytest.mark.parametrize("right", [0, 93])
def test_clopper_pearson_keeps_a_width_at_none_and_all(right: int) -> None:
    interval = clopper_pearson_interval(right, 93, 0.95)
    nearest = 0.025 ** (1 / 93)  # (1 - p) ** n = alpha / 2
    expected = (0.0, 1 - nearest) if right == 0 else (nearest, 1.0)
    assert (interval.low, interval.high) == pytest.approx(expected)
    assert not interval.is_degenerate


@pytest.mark.parametrize("estimate", [-5.0, 5.0])
def test_bca_is_undefined_when_the_estimate_lies_outside_the_distribution(estimate: float) -> None:
    distribution = np.random.default_rng(0).normal(size=500)
    interval = bca_interval(distribution, estimate, np.linspace(-1, 1, 100), 0.95)
    assert not interval.is_defined
    assert bca_interval(distribution, 0.0, np.linspace(-1, 1, 100), 0.95).is_defined


def test_bca_takes_a_difference_that_misses_the_estimate_by_its_last_bit_for_equal() -> None:
    exact = np.repeat([0.1, 0.2, 0.4], 100)
    inexact = np.where(exact == 0.2, 0.3 - 0.1, exact)
    assert inexact[150] != 0.2
    jackknife = np.linspace(0.1, 0.4, 20) ** 2
    expected = bca_interval(exact, 0.2, jackknife, 0.8)
    found = bca_interval(inexact, 0.2, jackknife, 0.8)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=1e-9)


@pytest.mark.parametrize(
    ("positives", "redrawn", "why"),
    [
        (9, 0, "9 positive, fewer than 10"),
        (85, 0, "8 negative, fewer than 10"),
        (30, 11, "undefined in 1.1% of the resamples"),
        (10, 10, None),
    ],
)
def test_few_patients_or_many_redraws_make_an_interval_unreliable(
    positives: int, redrawn: int, why: str | None
) -> None:
    positive = np.arange(93) < positives
    resamples = Resamples(np.zeros((1000, 93), dtype=int), np.ones((1000, 93)), redrawn)
    assert why_unreliable(positive, resamples) == why
