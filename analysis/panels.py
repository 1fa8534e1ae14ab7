"""Which figures the report shows, of which numbers; writes those numbers beside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from analysis import figures
from analysis.answer import SPACE, number
from analysis.baselines import L2
from analysis.bootstrap import BCA, LOGIT_DELONG, PERCENTILE
from analysis.curves import calibrate, learning_curves, trial_table
from analysis.figures import Figure
from analysis.metric_tables import MODEL, ROC, roc_points, write_csv
from analysis.metrics import log_odds_of
from cohort.table import Cohort
from spaces.parameters import Range
from spaces.run_files import RunFiles, read_out_of_fold
from spaces.study import Study
from spaces.trial_log import WINDOW, TrialRecord

FOLDER = "report"
METHODS = {PERCENTILE: "percentile", BCA: "BCa", LOGIT_DELONG: "logit-DeLong"}


def draw_test(
    run: RunFiles, cohort: Cohort, best: Mapping[str, Any] | None, metrics: Mapping[str, Any] | None
) -> list[Figure]:
    """Return ROC curves and intervals, and segment errors if there are any; none before."""
    if best is None or metrics is None:
        return []
    n, positives = metrics["n"], metrics["positives"]
    origin = f"{n} test patients, {positives} positive"
    rates = pd.read_csv(run.test / ROC)
    positive, logits = read_chosen(run, cohort, best)
    curves = [(f"model, test, n = {n}", figures.BLUE, "-", rates[rates["classifier"] == MODEL])]
    shown = [("model", metrics["model"]["auc"])]
    if "skipped" not in metrics["baselines"]:
        regression = rates[rates["classifier"] == L2]
        curves.append((f"regression, test, n = {n}", figures.ORANGE, "--", regression))
        shown.append(("logistic\nregression", metrics["baselines"][L2]["auc"]))
    development = roc_points(positive, log_odds_of(logits))
    curves.append((f"model, out-of-fold, n = {len(positive)}", figures.GREY, ":", development))
    found = [
        Figure(
            figures.draw_roc(curves),
            f"ROC curves of {origin}; dotted, the pooled out-of-fold predictions of "
            f"{len(positive)} development patients.",
            "test/roc.csv",
        ),
        Figure(
            figures.draw_intervals(shown, METHODS),
            f"Test AUC with three {100 * metrics['confidence']:g}{SPACE}% intervals; {origin}.",
            "test/metrics.csv",
        ),
    ]
    errors = metrics["segments"].get("mean_absolute_error")
    if errors:
        columns = metrics["segments"]["columns"]
        found.append(
            Figure(
                figures.draw_segments(errors, f"units of {columns}"),
                f"Mean absolute error of the predicted segment values ({columns}), with "
                f"percentile intervals; {origin}.",
                "test/metrics.csv",
            )
        )
    return found


def draw_search(
    run: RunFiles, study: Study, trials: Sequence[TrialRecord], best: Mapping[str, Any] | None
) -> list[Figure]:
    """Return the search history, the chosen trial's curves and the score by each parameter."""
    if not any(trial.epochs for trial in trials):
        return []
    table = trial_table(trials)
    write_csv(run.root / FOLDER / "trials.csv", table)
    source = f"{FOLDER}/trials.csv"
    chosen = None if best is None else best["trial"]
    found = []
    if best is not None:
        found.append(_draw_learning(run, trials, best))
    if study.is_fixed:
        return found
    states = ", ".join(f"{n} {state}" for state, n in table["state"].value_counts().items())
    found.append(
        Figure(
            figures.draw_history(table, chosen),
            f"Score of {len(table)} trials ({states}); the line is the best complete trial so far.",
            source,
        )
    )
    for name, parameter in study.space.searched().items():
        log = isinstance(parameter, Range) and parameter.log
        scored = int(table["score"].notna().sum())
        svg = figures.draw_parameter(table, name, log=log, chosen=chosen)
        found.append(Figure(svg, f"{name}: score of {scored} trials against its value.", source))
    return found


def draw_calibration(
    run: RunFiles, cohort: Cohort, study: Study, best: Mapping[str, Any] | None
) -> list[Figure]:
    """Return the calibration of the chosen trial's out-of-fold predictions, if there is one."""
    if best is None:
        return []
    positive, logits = read_chosen(run, cohort, best)
    confidence = study.evaluation.confidence
    calibration = calibrate(positive, logits, confidence)
    write_csv(run.root / FOLDER / "calibration.csv", calibration.bins)
    slope = " to ".join(number(limit) for limit in calibration.slope_limits)
    intercept = " to ".join(number(limit) for limit in calibration.intercept_limits)
    sizes = sorted(set(calibration.bins["n"].tolist()))
    caption = (
        f"Calibration of the out-of-fold predictions of {calibration.n} development patients, in "
        f"{len(calibration.bins)} bins of {' or '.join(map(str, sizes))} patients; bars are exact "
        f"{100 * confidence:g}{SPACE}% intervals. Slope "
        f"{number(calibration.slope)} ({slope}), ideal 1; intercept "
        f"{number(calibration.intercept)} ({intercept}), ideal 0."
    )
    return [Figure(figures.draw_calibration(calibration), caption, f"{FOLDER}/calibration.csv")]


def read_chosen(
    run: RunFiles, cohort: Cohort, best: Mapping[str, Any]
) -> tuple[np.ndarray, np.ndarray]:
    """Return outcome, bool (n,), and out-of-fold logits, (n, 2), of labelled patients."""
    logits = read_out_of_fold(run.out_of_fold_of(best["trial"]), best["oof_sha256"])
    target = cohort.development.target
    known = np.isfinite(target)
    return target[known] == 1, logits[best["epochs"] - 1][known]


def _draw_learning(run: RunFiles, trials: Sequence[TrialRecord], best: Mapping[str, Any]) -> Figure:
    trial = next(trial for trial in trials if trial.number == best["trial"])
    curves = learning_curves(trial)
    write_csv(run.root / FOLDER / "learning_curves.csv", curves)
    window = (max(1, best["epochs"] - WINDOW + 1), best["epochs"])
    return Figure(
        figures.draw_learning_curves(curves, window),
        f"Validation AUC of the chosen trial ({trial.number}) in {len(best['fold_auc'])} folds of "
        "the development set; shaded, the window whose mean is its score.",
        f"{FOLDER}/learning_curves.csv",
    )
