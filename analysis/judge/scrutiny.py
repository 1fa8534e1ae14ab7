"""What else is asked of a judged model: calibration, decisions, subgroups, simpler predictors."""

from __future__ import annotations

from typing import Any

import numpy as np

from analysis.choose.choice import why_not_trained
from analysis.judge.calibration import describe_calibration
from analysis.judge.measure import Fixed
from analysis.judge.segment_values import OUT_OF_FOLD, RESAMPLES, TEST
from analysis.judge.simple_predictors import judge_simple_predictors
from analysis.judge.subgroups import judge_subgroups
from analysis.judge.traits import divide
from analysis.statistics.bootstrap import Resamples, draw_resamples
from analysis.statistics.decision import decision_curve
from analysis.statistics.metrics import log_odds_of, probability_of
from cohort.patients import Patients
from cohort.table import Cohort
from spaces.run_files import RunFiles, read_json, read_out_of_fold
from spaces.study import Study


def scrutinise(
    study: Study, fixed: Fixed, outcomes: Patients, resamples: Resamples
) -> dict[str, Any]:
    """Return simple predictors, calibration, subgroups and decision curve on any opened patients.

    Every definition was frozen beforehand, or stands in the study file. The simple predictors alone
    where the logits were not trained.

    Args:
        study: the study as run.
        fixed: what is judged.
        outcomes: the patients.
        resamples: of those with a label.
    """
    known, confidence = np.isfinite(outcomes.target), study.evaluation.confidence
    positive, logits = outcomes.target[known] == 1, fixed.logits[known]
    found = {"simple_predictors": judge_simple_predictors(study, fixed.simple, outcomes, resamples)}
    if why_not_trained(fixed.best) is not None:
        return found
    divided = divide(fixed.simple["traits"], outcomes.take(np.flatnonzero(known)))
    subgroups = judge_subgroups(positive, log_odds_of(logits), divided, resamples, confidence)
    return found | {
        "calibration": {TEST: describe_calibration(positive, logits, resamples, confidence)},
        "subgroups": {TEST: subgroups},
        "decision": _decide(study, positive, logits, resamples),
    }


def scrutinise_development(
    run: RunFiles, study: Study, cohort: Cohort, fixed: Fixed
) -> dict[str, Any]:
    """Return calibration and subgroups out-of-fold; empty where the logits were not trained.

    They are of development patients, and as flattered by the choice of the trial as its score is.
    """
    if why_not_trained(fixed.best) is not None:
        return {}
    confidence = study.evaluation.confidence
    positive, logits, drawn = _read_development(run, study, cohort)
    known = np.flatnonzero(np.isfinite(cohort.development.target))
    divided = divide(fixed.simple["traits"], cohort.development.take(known))
    subgroups = judge_subgroups(positive, log_odds_of(logits), divided, drawn, confidence)
    return {
        "calibration": {OUT_OF_FOLD: describe_calibration(positive, logits, drawn, confidence)},
        "subgroups": {OUT_OF_FOLD: subgroups},
    }


def _read_development(
    run: RunFiles, study: Study, cohort: Cohort
) -> tuple[np.ndarray, np.ndarray, Resamples]:
    """Return outcome, out-of-fold logits and resamples of the labelled development patients."""
    best = read_json(run.best, "best")
    logits = read_out_of_fold(run.out_of_fold_of(best["trial"]), best["oof_sha256"])
    known = np.isfinite(cohort.development.target)
    positive = cohort.development.target[known] == 1
    count = min(RESAMPLES, study.evaluation.bootstraps)
    drawn = draw_resamples(positive, count, generator=np.random.default_rng(study.seed))
    return positive, logits[best["epochs"] - 1][known], drawn


def _decide(
    study: Study, positive: np.ndarray, logits: np.ndarray, resamples: Resamples
) -> dict[str, Any] | None:
    """Return the decision curve on the test set; None unless a range was declared."""
    asked = study.evaluation.decision_range
    if asked is None:
        return None
    low, high = asked
    probability = probability_of(log_odds_of(logits))
    curve = decision_curve(
        positive, probability, (low, high), resamples, study.evaluation.confidence
    )
    return {"range": [low, high], "curve": curve.to_dict("records")}
