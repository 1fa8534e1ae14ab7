"""The report's panel on the second task: segment values, and their use as a classifier."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from analysis.judge.answer import SPACE, limits, number
from analysis.judge.judgement import TEST as METRICS_FILE
from analysis.judge.judgement import Row, frame_of
from analysis.judge.segment_values import (
    LOWEST,
    OUT_OF_FOLD,
    TEST,
    Readings,
    bland_altman,
    judge_out_of_fold_segments,
    read_out_of_fold_readings,
)
from analysis.report.agreement_figures import MOST_DOTS, draw_agreement, frame_around
from analysis.report.drawing import Figure
from analysis.report.findings import Findings
from analysis.report.panels import table_of
from analysis.statistics.agreement import (
    BIAS,
    LOWER_LIMIT,
    MEAN_ABSOLUTE_ERROR,
    QUANTITIES,
    R_SQUARED,
    REGIONS,
    SLOPE,
    UPPER_LIMIT,
)
from analysis.statistics.bootstrap import PERCENTILE
from cohort.segments import SEGMENTS
from cohort.table import Cohort
from spaces.run_files import RunFiles
from spaces.study import Study

PATIENTS = {OUT_OF_FOLD: "out-of-fold", TEST: "test"}
SAID = {OUT_OF_FOLD: "development patients, out-of-fold", TEST: "test patients"}
ORIGINS = {OUT_OF_FOLD: "model/out_of_fold_segments.parquet", TEST: METRICS_FILE}


@dataclass(frozen=True)
class RegionRow:
    """One region in one group of patients.

    Attributes:
        patients: ``out-of-fold`` or ``test``.
        n: patients in whom it was measured.
        rows: one for each of ``QUANTITIES``.
    """

    patients: str
    n: int
    rows: Mapping[str, Row]

    @property
    def unreliable(self) -> str | None:
        """Why its intervals cannot be relied on."""
        return next((row.unreliable for row in self.rows.values() if row.unreliable), None)


@dataclass
class SegmentPanel:
    """What the report shows of the second task; empty where there is nothing.

    Attributes:
        figures: by name.
        skipped: by group of patients, why its segment values are not judged.
        sentence: the agreement of the mean in words.
        regions: (label, out-of-fold and test): mean and territories.
        segments: the same of the single segments.
        lowest: (what, out-of-fold, test) of the second classifier.
        asked: the segments whose lowest value that is.
        bootstraps: resamples by group of patients.
    """

    figures: dict[str, Figure] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    sentence: str = ""
    regions: list[tuple[str, list[RegionRow]]] = field(default_factory=list)
    segments: list[tuple[str, list[RegionRow]]] = field(default_factory=list)
    lowest: list[tuple[str, Row | None, Row | None]] = field(default_factory=list)
    asked: str = ""
    bootstraps: dict[str, int] = field(default_factory=dict)


def show_segment_panel(run: RunFiles, cohort: Cohort, found: Findings) -> SegmentPanel:
    """Return the panel and write its tables beside the report; test numbers are metrics.json's."""
    assert found.best is not None
    panel = SegmentPanel()
    if found.model is None:
        return panel
    readings = read_out_of_fold_readings(run, found.study, cohort, found.best, found.model)
    judged = _judged(found, readings)
    panel.skipped = {group: its["skipped"] for group, its in judged.items() if "skipped" in its}
    kept = {group: its for group, its in judged.items() if "skipped" not in its}
    if not kept:
        return panel
    panel.bootstraps = {group: its["bootstraps"] for group, its in kept.items()}
    _add_regions(panel, run, found.study, kept)
    _add_figures(panel, run, found.study, kept, readings)
    _add_lowest(panel, run, kept)
    return panel


def _judged(found: Findings, readings: Readings | str) -> dict[str, Mapping[str, Any]]:
    """Return what was judged out-of-fold and, once it was opened, on the test set."""
    if found.metrics is None:
        return {OUT_OF_FOLD: judge_out_of_fold_segments(found.study, readings)}
    segments = found.metrics["segments"]
    if "skipped" in segments:
        return {OUT_OF_FOLD: segments, TEST: segments}
    return {group: segments[group] for group in (OUT_OF_FOLD, TEST)}


def _add_regions(
    panel: SegmentPanel, run: RunFiles, study: Study, judged: Mapping[str, Mapping[str, Any]]
) -> None:
    records = []
    for at, region in enumerate(REGIONS):
        shown = [_region_row(group, its["regions"][at]) for group, its in judged.items()]
        into = panel.segments if len(region.segments) == 1 else panel.regions
        into.append((region.label, shown))
        records += [
            {"region": region.name, "quantity": quantity, "unit": _unit(study, quantity)} | record
            for row in shown
            for quantity in QUANTITIES
            for record in row.rows[quantity].records()
        ]
    table_of(run, "agreement", frame_of(records).drop(columns=["count", "positives"]))
    group = TEST if TEST in judged else OUT_OF_FOLD
    panel.sentence = _say(study, panel.regions[0][1][-1], SAID[group])


def _unit(study: Study, quantity: str) -> str:
    return "1" if quantity in {R_SQUARED, SLOPE} else str(study.cohort.segments)


def _region_row(group: str, judged: Mapping[str, Any]) -> RegionRow:
    rows = {quantity: _row(judged["region"], group, judged[quantity]) for quantity in QUANTITIES}
    return RegionRow(PATIENTS[group], judged["n"], rows)


def _row(label: str, group: str, estimate: Mapping[str, Any], positives: int | None = None) -> Row:
    return Row(
        label,
        PATIENTS[group],
        estimate["estimate"],
        estimate["intervals"],
        estimate["n"],
        ORIGINS[group],
        positives,
        unreliable=estimate.get("unreliable"),
    )


def _say(study: Study, row: RegionRow, patients: str) -> str:
    """Return how far the predicted mean is off, in words."""
    level = f"{100 * study.evaluation.confidence:g}{SPACE}%"
    error, bias, low, high = (
        row.rows[name] for name in (MEAN_ABSOLUTE_ERROR, BIAS, LOWER_LIMIT, UPPER_LIMIT)
    )
    if error.estimate is None or low.estimate is None or high.estimate is None:
        return ""
    said = (
        f"In {row.n} {patients} the predicted mean of the 17 segments ({study.cohort.segments}) "
        f"was off by {number(error.estimate)} on average ({level} interval {_span(error)}), with "
        f"a bias of {number(bias.estimate)} ({_span(bias)}). For about 95{SPACE}% of such "
        f"patients the prediction lies between {_beside(low.estimate)} and "
        f"{_beside(high.estimate)} the measured value."
    )
    return said + _say_slope(row.rows[SLOPE])


def _say_slope(slope: Row) -> str:
    """Return which values are predicted too high and too low; empty if that may be chance."""
    interval = slope.intervals[PERCENTILE]
    if interval["low"] is None or interval["low"] <= 0 <= interval["high"]:
        return ""
    first, second = ("low", "high") if interval["high"] < 0 else ("high", "low")
    return (
        f" The bias is not the same everywhere: {first} values are predicted too high and "
        f"{second} ones too low (slope of the difference {number(slope.estimate)}, "
        f"{_span(slope)}, per unit of the average). The limits above are then too wide in the "
        "middle and too narrow at the ends."
    )


def _beside(difference: float) -> str:
    return f"{number(abs(difference))} {'below' if difference < 0 else 'above'}"


def _span(row: Row) -> str:
    return limits(row.intervals[PERCENTILE])


def _add_figures(
    panel: SegmentPanel,
    run: RunFiles,
    study: Study,
    judged: Mapping[str, Mapping[str, Any]],
    readings: Readings | str,
) -> None:
    """Add a Bland-Altman plot for each group, on the same axes."""
    points = {}
    if OUT_OF_FOLD in judged and isinstance(readings, Readings):
        points[OUT_OF_FOLD] = bland_altman(readings.predicted, readings.measured)
        data = table_of(run, "bland_altman_out_of_fold", points[OUT_OF_FOLD])
    if TEST in judged and run.bland_altman.is_file():
        points[TEST] = pd.read_csv(run.bland_altman)
    points = {group: its for group, its in points.items() if len(its)}
    if not points:
        return
    means = {group: judged[group]["regions"][0] for group in points}
    frame = frame_around(list(points.values()), list(means.values()))
    unit = str(study.cohort.segments)
    for group, its in points.items():
        name = f"agreement_{group}"
        svg = draw_agreement(its, means[group], frame, name=name, who=SAID[group], unit=unit)
        file = data if group == OUT_OF_FOLD else run.bland_altman.relative_to(run.root).as_posix()
        panel.figures[name] = Figure(svg, _caption(study, group, means[group]), [file])


def _caption(study: Study, group: str, mean: Mapping[str, Any]) -> str:
    level = f"{100 * study.evaluation.confidence:g}{SPACE}%"
    n = mean["n"]
    every = -(-n // MOST_DOTS)
    dots = "One dot is one patient" if every == 1 else f"One dot is one of {every} patients"
    return (
        f"Bland and Altman's plot of the mean segment value ({study.cohort.segments}), n = {n} "
        f"{SAID[group]}. {dots}; lines are the bias and the limits of agreement (bias "
        f"\N{PLUS-MINUS SIGN} 1.96 SD of the differences), bands their {level} percentile "
        f"intervals; {ORIGINS[group]}."
    )


def _add_lowest(
    panel: SegmentPanel, run: RunFiles, judged: Mapping[str, Mapping[str, Any]]
) -> None:
    """Add the AUC of the lowest predicted segment beside that of the logits."""
    names = {
        "logit_auc": "the model's logits",
        "auc": "lowest predicted segment",
        "difference": "difference, logits minus lowest segment",
    }
    records = []
    for key, label in names.items():
        rows = {
            group: _row(label, group, its[LOWEST][key], its["positives"])
            for group, its in judged.items()
            if key in its[LOWEST]
        }
        if not rows:
            continue  # the logits were not trained
        panel.lowest.append((label, rows.get(OUT_OF_FOLD), rows.get(TEST)))
        records += [record for row in rows.values() for record in row.records()]
    table_of(run, LOWEST, frame_of(records))
    asked = next(iter(judged.values()))[LOWEST]["segments"]
    panel.asked = (
        "the 17 predicted segment values"
        if len(asked) == SEGMENTS
        else f"the values predicted for the target's segments ({', '.join(map(str, asked))})"
    )
