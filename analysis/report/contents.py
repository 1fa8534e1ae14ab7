"""The judged part of the report: figures, tables and sentences of what the model is worth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from analysis.choose.choice import why_not_trained
from analysis.judge.answer import SPACE
from analysis.judge.calls import call_rows, describe_thresholds, side_by_side
from analysis.judge.coverage import say_coverage
from analysis.judge.judgement import (
    OutOfFold,
    Row,
    auc_rows,
    classifiers_of,
    difference_rows,
    frame_of,
    judge_out_of_fold,
)
from analysis.report.belief import Belief, weigh
from analysis.report.cohort_panel import CohortPanel, show_patients
from analysis.report.drawing import Figure
from analysis.report.external_panel import ExternalPanel, show_external
from analysis.report.findings import Findings
from analysis.report.flow_figure import Flow
from analysis.report.methods import say_preparation
from analysis.report.panels import (
    read_chosen,
    show_aucs,
    show_calibration,
    show_differences,
    show_flow,
    show_headline,
    show_roc,
    show_segments,
    table_of,
)
from analysis.report.performance_panel import StandingGroup, show_performance
from analysis.report.reference_panel import ReferencePanel, show_references
from analysis.report.scrutiny_panel import ScrutinyPanel, show_scrutiny
from analysis.report.segment_panel import SegmentPanel, show_segment_panel
from analysis.statistics.metrics import HALF, YOUDEN
from cohort.table import Cohort
from spaces.run_files import RunFiles

THRESHOLD_NAMES = {HALF: "one half", YOUDEN: "out-of-fold Youden"}


@dataclass(frozen=True)
class Calls:
    """The calls of one classifier at one threshold.

    Attributes:
        classifier: whose.
        threshold: probability from which a patient is called positive.
        kind: how the threshold was fixed.
        rows: every proportion.
    """

    classifier: str
    threshold: float
    kind: str
    rows: Sequence[Row]


@dataclass
class Contents:
    """What the report shows of the judgement; empty where a step has not been done.

    Attributes:
        figures: by name.
        untrained: why nothing that is made of the model's logits is shown; empty where it is.
        preparation: what was done to the maps.
        patients: who they are.
        aucs: every AUC.
        differences: the model against the regressions.
        calls: at each threshold.
        pairs: (what, out-of-fold, test).
        coverage: how often intervals like these were right in simulations, as sentences.
        transfers: how the thresholds did on the test set, as sentences.
        belief: of the first page; None before the test set was opened.
        segments: the second task.
        external: what the model is worth in other cohorts.
        references: what is asked first in every search, beside the winner.
        performance: every predictor on the test set, by kind.
        scrutiny: calibration, thresholds, decisions and subgroups.
    """

    figures: dict[str, Figure] = field(default_factory=dict)
    untrained: str = ""
    preparation: str = ""
    patients: CohortPanel = field(default_factory=CohortPanel)
    aucs: list[Row] = field(default_factory=list)
    differences: list[Row] = field(default_factory=list)
    calls: list[Calls] = field(default_factory=list)
    pairs: list[tuple[str, Row | None, Row | None]] = field(default_factory=list)
    coverage: list[str] = field(default_factory=list)
    transfers: list[str] = field(default_factory=list)
    belief: Belief | None = None
    segments: SegmentPanel = field(default_factory=SegmentPanel)
    external: ExternalPanel = field(default_factory=ExternalPanel)
    references: ReferencePanel = field(default_factory=ReferencePanel)
    performance: list[StandingGroup] = field(default_factory=list)
    scrutiny: ScrutinyPanel = field(default_factory=ScrutinyPanel)


def describe(run: RunFiles, cohort: Cohort, found: Findings) -> Contents:
    """Return the judged part of the report and write its tables beside it."""
    contents = Contents(preparation=say_preparation(found.study))
    confidence = found.study.evaluation.confidence
    level = f"{100 * confidence:g}{SPACE}%"
    contents.figures["flow"] = show_flow(run, flow_of(cohort, found))
    contents.patients = show_patients(run, cohort, found)
    if found.best is None:
        return contents
    contents.untrained = why_not_trained(found.best) or ""
    contents.references = show_references(run, cohort, found)
    contents.segments = show_segment_panel(run, cohort, found)
    contents.figures |= contents.segments.figures
    metrics = found.metrics
    if metrics is not None:
        _add_what_needs_no_logits(contents, run, found, metrics)
    if contents.untrained:
        if metrics is not None:
            contents.belief = weigh(metrics, doubts=found.doubts(), external=found.external)
        return contents
    chosen = read_chosen(run, cohort, found.best)
    development = judge_out_of_fold(*chosen, confidence)
    calibration_figure, calibration = show_calibration(run, found.study, chosen)
    contents.figures["calibration"] = calibration_figure
    contents.aucs = auc_rows(metrics, development)
    contents.figures["aucs"] = show_aucs(run, contents.aucs, level)
    if metrics is None:
        return contents
    contents.figures["headline"] = show_headline(metrics)
    contents.figures["roc"] = show_roc(run, metrics, development, chosen)
    contents.differences = difference_rows(metrics, found.best, found.baselines, confidence)
    if contents.differences:
        contents.figures["differences"] = show_differences(run, contents.differences, level)
    contents.calls = _calls(run, metrics)
    contents.scrutiny = show_scrutiny(run, metrics)
    contents.figures |= contents.scrutiny.figures
    contents.pairs = _pairs(run, metrics, development)
    contents.coverage = say_coverage(metrics)
    contents.transfers = describe_thresholds(metrics, development)
    contents.belief = weigh(
        metrics,
        development,
        contents.differences,
        calibration,
        doubts=found.doubts(),
        score=found.best["score"],
        external=found.external,
    )
    return contents


def _add_what_needs_no_logits(
    contents: Contents, run: RunFiles, found: Findings, metrics: Mapping[str, Any]
) -> None:
    """Add what is shown of every judged model, whether its logits were trained or not."""
    segments = show_segments(run, metrics)
    if segments is not None:
        contents.figures["segments"] = segments
    contents.performance = show_performance(run, metrics)
    contents.external = show_external(run, metrics, found.external)
    contents.figures |= contents.external.figures


def flow_of(cohort: Cohort, found: Findings) -> Flow:
    """Return how many patients there are at each step, labels and classes included."""
    flow, metrics = cohort.flow, found.metrics
    excluded = flow.get("excluded", {})
    counts = {name: int(n) for name, n in flow.items() if not isinstance(n, Mapping)}
    target = cohort.development.target
    development = [f"{counts['development']} development"]
    development.append(f"{int((target == 1).sum())} positive, {int((target == 0).sum())} negative")
    if counts["missing_target"]:
        development.append(f"{counts['missing_target']} without a label")
    development.append(f"{found.study.cohort.split.folds} folds")
    test = [f"{counts['test']} test"]
    if metrics is None:
        test.append("sealed, not opened by this run")
    else:
        test.append(
            f"{metrics['positives']} positive, {metrics['n'] - metrics['positives']} negative"
        )
        if metrics["missing"]:
            test.append(f"{metrics['missing']} without a label")
    return Flow(
        collected=counts["collected"],
        excluded=dict(excluded) if isinstance(excluded, Mapping) else {},
        included=counts["included"],
        development=development,
        test=test,
    )


def _calls(run: RunFiles, metrics: Mapping[str, Any]) -> list[Calls]:
    """Return the model's and the primary regression's calls at both thresholds."""
    found = [
        Calls(
            name,
            described["thresholds"][key]["threshold"],
            kind,
            call_rows(described, key, metrics["confidence"]),
        )
        for name, described in classifiers_of(metrics)
        for key, kind in THRESHOLD_NAMES.items()
    ]
    shown = 2 * len(THRESHOLD_NAMES)  # the unpenalised regression stands in the table only
    records = [
        {"classifier": calls.classifier, "threshold": calls.threshold, "kind": calls.kind} | record
        for calls in found
        for row in calls.rows
        for record in row.records()
    ]
    table_of(run, "calls", frame_of(records))
    return found[:shown]


def _pairs(
    run: RunFiles, metrics: Mapping[str, Any], development: OutOfFold
) -> list[tuple[str, Row | None, Row | None]]:
    pairs = side_by_side(metrics, development, metrics["confidence"])
    records = [
        {"quantity": what} | record
        for what, *rows in pairs
        for row in rows
        if row is not None
        for record in row.records()
    ]
    table_of(run, "out_of_fold_and_test", frame_of(records))
    return pairs
