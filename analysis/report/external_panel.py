"""The report's section on other cohorts: what the frozen model is worth beyond its own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pandas as pd

from analysis.judge.answer import SPACE, answer, percent
from analysis.judge.calls import call_rows, name_threshold
from analysis.judge.coverage import say_coverage
from analysis.judge.judgement import MODEL_LABEL, Row, auc_rows, difference_rows, frame_of
from analysis.judge.judgement import TEST as OWN
from analysis.judge.segment_values import TEST
from analysis.report.cohort_panel import PatientTable, show_groups
from analysis.report.drawing import Figure
from analysis.report.figures import Bar, draw_forest
from analysis.report.panels import METHODS, table_of
from analysis.report.performance_panel import (
    StandingGroup,
    list_performance,
    performance_records,
)
from analysis.report.scrutiny_panel import (
    QUANTITIES,
    SubgroupTable,
    list_subgroups,
    subgroup_records,
)
from analysis.statistics.bootstrap import CLOPPER_PEARSON, LOGIT_DELONG, PERCENTILE
from analysis.statistics.metrics import HALF, YOUDEN
from spaces.run_files import RunFiles

NAME, PERFORMANCE, SUBGROUPS = "external", "external_performance", "external_subgroups"


@dataclass(frozen=True)
class ExternalCohort:
    """One other cohort.

    Attributes:
        name: of the cohort.
        answer: the result in one sentence.
        who: who its patients are, and whether their maps are familiar, as sentences.
        pairs: (what, method of the interval, on the own test set, in this cohort).
        coverage: how often intervals like these were right in simulations, as sentences.
        performance: every predictor by kind; empty if the run was frozen without simple ones.
        subgroups: of both sexes, and of younger and older patients; None if neither is known.
        lacking: what could not be judged for want of columns, as a sentence.
        n: labelled patients.
        no_information_rate: the accuracy of calling all of them by the commoner class.
        patients: beside the development patients.
        file: with everything that was measured.
    """

    name: str
    answer: str
    who: Sequence[str]
    pairs: Sequence[tuple[str, str, Row | None, Row]]
    coverage: Sequence[str]
    performance: Sequence[StandingGroup]
    subgroups: SubgroupTable | None
    lacking: str
    n: int
    no_information_rate: float
    patients: PatientTable
    file: str


@dataclass
class ExternalPanel:
    """What the model is worth in other cohorts; empty if it was judged in none.

    Attributes:
        cohorts: by name.
        figures: the AUCs of all.
    """

    cohorts: list[ExternalCohort] = field(default_factory=list)
    figures: dict[str, Figure] = field(default_factory=dict)


def show_external(
    run: RunFiles, metrics: Mapping[str, Any], external: Sequence[Mapping[str, Any]]
) -> ExternalPanel:
    """Return the section and write its tables beside the report.

    Args:
        run: the run directory.
        metrics: of its own test set.
        external: of every other cohort.
    """
    if not external:
        return ExternalPanel()
    own = {what: row for what, _, row in _rows(metrics)}
    cohorts, records = [], []
    for its in external:
        name, subgroups = its["external"], its.get("subgroups", {}).get(TEST)
        rows = [(what, method, _of_cohort(row, name)) for what, method, row in _rows(its)]
        pairs = [(what, method, own.get(what), row) for what, method, row in rows]
        records += [
            record | {"cohort": name, "quantity": what}
            for what, _, row in rows
            for record in row.records()
        ]
        patients = show_groups(
            run,
            f"patients_external_{name}",
            f"Development patients and {name}",
            its["patients"],
            origin=_file(name),
        )
        cohorts.append(
            ExternalCohort(
                name=name,
                answer=answer(its),
                who=_say_who(its),
                pairs=pairs,
                coverage=[] if "skipped" in its["model"] else say_coverage(its),
                performance=list_performance(its) if its["simple_predictors"] else [],
                subgroups=list_subgroups(name, subgroups) if subgroups else None,
                lacking=_say_lacking(metrics, its),
                n=its["n"],
                no_information_rate=its["no_information_rate"],
                patients=patients,
                file=_file(name),
            )
        )
    table = table_of(run, NAME, frame_of(records))
    _write_tables(run, external)
    return ExternalPanel(cohorts, {NAME: _show_aucs(metrics, external, table)})


def _write_tables(run: RunFiles, external: Sequence[Mapping[str, Any]]) -> None:
    """Write every predictor and subgroup of every other cohort beside the report."""
    predictors = [
        {"cohort": its["external"]} | record | {"patients": NAME, "origin": _file(its["external"])}
        for its in external
        for record in performance_records(its)
    ]
    table_of(run, PERFORMANCE, frame_of(predictors))
    groups = [
        record
        for its in external
        for record in subgroup_records(its["external"], its.get("subgroups", {}).get(TEST, []))
    ]
    if groups:
        table_of(run, SUBGROUPS, pd.DataFrame(groups).astype({"n": "Int64", "positives": "Int64"}))


def _say_lacking(metrics: Mapping[str, Any], its: Mapping[str, Any]) -> str:
    """Return which frozen predictors and groups a cohort has no columns for; empty if none."""
    frozen, judged = (each["simple_predictors"] for each in (metrics, its))
    lacking = [frozen[name]["label"] for name in frozen if name not in judged]
    ours, theirs = (
        [trait["trait"] for trait in each.get("subgroups", {}).get(TEST, [])]
        for each in (metrics, its)
    )
    lacking += [f"subgroups by {trait}" for trait in ours if trait not in theirs]
    if not lacking:
        return ""
    return f"Not judged, as the columns are missing or coded otherwise: {'; '.join(lacking)}."


def _rows(metrics: Mapping[str, Any]) -> Iterator[tuple[str, str, Row]]:
    """Yield (what, method of the interval, row) of one judgement."""
    for row in auc_rows(metrics, None):
        yield f"AUC, {row.label}", LOGIT_DELONG, row
    for row in difference_rows(metrics, None, None, metrics["confidence"]):
        yield f"AUC, model minus {row.label}", PERCENTILE, row
    for key in () if "skipped" in metrics["model"] else (HALF, YOUDEN):
        threshold = metrics["model"]["thresholds"][key]["threshold"]
        for row in call_rows(metrics["model"], key, metrics["confidence"]):
            method = PERCENTILE if row.count is None else CLOPPER_PEARSON
            yield f"{row.label} at {name_threshold(key, threshold)}", method, row
    found = metrics.get("calibration", {}).get(TEST, {})
    for quantity, (label, ideal, method) in QUANTITIES.items():
        if quantity in found:
            its = found[quantity]
            span, why = its["intervals"], its["unreliable"]
            row = Row(label, "test", its["estimate"], span, its["n"], OWN, unreliable=why)
            yield f"{label} ({ideal})", method, row


def _of_cohort(row: Row, name: str) -> Row:
    return replace(row, patients=NAME, origin=_file(name))


def _file(name: str) -> str:
    return f"external/{name}/metrics.json"


def _say_who(its: Mapping[str, Any]) -> list[str]:
    flow, n = its["flow"], its["n"]
    collected = (
        f"{flow['collected']} patients collected, {sum(flow['excluded'].values())} excluded, "
        f"{its['missing']} without a label, {n} judged ({its['positives']} positive; calling "
        f"everybody by the commoner class would be right in {percent(its['no_information_rate'])})."
    )
    familiar = ""
    if its["unfamiliar"] is not None:
        familiar = (
            f"The maps of {its['unfamiliar']} of {flow['included']} are unlike those of "
            "development; even among patients like those of development about one in a hundred is "
            "flagged."
        )
    invented = "These patients are phantoms, drawn to test the software." * its["is_phantom"]
    warnings = [f"Warning: {warning}." for warning in its["warnings"]]
    return [said for said in (invented, collected, familiar, *warnings) if said]


def _show_aucs(
    metrics: Mapping[str, Any], external: Sequence[Mapping[str, Any]], table: str
) -> Figure:
    sets = [("own test set", metrics), *((its["external"], its) for its in external)]
    bars = []
    for name, its in sets:
        for row in auc_rows(its, None)[:2]:  # the model, and the regression named beforehand
            span = row.intervals[LOGIT_DELONG]
            usable = span["low"] is not None and not span["degenerate"]
            label = row.label if row.label == MODEL_LABEL else row.label.replace("logistic ", "")
            bars.append(
                Bar(
                    f"{label}\n{name}, n = {row.n}",
                    METHODS[LOGIT_DELONG],
                    row.estimate,
                    span["low"] if usable else None,
                    span["high"] if usable else None,
                )
            )
    svg = draw_forest(bars, NAME, "AUCs in other cohorts", "AUC", reference=0.5)
    caption = (
        "AUC on the run's own test set and in other cohorts, with "
        f"{100 * metrics['confidence']:g}{SPACE}% intervals (logit-DeLong); the dotted line is "
        "chance."
    )
    return Figure(svg, caption, [table])
