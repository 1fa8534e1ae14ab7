"""Which figures of the judgement the report shows, of which numbers; writes those beside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from analysis.judge.answer import SPACE, limits, number
from analysis.judge.baselines import L2
from analysis.judge.calls import fraction_of, name_threshold
from analysis.judge.coverage import METHODS as AUC_METHODS
from analysis.judge.judgement import (
    OUT_OF_FOLD,
    OutOfFold,
    Row,
    auc_rows,
    frame_of,
    label_of,
)
from analysis.judge.metric_tables import MODEL, ROC, roc_points
from analysis.report import figures
from analysis.report.drawing import BLUE, GREY, ORANGE, Figure
from analysis.report.figures import Bar
from analysis.report.flow_figure import Flow, draw_flow
from analysis.statistics.bootstrap import LOGIT_DELONG, PERCENTILE
from analysis.statistics.curves import Calibration, Fitted, calibrate
from analysis.statistics.folds import CORRECTED_T
from analysis.statistics.metrics import HALF, YOUDEN, log_odds_of
from analysis.statistics.roc_band import RESAMPLES, roc_band
from cohort.table import Cohort
from spaces.csv_files import write_csv
from spaces.run_files import RunFiles, read_out_of_fold
from spaces.study import Study

FOLDER = "report"
METHODS = {**AUC_METHODS, CORRECTED_T: "corrected t"}


def table_of(run: RunFiles, name: str, frame: pd.DataFrame) -> str:
    """Write a table beside the report; return its name relative to it."""
    relative = f"{FOLDER}/{name}.csv"
    write_csv(run.root / relative, frame)
    return relative


def read_chosen(
    run: RunFiles, cohort: Cohort, best: Mapping[str, Any]
) -> tuple[np.ndarray, np.ndarray]:
    """Return outcome, bool (n,), and out-of-fold logits, (n, 2), of labelled patients."""
    logits = read_out_of_fold(run.out_of_fold_of(best["trial"]), best["oof_sha256"])
    target = cohort.development.target
    known = np.isfinite(target)
    return target[known] == 1, logits[best["epochs"] - 1][known]


def show_flow(run: RunFiles, flow: Flow) -> Figure:
    """Return the flow diagram of the patients."""
    data = table_of(run, "flow", pd.DataFrame(flow.rows(), columns=["step", "patients"]))
    caption = "Who was studied. One row of the cohort table is one patient."
    return Figure(draw_flow(flow), caption, [data])


def show_headline(metrics: Mapping[str, Any]) -> Figure:
    """Return the one figure of the summary: the AUC, and what it is compared with."""
    labels = {"model": "this model"}
    rows = [row for row in auc_rows(metrics, None) if row.label in {"model", label_of(L2)}]
    names = [labels.get(row.label, "logistic regression\non segment values") for row in rows]
    bars = [_bar(row, LOGIT_DELONG, name) for row, name in zip(rows, names, strict=True)]
    caption = (
        f"Test AUC: the chance that a positive patient is ranked above a negative one. Lines "
        f"are {_level(metrics)} intervals (logit-DeLong); test n = {metrics['n']}, "
        f"{metrics['positives']} positive, test/metrics.json."
    )
    return Figure(figures.draw_headline(bars), caption, ["test/metrics.csv"])


def show_roc(
    run: RunFiles,
    metrics: Mapping[str, Any],
    development: OutOfFold,
    chosen: tuple[np.ndarray, np.ndarray],
) -> Figure:
    """Return the ROC curves with the points of both thresholds."""
    rates = pd.read_csv(run.test / ROC)
    positive, logits = chosen
    rows = auc_rows(metrics, development)
    looks = {"model": (MODEL, BLUE, "-"), label_of(L2): (L2, ORANGE, "--")}
    curves = []
    for row in rows[:-1]:
        if row.label in looks:
            key, colour, style = looks[row.label]
            label = f"{row.label.split(',')[0]}, test, {_said(row)}"
            curves.append((label, colour, style, rates[rates["classifier"] == key]))
    out_of_fold = roc_points(positive, log_odds_of(logits))
    curves.append((f"model, out-of-fold, {_said(rows[-1])}", GREY, ":", out_of_fold))
    calls = metrics["model"]["thresholds"]
    points = [
        (
            f"test, threshold {name_threshold(key, calls[key]['threshold'])}",
            BLUE,
            marker,
            1 - _share("specificity", calls[key]["counts"]),
            _share("sensitivity", calls[key]["counts"]),
        )
        for key, marker in ((HALF, "o"), (YOUDEN, "s"))
    ]
    data = table_of(run, "roc_out_of_fold", out_of_fold.assign(classifier=MODEL))
    band = _band(rates[rates["classifier"] == MODEL], metrics)
    caption = (
        f"ROC curves with {_level(metrics)} intervals of the AUC (logit-DeLong). Test: "
        f"test/roc.csv; dotted, pooled out-of-fold predictions of the chosen trial, {OUT_OF_FOLD}. "
        f"Shaded, the model's sensitivity on the test set at each specificity: {_level(metrics)} "
        f"percentile intervals, each for itself ({RESAMPLES} resamples of the "
        f"{metrics['n']} patients); too narrow where the curve touches an edge."
    )
    tables = ["test/roc.csv", data, table_of(run, "roc_band", band)]
    return Figure(figures.draw_roc(curves, points, band), caption, tables)


def _band(rates: pd.DataFrame, metrics: Mapping[str, Any]) -> pd.DataFrame:
    n, positives = metrics["n"], metrics["positives"]
    generator = np.random.default_rng(metrics["seed"])
    band = roc_band(rates, positives, n, metrics["confidence"], generator=generator)
    return band.assign(
        method=PERCENTILE, classifier=MODEL, n=n, positives=positives, origin="test/roc.csv"
    )


def show_aucs(run: RunFiles, rows: Sequence[Row], level: str) -> Figure:
    """Return the forest of all AUCs with each method's interval."""
    bars = [
        _bar(row, method, f"{row.label.replace('logistic ', '')}\n{_where(row)}")
        for row in rows
        for method in row.intervals
    ]
    data = table_of(run, "aucs", frame_of([its for row in rows for its in row.records()]))
    caption = f"AUCs with {level} intervals by method; the dotted line is chance."
    svg = figures.draw_forest(bars, "aucs", "AUCs with their intervals", "AUC", reference=0.5)
    return Figure(svg, caption, [data])


def show_differences(run: RunFiles, rows: Sequence[Row], level: str) -> Figure:
    """Return the forest of the model's AUC minus those of the regressions."""
    bars = [
        _bar(row, method, f"{row.label.replace('logistic regression, ', 'vs. ')}\n{_where(row)}")
        for row in rows
        for method in row.intervals
    ]
    data = table_of(run, "differences", frame_of([its for row in rows for its in row.records()]))
    caption = (
        f"The model's AUC minus that of logistic regression on the segment values, same patients, "
        f"{level} intervals; right of the dotted line favours the model. An interval that holds 0 "
        "does not show that the two are equal. Test: paired bootstrap of patients; out-of-fold: "
        "mean of the folds, Student's t with Nadeau and Bengio's standard error, and the model's "
        "configuration was chosen on these very folds, which flatters it."
    )
    quantity = "difference in AUC, model \N{MINUS SIGN} regression"
    title = "Model against logistic regression"
    svg = figures.draw_forest(bars, "differences", title, quantity, reference=0.0)
    return Figure(svg, caption, [data])


def show_calibration(
    run: RunFiles, study: Study, chosen: tuple[np.ndarray, np.ndarray]
) -> tuple[Figure, Calibration]:
    """Return the calibration of the chosen trial's out-of-fold predictions."""
    confidence = study.evaluation.confidence
    calibration = calibrate(*chosen, confidence)
    data = table_of(run, "calibration", calibration.bins)
    slope, in_the_large = _fit(calibration.slope), _fit(calibration.in_the_large)
    sizes = sorted(set(calibration.bins["n"].tolist()))
    caption = (
        f"Calibration of the out-of-fold predictions of {calibration.n} development patients "
        f"({OUT_OF_FOLD}), in {len(calibration.bins)} bins of {' or '.join(map(str, sizes))}; bars "
        f"are exact {100 * confidence:g}{SPACE}% intervals. Slope {slope}, ideal "
        f"1; in the large (intercept with the slope fixed at 1) {in_the_large}, ideal 0 (Wald "
        "intervals). The test set has too few patients for such bins."
    )
    return Figure(figures.draw_calibration(calibration), caption, [data]), calibration


def _fit(fitted: Fitted) -> str:
    if not fitted.interval.is_defined:
        return "undefined, as the classes are separated or all predictions equal"
    return f"{number(fitted.estimate)} ({limits(fitted.interval.as_dict())})"


def show_segments(run: RunFiles, metrics: Mapping[str, Any]) -> Figure | None:
    """Return the errors of the predicted segment values, if they were judged."""
    rows = metrics["segments"].get("mean_absolute_error")
    if not rows:
        return None
    columns, sizes = metrics["segments"]["columns"], sorted({row["n"] for row in rows})
    count = f"n = {sizes[0]}" if len(sizes) == 1 else f"n = {sizes[0]} to {sizes[-1]}"
    records = [
        {key: row[key] for key in ("segment", "estimate", "n")}
        | dict(row["intervals"]["percentile"])
        | {"origin": metrics["origin"], "unreliable": row.get("unreliable")}
        for row in rows
    ]
    caption = (
        f"Mean absolute error of the predicted segment values ({columns}) on the test set, "
        f"{count} a segment, with {_level(metrics)} percentile intervals; test/metrics.json."
    )
    svg = figures.draw_segments(rows, f"units of {columns}")
    return Figure(svg, caption, [table_of(run, "segments", pd.DataFrame(records))])


def _level(metrics: Mapping[str, Any]) -> str:
    return f"{100 * metrics['confidence']:g}{SPACE}%"


def _share(metric: str, counts: Mapping[str, int]) -> float:
    count, n = fraction_of(metric, counts)
    return (count or 0) / n


def _said(row: Row) -> str:
    span = limits(row.intervals[LOGIT_DELONG])
    return f"n = {row.n}: {number(row.estimate)} ({span})"


def _where(row: Row) -> str:
    return f"{row.patients}, n = {row.n}"


def _bar(row: Row, method: str, label: str) -> Bar:
    interval = row.intervals[method]
    usable = interval["low"] is not None and not interval["degenerate"]
    low, high = (interval["low"], interval["high"]) if usable else (None, None)
    return Bar(label, METHODS[method], row.estimate, low, high)
