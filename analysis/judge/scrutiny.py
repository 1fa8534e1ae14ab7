"""What else is asked of a judged model: calibration, decisions, subgroups, simpler predictors."""

from __future__ import annotations

from typing import Any

import numpy as np

from analysis.choose.choice import why_not_trained
from analysis.judge.calibration import describe_calibration
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

SIMPLE = "simple_predictors.json"


def scrutinise(
    run: RunFiles,
    study: Study,
    cohort: Cohort,
    *,
    outcomes: Patients,
    logits: np.ndarray,
    resamples: Resamples,
) -> dict[str, Any]:
    """Return the simple predictors, calibration, subgroups and decision curve of metrics.json.

    Every definition was frozen beforehand, or stands in the study file. Out-of-fold results are of
    development patients, and as flattered by the choice of the trial as its score is. The simple
    predictors alone where the logits were not trained.

    Args:
        run: a run whose results were frozen.
        study: the study as run.
        cohort: its development patients.
        outcomes: the test patients.
        logits: (n, 2), of all test patients.
        resamples: of those with a label.
    """
    frozen = read_json(run.test / SIMPLE, "simple-predictors")
    simple = {"simple_predictors": judge_simple_predictors(study, frozen, outcomes, resamples)}
    if why_not_trained(read_json(run.best, "best")) is not None:
        return simple
    confidence = study.evaluation.confidence
    known = np.isfinite(outcomes.target)
    positive, test = outcomes.target[known] == 1, logits[known]
    seen, before, drawn = _read_development(run, study, cohort)
    development = cohort.development.take(np.flatnonzero(np.isfinite(cohort.development.target)))
    traits, tested = frozen["traits"], outcomes.take(np.flatnonzero(known))
    return simple | {
        "calibration": {
            OUT_OF_FOLD: describe_calibration(seen, before, drawn, confidence),
            TEST: describe_calibration(positive, test, resamples, confidence),
        },
        "subgroups": {
            OUT_OF_FOLD: judge_subgroups(
                seen, log_odds_of(before), divide(traits, development), drawn, confidence
            ),
            TEST: judge_subgroups(
                positive, log_odds_of(test), divide(traits, tested), resamples, confidence
            ),
        },
        "decision": _decide(study, positive, test, resamples),
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
