"""Logistic regression on segments: frozen, honest out of fold, equal to scikit-learn's."""

import json

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from analysis.baselines import L2, UNPENALISED, fit_baselines, predict_baseline

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
        np.testing.assert_allclose(predict_baseline(model, REST), expected, atol=1e-3)


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
