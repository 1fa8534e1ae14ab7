"""Logistic regression on segments: frozen, honest out of fold, equal to scikit-learn's."""

import json

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from analysis.judge.baselines import (
    INVERSE_PENALTIES,
    L2,
    UNPENALISED,
    fit_baselines,
    predict_baseline,
)
from analysis.statistics.bootstrap import auc_of
from analysis.statistics.metrics import probability_of

N = 200
GENERATOR = np.random.default_rng(0)
REST, STRESS = GENERATOR.normal(2, 0.5, (2, N, 17))
TARGET = (REST[:, 0] - STRESS[:, 4] + GENERATOR.normal(0, 0.3, N) > 0).astype(float)
FOLDS = GENERATOR.permutation(N) % 5


def test_the_frozen_regressions_predict_like_scikit_learn() -> None:
    frozen = json.loads(json.dumps(fit_baselines({"rest": REST}, ["rest"], TARGET, FOLDS)))
    for name, model in frozen["models"].items():
        c = np.inf if name == UNPENALISED else model["inverse_penalty"]
        pipeline = make_pipeline(StandardScaler(), LogisticRegression(C=c, tol=1e-8, max_iter=9999))
        expected = pipeline.fit(REST, TARGET).predict_proba(REST)[:, 1]
        found = probability_of(predict_baseline(model, REST))
        np.testing.assert_allclose(found, expected, atol=1e-3)


def fold_aucs(features: np.ndarray, inverse_penalty: float) -> list[float]:
    """Fold AUCs of scikit-learn's regression, standardised by each fold's training patients."""
    found = []
    for fold in range(5):
        here = fold == FOLDS
        regression = LogisticRegression(C=inverse_penalty, tol=1e-8, max_iter=9999)
        pipeline = make_pipeline(StandardScaler(), regression)
        pipeline.fit(features[~here], TARGET[~here])
        score = pipeline.decision_function(features[here])
        found.append(auc_of(TARGET[here] == 1, score))
    return found


def test_the_penalty_is_the_one_with_the_highest_mean_fold_auc() -> None:
    means = [np.mean(fold_aucs(REST, c)) for c in INVERSE_PENALTIES]
    model = fit_baselines({"rest": REST}, ["rest"], TARGET, FOLDS)["models"][L2]
    chosen = INVERSE_PENALTIES.index(model["inverse_penalty"])
    assert means[chosen] == pytest.approx(max(means), abs=1e-3)
    assert model["auc"] == pytest.approx(max(means), abs=1e-3)
    assert max(means) > min(means) + 0.02


def test_out_of_fold_patients_are_standardised_by_the_others() -> None:
    # Were she counted, her value would shrink everybody's, and the penalty undo the segment.
    outlier = REST.copy()
    outlier[np.flatnonzero(FOLDS == 0)[0], 0] = 1e5
    model = fit_baselines({"rest": outlier}, ["rest"], TARGET, FOLDS)["models"][L2]
    expected = fold_aucs(outlier, model["inverse_penalty"])
    assert model["fold_auc"] == pytest.approx(expected, abs=0.005)
    assert model["fold_auc"][0] > 0.6


def test_predictions_beyond_any_probability_are_still_told_apart() -> None:
    one = {"means": [0.0], "sds": [1.0], "coefficients": [2.0], "intercept": -2.0}
    found = predict_baseline(one, np.array([[20.0], [23.5], [-18.0], [-21.5]]))
    assert found.tolist() == [38, 45, -38, -45]


def test_stacked_inputs_are_concatenated_in_the_order_of_the_study() -> None:
    segments = {"rest": REST, "stress": STRESS}
    both = fit_baselines(segments, ["stress", "rest"], TARGET, FOLDS)["models"][L2]
    alone = fit_baselines(segments, ["rest"], TARGET, FOLDS)["models"][L2]
    assert len(both["coefficients"]) == 34
    assert both["means"][:17] == pytest.approx(STRESS.mean(axis=0))
    assert both["auc"] > alone["auc"] + 0.05


def test_out_of_fold_auc_of_noise_is_near_one_half() -> None:
    noise = np.random.default_rng(5).permutation(TARGET)
    models = fit_baselines({"rest": REST}, ["rest"], noise, FOLDS)["models"]
    assert models[UNPENALISED]["auc"] == pytest.approx(0.5, abs=0.12)


def test_missing_segments_become_the_development_mean() -> None:
    holes = REST.copy()
    holes[3, 2] = holes[8, 2] = np.nan
    model = fit_baselines({"rest": holes}, ["rest"], TARGET, FOLDS)["models"][L2]
    assert model["means"][2] == pytest.approx(np.nanmean(holes[:, 2]))
    filled = holes.copy()
    filled[[3, 8], 2] = np.nanmean(holes[:, 2])
    np.testing.assert_allclose(predict_baseline(model, holes), predict_baseline(model, filled))


def test_a_segment_nobody_has_is_harmless() -> None:
    empty = REST.copy()
    empty[:, 6] = np.nan
    model = fit_baselines({"rest": empty}, ["rest"], TARGET, FOLDS)["models"][L2]
    assert np.isfinite(predict_baseline(model, empty)).all()
    assert model["coefficients"][6] == 0


def test_unlabelled_patients_do_not_count() -> None:
    target = TARGET.copy()
    target[:20] = np.nan
    frozen = fit_baselines({"rest": REST}, ["rest"], target, FOLDS)
    kept = fit_baselines({"rest": REST[20:]}, ["rest"], target[20:], FOLDS[20:])
    assert frozen == kept
    assert frozen["models"][L2]["n"] == N - 20


def test_without_segments_it_is_skipped_with_a_reason() -> None:
    skipped = fit_baselines({"rest": REST}, ["rest", "stress"], TARGET, FOLDS)
    assert skipped.keys() == {"skipped"}
    assert "for stress" in skipped["skipped"]
