"""The report's section on other cohorts: what the frozen model is worth beyond its own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from analysis.judge.answer import SPACE, answer, percent
from analysis.judge.calls import call_rows, name_threshold
from analysis.judge.judgement import MODEL_LABEL, Row, auc_rows, difference_rows, frame_of
from analysis.judge.judgement import TEST as OWN
from analysis.judge.segment_values import TEST
from analysis.report.cohort_panel import PatientTable, show_groups
from analysis.report.drawing import Figure
from analysis.report.figures import Bar, draw_forest
from analysis.report.panels import METHODS, table_of
from analysis.report.scrutiny_panel import QUANTITIES
from analysis.statistics.bootstrap import CLOPPER_PEARSON, LOGIT_DELONG, PERCENTILE
from analysis.statistics.metrics import HALF, YOUDEN
from spaces.run_files import RunFiles

NAME = "external"


@dataclass(frozen=True)
class ExternalCohort:
    """One other cohort.

    Attributes:
        name: of the cohort.
        answer: the result in one sentence.
        who: who its patients are, and whether their maps are familiar, as sentences.
        pairs: (what, method of the interval, on the own test set, in this cohort).
        patients: beside the development patients.
        file: with everything that was measured.
    """

    name: str
    answer: str
    who: Sequence[str]
    pairs: Sequence[tuple[str, str, Row | None, Row]]
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
        name = its["external"]
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
            ExternalCohort(name, answer(its), _say_who(its), pairs, patients, _file(name))
        )
    table = table_of(run, NAME, frame_of(records))
    return ExternalPanel(cohorts, {NAME: _show_aucs(metrics, external, table)})


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
