"""The report's panel on what the search was worth: the winner beside what is asked first."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from analysis.judge.judgement import OUT_OF_FOLD, Row, frame_of
from analysis.judge.references import DEFAULT, SINGLE_TASK, compare_references
from analysis.report.findings import Findings
from analysis.report.panels import table_of
from cohort.table import Cohort
from spaces.run_files import RunFiles

NAMES = {
    DEFAULT: "default configuration",
    SINGLE_TASK: "default at \N{GREEK SMALL LETTER LAMDA} = 1",
}


@dataclass(frozen=True)
class Reference:
    """One trial of the panel.

    Attributes:
        label: what it is.
        trial: of ``compare_references``.
        rows: ``score``, ``auc``, ``score_difference``, ``auc_difference``, those that exist.
        note: why numbers are absent or of fewer epochs; empty if there is nothing to say.
    """

    label: str
    trial: Mapping[str, Any]
    rows: Mapping[str, Row]
    note: str


@dataclass
class ReferencePanel:
    """The winner and what was asked first.

    Attributes:
        references: the winner first.
        skipped: why there are none.
        n: labelled development patients.
        positives: of them.
        bootstraps: resamples of them.
    """

    references: list[Reference] = field(default_factory=list)
    skipped: str = ""
    n: int = 0
    positives: int = 0
    bootstraps: int = 0


def show_references(run: RunFiles, cohort: Cohort, found: Findings) -> ReferencePanel:
    """Return the panel and write its table beside the report."""
    assert found.best is not None
    compared = (found.metrics or {}).get("references") or compare_references(
        run, found.study, cohort, found.best, found.trials
    )
    if "skipped" in compared:
        return ReferencePanel(skipped=compared["skipped"])
    shown = [("winner", compared["winner"])]
    shown += [(NAMES[its["name"]], its) for its in compared["references"]]
    references = [
        Reference(label, its, dict(_rows(label, its, compared)), _note(its)) for label, its in shown
    ]
    records = [
        {"quantity": quantity}
        | {name: reference.trial[name] for name in ("trial", "state", "epochs")}
        | reference.trial["configuration"]
        | record
        for reference in references
        for quantity, row in reference.rows.items()
        for record in row.records()
    ]
    table_of(run, "references", frame_of(records).drop(columns=["count"]))
    return ReferencePanel(
        references, "", compared["n"], compared["positives"], compared["bootstraps"]
    )


def _note(its: Mapping[str, Any]) -> str:
    if its.get("is_winner"):
        return "is the winner"
    if its["score"] is None:
        return f"{its['state']}: {its['reason']}" if its["reason"] else its["state"]
    return f"stopped early ({its['reason']})" if its["state"] == "stopped" else ""


def _rows(
    label: str, its: Mapping[str, Any], compared: Mapping[str, Any]
) -> Iterator[tuple[str, Row]]:
    """Yield the score, the pooled AUC and both differences of a trial, as far as they exist."""
    n, positives = compared["n"], compared["positives"]
    if its["score"] is not None:
        yield "score", Row(label, "out-of-fold", its["score"], {}, n, "trials.jsonl", positives)
    origins = {
        "auc": OUT_OF_FOLD,
        "score_difference": "trials.jsonl",
        "auc_difference": OUT_OF_FOLD,
    }
    for quantity, origin in origins.items():
        estimate = its.get(quantity)
        if estimate is not None:
            yield (
                quantity,
                Row(
                    label,
                    "out-of-fold",
                    estimate["estimate"],
                    estimate["intervals"],
                    n,
                    origin,
                    positives,
                    unreliable=estimate.get("unreliable"),
                ),
            )
