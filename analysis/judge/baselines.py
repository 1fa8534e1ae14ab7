"""Logistic regression on the 17 segment values: what a model must beat to be worth its images."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits

from analysis.statistics.bootstrap import auc_of
from analysis.statistics.metrics import YOUDEN, probability_of, youden_threshold
from cohort.segments import segment_columns

UNPENALISED = "logistic_unpenalised"
L2 = "logistic_l2"
LABELS = {
    UNPENALISED: "logistic regression, unpenalised",
    L2: "logistic regression, L2",
}
# Inverse penalties that the folds choose from; the outer ones are out of every sensible range.
INVERSE_PENALTIES = tuple(float(value) for value in np.logspace(-4, 4, 9))


def fit_baselines(
    segments: Mapping[str, np.ndarray],
    inputs: Sequence[str],
    target: np.ndarray,
    folds: np.ndarray,
) -> dict[str, Any]:
    """Return both frozen logistic regressions, or the reason why there are none.

    Args:
        segments: by input name, float (n, 17), nan = missing; only inputs that have columns.
        inputs: the inputs of the study; several are concatenated.
        target: float (n,), 0/1, nan = missing (left out).
        folds: int (n,), the same folds as the search's.

    Returns:
        ``{"skipped": reason}`` or ``{"inputs": [...], "models": {name: description}}``. Each
        description holds ``means``, ``sds``, ``coefficients`` (of the standardised segments),
        ``intercept``, ``inverse_penalty`` (null = unpenalised), ``converged``, ``n``,
        ``fold_auc``, ``auc`` (their mean) and ``youden`` (threshold on out-of-fold probabilities).
    """
    absent = [name for name in inputs if name not in segments]
    if absent:
        columns = segment_columns("PREFIX")
        reason = (
            f"no 17 segment columns ({columns[0]} .. {columns[-1]}) for {', '.join(absent)}; "
            "cohort.baseline_segments names the prefixes"
        )
        return {"skipped": reason}
    known = np.isfinite(target)
    features = concatenate_segments(segments, inputs)[known]
    positive, kept_folds = target[known] == 1, folds[known]
    with threadpool_limits(limits=1):  # the last bit must not depend on the number of threads
        tuned = _tune(features, positive, kept_folds)
        models = {
            UNPENALISED: _describe(features, positive, kept_folds, np.inf),
            L2: _describe(features, positive, kept_folds, tuned),
        }
    return {"inputs": list(inputs), "models": models}


def fit_unpenalised(features: np.ndarray, target: np.ndarray, folds: np.ndarray) -> dict[str, Any]:
    """Return one frozen regression, unpenalised, of the labelled patients.

    Args:
        features: (n, columns), nan = missing.
        target: (n,), 0/1, nan = missing (left out).
        folds: (n,), the same as the search's.

    Returns:
        A description as in ``fit_baselines``.
    """
    known = np.isfinite(target)
    with threadpool_limits(limits=1):
        return _describe(features[known], target[known] == 1, folds[known], np.inf)


def concatenate_segments(segments: Mapping[str, np.ndarray], inputs: Sequence[str]) -> np.ndarray:
    """Return the features of the regressions, float64 (n, 17 x inputs)."""
    return np.concatenate([segments[name] for name in inputs], axis=1)


def predict_baseline(description: Mapping[str, Any], features: np.ndarray) -> np.ndarray:
    """Return log odds, (n,), from a frozen description; missing values become the mean."""
    means, sds = np.asarray(description["means"]), np.asarray(description["sds"])
    standardised = _standardise(features, means, sds)
    linear = standardised @ np.asarray(description["coefficients"]) + description["intercept"]
    return np.asarray(linear, dtype=np.float64)


def _tune(features: np.ndarray, positive: np.ndarray, folds: np.ndarray) -> float:
    """Return the inverse penalty with the highest mean fold AUC; the strongest penalty on ties."""
    means = [
        float(np.mean(_fold_aucs(_out_of_fold(features, positive, folds, c), positive, folds)))
        for c in INVERSE_PENALTIES
    ]
    return INVERSE_PENALTIES[int(np.argmax(means))]


def _describe(
    features: np.ndarray, positive: np.ndarray, folds: np.ndarray, inverse_penalty: float
) -> dict[str, Any]:
    out_of_fold = _out_of_fold(features, positive, folds, inverse_penalty)
    fold_auc = _fold_aucs(out_of_fold, positive, folds)
    return _fit(features, positive, inverse_penalty) | {
        "inverse_penalty": None if np.isinf(inverse_penalty) else inverse_penalty,
        "n": len(positive),
        "fold_auc": fold_auc,
        "auc": float(np.mean(fold_auc)),
        YOUDEN: youden_threshold(positive, probability_of(out_of_fold)),
    }


def _out_of_fold(
    features: np.ndarray, positive: np.ndarray, folds: np.ndarray, inverse_penalty: float
) -> np.ndarray:
    """Return each patient's log odds from the fold whose training left that patient out."""
    log_odds = np.empty(len(positive))
    for fold in np.unique(folds):
        held_out = folds == fold
        model = _fit(features[~held_out], positive[~held_out], inverse_penalty)
        log_odds[held_out] = predict_baseline(model, features[held_out])
    return log_odds


def _fold_aucs(log_odds: np.ndarray, positive: np.ndarray, folds: np.ndarray) -> list[float]:
    return [auc_of(positive[folds == f], log_odds[folds == f]) for f in np.unique(folds)]


def _fit(features: np.ndarray, positive: np.ndarray, inverse_penalty: float) -> dict[str, Any]:
    """Return a regression on these patients alone: their means and SDs standardise it."""
    observed = np.isfinite(features)
    seen = np.maximum(observed.sum(axis=0), 1)
    means = np.where(observed, features, 0.0).sum(axis=0) / seen
    centred = np.where(observed, features - means, 0.0)
    sds = np.sqrt((centred**2).sum(axis=0) / seen)
    sds = np.where(sds > 0, sds, 1.0)
    regression = LogisticRegression(C=inverse_penalty, max_iter=2000, tol=1e-6)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ConvergenceWarning)
        regression.fit(_standardise(features, means, sds), positive)
    return {
        "means": means.tolist(),
        "sds": sds.tolist(),
        "coefficients": regression.coef_[0].tolist(),
        "intercept": float(regression.intercept_[0]),
        "converged": not any(issubclass(w.category, ConvergenceWarning) for w in caught),
    }


def _standardise(features: np.ndarray, means: np.ndarray, sds: np.ndarray) -> np.ndarray:
    return np.asarray((np.where(np.isfinite(features), features, means) - means) / sds)
