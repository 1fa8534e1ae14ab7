"""What tells the classes apart without a network: each input's segments, one mean, age and sex.

All of them are fitted on development patients and frozen before the test set is opened.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from analysis.judge.baselines import (
    L2,
    LABELS,
    UNPENALISED,
    fit_baselines,
    fit_unpenalised,
    predict_baseline,
)
from analysis.judge.characteristics import mean_of_known, segment_values
from analysis.judge.traits import AGE, SEX, known_in, learn_traits, read_age, read_sex
from analysis.statistics.bootstrap import Resamples
from analysis.statistics.metrics import HALF, YOUDEN, describe_auc, describe_classifier
from cohort.patients import Patients
from cohort.segments import indices_of
from spaces.study import Study

SIMPLE = "simple_predictors.json"
INPUT, READING, MEAN, TRAITS = "input", "reading", "mean", "traits"
AS_READ = "reading task: the target is defined by this value, so its AUC is 1 by definition"


def fit_simple_predictors(study: Study, development: Patients, folds: np.ndarray) -> dict[str, Any]:
    """Return every simple predictor that the cohort has columns for, by name.

    ``input``: both logistic regressions on the 17 segment values of each input that the study
    names, its own or not. ``reading``: minus the lowest value of the segments that a derived
    target is made of, the rule itself. ``mean``: the mean of the 17 values of each prefix.
    ``traits``: age and sex, those of them that exist and are not the target.

    Returns:
        ``{"traits", "predictors": {name: {"kind", "label", ...}}}``.
    """
    traits = learn_traits(study, development)
    values, target = segment_values(study, development), development.target
    found: dict[str, Any] = {}
    for name, prefix in study.cohort.baseline_segments.items():
        if prefix in values and [name] != study.cohort.inputs:
            fitted = fit_baselines({name: values[prefix]}, [name], target, folds)["models"]
            for kind in (UNPENALISED, L2):
                label = f"{LABELS[kind]}, {name} alone"
                its = {"kind": INPUT, "label": label, "columns": prefix}
                found[f"{kind}_{name}"] = its | {"model": fitted[kind]}
    rule = study.cohort.derive.get(study.cohort.target)
    if rule is not None and rule.columns in values:
        asked = indices_of(rule.segments)
        found["lowest_segment"] = {
            "kind": READING,
            "label": f"lowest measured segment ({rule.columns}, {rule.segments})",
            "columns": rule.columns,
            "segments": [index + 1 for index in asked],
        }
    for prefix, segments in values.items():
        model = fit_unpenalised(mean_of_known(segments)[:, None], target, folds)
        label = f"mean of the 17 segments ({prefix})"
        found[f"mean_{prefix}"] = {
            "kind": MEAN,
            "label": label,
            "columns": prefix,
            "model": model,
        }
    if traits:
        model = fit_unpenalised(_trait_values(traits, development), target, folds)
        label = " and ".join(traits[name]["column"] for name in (AGE, SEX) if name in traits)
        found["_".join(name for name in (AGE, SEX) if name in traits)] = {
            "kind": TRAITS,
            "label": label,
            "columns": label,
            "model": model,
        }
    return {"traits": traits, "predictors": found}


def judge_simple_predictors(
    study: Study,
    frozen: Mapping[str, Any],
    outcomes: Patients,
    resamples: Resamples,
) -> dict[str, Any]:
    """Return how each frozen predictor does on labelled, opened patients, by its name.

    One whose columns these patients do not have is left out.

    Args:
        study: the study as run.
        frozen: of ``fit_simple_predictors``.
        outcomes: the patients.
        resamples: of those with a label, the same as the model's.

    Returns:
        ``kind``, ``label``, ``columns``, the development AUC ``development_auc`` (mean over folds)
        and what ``describe_classifier`` says; of the reading task the AUC alone, with a ``note``.
    """
    known, confidence = np.isfinite(outcomes.target), study.evaluation.confidence
    positive, judged = outcomes.target[known] == 1, {}
    values = segment_values(study, outcomes)
    has_traits = known_in(frozen["traits"], outcomes).keys() == frozen["traits"].keys()
    for name, its in frozen["predictors"].items():
        if not (has_traits if its["kind"] == TRAITS else its["columns"] in values):
            continue
        head = {key: its[key] for key in ("kind", "label", "columns")}
        if its["kind"] == READING:
            columns = [number - 1 for number in its["segments"]]
            score = -np.nanmin(values[its["columns"]][known][:, columns], axis=1)
            auc = describe_auc(positive, score, resamples, confidence)
            judged[name] = head | {"note": AS_READ, "development_auc": None, "auc": auc}
            continue
        if its["kind"] == INPUT:
            features = values[its["columns"]]
        elif its["kind"] == MEAN:
            features = mean_of_known(values[its["columns"]])[:, None]
        else:
            features = _trait_values(frozen["traits"], outcomes)
        log_odds = predict_baseline(its["model"], features[known])
        thresholds = {HALF: 0.5, YOUDEN: its["model"][YOUDEN]}
        described = describe_classifier(positive, log_odds, thresholds, resamples, confidence)
        judged[name] = head | {"note": None, "development_auc": its["model"]["auc"]} | described
    return judged


def _trait_values(traits: Mapping[str, Any], patients: Patients) -> np.ndarray:
    readers = {AGE: read_age, SEX: read_sex}
    columns = [readers[name](traits, patients) for name in (AGE, SEX) if name in traits]
    return np.stack(columns, axis=1)
