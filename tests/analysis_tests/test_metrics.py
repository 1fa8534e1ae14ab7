"""Point estimates and intervals of a classifier against scikit-learn and a plain loop."""

import json

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics as reference

from analysis.statistics.bootstrap import Resamples, draw_resamples
from analysis.statistics.metrics import (
    PROPORTIONS,
    compare_aucs,
    describe_classifier,
    log_odds_of,
    no_information_rate,
    probability_of,
    youden_threshold,
)

GENERATOR = np.random.default_rng(0)
POSITIVE = GENERATOR.random(50) < 0.4
PROBABILITY = np.clip(0.25 * POSITIVE + 0.7 * GENERATOR.random(50), 0.01, 1).round(2)
LOG_ODDS = np.log(PROBABILITY / (1 - PROBABILITY))
OTHER = np.clip(0.1 * POSITIVE + 0.8 * GENERATOR.random(50), 0, 1).round(2)
RESAMPLES = draw_resamples(POSITIVE, 150, generator=np.random.default_rng(1))

REFERENCES = {
    "accuracy": reference.accuracy_score,
    "balanced_accuracy": reference.balanced_accuracy_score,
    "sensitivity": reference.recall_score,
    "specificity": lambda p, c: reference.recall_score(p, c, pos_label=0),
    "ppv": reference.precision_score,
    "npv": lambda p, c: reference.precision_score(p, c, pos_label=0),
}


@pytest.mark.parametrize("name", PROPORTIONS)
def test_proportions_and_intervals_equal_a_plain_loop(name: str) -> None:
    described = describe_classifier(POSITIVE, LOG_ODDS, {"half": 0.5}, RESAMPLES, 0.9)
    found, called = described["thresholds"]["half"][name], PROBABILITY >= 0.5
    assert found["estimate"] == pytest.approx(REFERENCES[name](POSITIVE, called))
    loop = [REFERENCES[name](POSITIVE[rows], called[rows]) for rows in RESAMPLES.indices]
    low, high = np.quantile(loop, [0.05, 0.95])
    interval = found["intervals"]["percentile"]
    assert (interval["low"], interval["high"]) == pytest.approx((low, high))


def test_the_paired_difference_uses_the_same_resamples_for_both() -> None:
    found = compare_aucs(POSITIVE, PROBABILITY, OTHER, RESAMPLES, 0.9)
    auc = reference.roc_auc_score
    loop = [
        auc(POSITIVE[r], PROBABILITY[r]) - auc(POSITIVE[r], OTHER[r]) for r in RESAMPLES.indices
    ]
    low, high = np.quantile(loop, [0.05, 0.95])
    interval = found["intervals"]["percentile"]
    assert (interval["low"], interval["high"]) == pytest.approx((low, high))
    assert found["estimate"] == pytest.approx(auc(POSITIVE, PROBABILITY) - auc(POSITIVE, OTHER))
    assert found["intervals"].keys() == {"percentile"}  # BCa's is wrong too often
    itself = compare_aucs(POSITIVE, PROBABILITY, PROBABILITY, RESAMPLES, 0.9)
    assert itself["intervals"]["percentile"] == {"low": 0.0, "high": 0.0, "degenerate": True}


def test_bca_of_an_auc_equals_scipy_on_the_same_draws() -> None:
    drawn: list[np.ndarray] = []

    def auc(rows: np.ndarray) -> float:
        drawn.append(rows)
        return reference.roc_auc_score(POSITIVE[rows], PROBABILITY[rows])

    generator = np.random.default_rng(7)
    expected = stats.bootstrap(
        (np.arange(50),), auc, n_resamples=150, vectorized=False, rng=generator
    ).confidence_interval
    # scipy also asks for the sample itself, and for samples of 49 that leave a patient out.
    indices = np.array([r for r in drawn if len(r) == 50 and (r != np.arange(50)).any()])
    counts = np.array([np.bincount(rows, minlength=50) for rows in indices], dtype=float)
    resamples = Resamples(indices, counts, 0)
    assert len(indices) == 150
    described = describe_classifier(POSITIVE, PROBABILITY, {}, resamples, 0.95)
    found = described["auc"]["intervals"]["bca"]
    assert (found["low"], found["high"]) == pytest.approx((expected.low, expected.high), abs=1e-9)


def test_intervals_that_a_handful_of_patients_carries_are_marked() -> None:
    few = np.arange(50) < 9
    resamples = draw_resamples(few, 100, generator=np.random.default_rng(0))
    described = describe_classifier(few, LOG_ODDS, {"half": 0.5}, resamples, 0.95)
    why = "9 positive, fewer than 10"
    at_half = described["thresholds"]["half"]
    assert described["auc"]["unreliable"] == at_half["sensitivity"]["unreliable"] == why
    assert compare_aucs(few, LOG_ODDS, OTHER, resamples, 0.95)["unreliable"] == why
    assert described["brier"]["unreliable"] == why
    assert at_half["accuracy"]["unreliable"] is None


def test_a_predictive_value_of_very_few_calls_is_marked_as_unreliable() -> None:
    only_one = np.sort(PROBABILITY)[-1]
    described = describe_classifier(POSITIVE, LOG_ODDS, {"high": only_one}, RESAMPLES, 0.95)
    assert described["auc"]["unreliable"] is None
    ppv = described["thresholds"]["high"]["ppv"]
    share = ppv["undefined_resamples"] / len(RESAMPLES.counts)
    assert share > 0.01
    assert ppv["unreliable"] == f"undefined in {share:.1%} of the resamples"


def test_brier_score_equals_scikit_learn() -> None:
    described = describe_classifier(POSITIVE, LOG_ODDS, {}, RESAMPLES, 0.95)
    expected = reference.brier_score_loss(POSITIVE, PROBABILITY)
    assert described["brier"]["estimate"] == pytest.approx(expected)


def test_a_predictive_value_without_calls_is_undefined_not_zero() -> None:
    described = describe_classifier(POSITIVE, LOG_ODDS, {"never": 2.0}, RESAMPLES, 0.95)
    ppv = described["thresholds"]["never"]["ppv"]
    assert ppv["estimate"] is None
    assert ppv["undefined_resamples"] == len(RESAMPLES.counts)
    json.dumps(described, allow_nan=False)


def test_the_youden_threshold_maximises_sensitivity_plus_specificity() -> None:
    def gain(threshold: float) -> float:
        called = threshold <= PROBABILITY
        return float(called[POSITIVE].mean() - called[~POSITIVE].mean())

    best = max(gain(threshold) for threshold in np.linspace(0, 1, 1001))
    assert gain(youden_threshold(POSITIVE, PROBABILITY)) == pytest.approx(best)


def test_of_equal_thresholds_the_one_nearest_to_one_half_is_taken() -> None:
    positive = np.array([False, True, False, True])
    assert youden_threshold(positive, np.array([0.1, 0.6, 0.7, 0.95])) == 0.6


def test_probabilities_are_the_softmax_of_the_logits() -> None:
    logits = np.array([[0.0, 0.0], [1.0, -2.0], [-800.0, 800.0]], dtype=np.float32)
    expected = [0.5, 1 / (1 + np.exp(3.0)), 1.0]
    np.testing.assert_allclose(probability_of(log_odds_of(logits)), expected, rtol=1e-12)


def test_saturated_probabilities_do_not_tie_patients() -> None:
    logits = np.array([[0, 38], [-20, 25], [38, 0], [45, 0]], dtype=np.float32)
    log_odds, positive = log_odds_of(logits), np.array([False, True, False, False])
    assert log_odds.tolist() == [38, 45, -38, -45]
    assert probability_of(log_odds)[0] == probability_of(log_odds)[1] == 1
    resamples = draw_resamples(positive, 50, generator=np.random.default_rng(0))
    described = describe_classifier(positive, log_odds, {"half": 0.5}, resamples, 0.95)
    assert described["auc"]["estimate"] == 1
    assert described["auc"]["intervals"]["percentile"]["low"] == 1
    assert described["brier"]["estimate"] == pytest.approx(1 / 4)
    assert described["thresholds"]["half"]["counts"] == {"tp": 1, "fp": 1, "tn": 2, "fn": 0}


def test_the_no_information_rate_of_the_papers_diabetes() -> None:
    assert no_information_rate(np.arange(1000) < 154) == pytest.approx(0.846)
