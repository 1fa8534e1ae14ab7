"""What a frozen model is worth on patients whose outcomes were opened."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from analysis.choose.choice import why_not_trained
from analysis.judge.baselines import L2, concatenate_segments, predict_baseline
from analysis.judge.metric_tables import MODEL, ROC, write_roc
from analysis.judge.segment_values import (
    NO_SEGMENTS,
    Readings,
    bland_altman,
    judge_test_segments,
    why_not_judged,
)
from analysis.statistics.bootstrap import Resamples, draw_resamples
from analysis.statistics.chance import permutation_p
from analysis.statistics.metrics import (
    HALF,
    YOUDEN,
    compare_aucs,
    describe_classifier,
    log_odds_of,
    no_information_rate,
)
from cohort.patients import Patients
from spaces.csv_files import write_csv
from spaces.errors import InputError
from spaces.judged_files import JudgedFiles
from spaces.study import Study


@dataclass(frozen=True, eq=False)
class Fixed:
    """What stood before any outcome was opened.

    Attributes:
        thresholds: probabilities by name.
        baselines: of baselines.json.
        simple: the simple predictors, and the traits that divide subgroups.
        best: of best.json.
        logits: (n, 2), of all patients that are judged.
        segments: (n, 17), or None.
    """

    thresholds: Mapping[str, float]
    baselines: Mapping[str, Any]
    simple: Mapping[str, Any]
    best: Mapping[str, Any]
    logits: np.ndarray
    segments: np.ndarray | None


def measure(
    study: Study, fixed: Fixed, outcomes: Patients, files: JudgedFiles
) -> tuple[dict[str, Any], Resamples]:
    """Return what is measured on any opened patients; write their ROC and Bland-Altman points.

    Args:
        study: the study as run.
        fixed: what is judged.
        outcomes: the patients, in the order of the predictions.
        files: of this judgement.

    Returns:
        The part of metrics.json that every judgement has, and the resamples of labelled patients.

    Raises:
        InputError: they are of one class.
    """
    known = np.isfinite(outcomes.target)
    positive = outcomes.target[known] == 1
    if positive.all() or not positive.any():
        raise InputError(
            "test set", f"all {len(positive)} labelled patients are of one class", "Split anew"
        )
    settings = study.evaluation
    generator = np.random.default_rng(study.seed)
    resamples = draw_resamples(positive, settings.bootstraps, generator=generator)
    reason = why_not_trained(fixed.best)
    model = log_odds_of(fixed.logits)[known]
    log_odds = _predict_baselines(fixed.baselines, outcomes)
    if reason is None:
        log_odds = {MODEL: model, **log_odds}
    write_roc(files.folder / ROC, positive, log_odds)
    content = {
        "target": study.cohort.target,
        "inputs": list(study.cohort.inputs),
        "n": len(positive),
        "positives": int(positive.sum()),
        "missing": int((~known).sum()),
        "no_information_rate": no_information_rate(positive),
        "confidence": settings.confidence,
        "bootstraps": settings.bootstraps,
        "redrawn": resamples.redrawn,
        "seed": study.seed,
        "permutation_p": None if reason else permutation_p(positive, model, generator=generator),
        MODEL: {"skipped": reason}
        if reason
        else describe_classifier(positive, model, fixed.thresholds, resamples, settings.confidence),
        **_compare_with_baselines(fixed.baselines, positive, log_odds, resamples, study),
        "segments": _measure_segments(study, fixed, outcomes, resamples, files),
    }
    return content, resamples


def _predict_baselines(baselines: Mapping[str, Any], outcomes: Patients) -> dict[str, np.ndarray]:
    """Return the labelled patients' log odds from each frozen regression, if there are any."""
    if "skipped" in baselines:
        return {}
    known = np.isfinite(outcomes.target)
    features = concatenate_segments(outcomes.baseline_segments, baselines["inputs"])[known]
    return {name: predict_baseline(model, features) for name, model in baselines["models"].items()}


def _compare_with_baselines(
    baselines: Mapping[str, Any],
    positive: np.ndarray,
    log_odds: Mapping[str, np.ndarray],
    resamples: Resamples,
    study: Study,
) -> dict[str, Any]:
    """Return the frozen regressions' metrics and the model's AUC minus theirs, if it has one."""
    if "skipped" in baselines:
        return {"baselines": {"skipped": baselines["skipped"]}, "differences": {}}
    measured, differences, confidence = {}, {}, study.evaluation.confidence
    for name, description in baselines["models"].items():
        its, thresholds = log_odds[name], {HALF: 0.5, YOUDEN: description[YOUDEN]}
        measured[name] = describe_classifier(positive, its, thresholds, resamples, confidence)
        if MODEL in log_odds:
            model = log_odds[MODEL]
            differences[name] = compare_aucs(positive, model, its, resamples, confidence)
    return {"baselines": measured, "differences": differences, "primary_comparison": L2}


def _measure_segments(
    study: Study, fixed: Fixed, outcomes: Patients, resamples: Resamples, files: JudgedFiles
) -> dict[str, Any]:
    """Return the errors of the predicted segment values, or why there are none."""
    reason = why_not_judged(study, fixed.best)
    if reason is not None or outcomes.segments is None or fixed.segments is None:
        return {"skipped": reason or NO_SEGMENTS}
    known = np.isfinite(outcomes.target)
    readings = Readings(
        outcomes.target[known] == 1,
        None if why_not_trained(fixed.best) else log_odds_of(fixed.logits)[known],
        fixed.segments[known],
        outcomes.segments[known],
    )
    write_csv(files.bland_altman, bland_altman(readings.predicted, readings.measured))
    return judge_test_segments(study, readings, resamples)
