"""The report's table of every predictor on the test set: the model, regressions, simple ones."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from analysis.judge.calls import call_rows
from analysis.judge.judgement import MODEL_LABEL, TEST, Row, classifiers_of, frame_of
from analysis.judge.simple_predictors import INPUT, MEAN, READING, TRAITS
from analysis.report.belief import is_usable
from analysis.report.panels import table_of
from analysis.statistics.bootstrap import CLOPPER_PEARSON, LOGIT_DELONG
from analysis.statistics.metrics import HALF, YOUDEN
from spaces.run_files import RunFiles

CHANCE = 0.5
GROUPS = {
    "": "On the maps of this study, or their segment values",
    INPUT: "Logistic regression on one input's segment values",
    READING: "The rule that defines the target",
    MEAN: "One value: the mean of the segments",
    TRAITS: "Without any map",
}


@dataclass(frozen=True)
class Standing:
    """One predictor on the test set.

    Attributes:
        label: what predicts.
        auc: its AUC.
        is_above_chance: whether the AUC's logit-DeLong interval lies above .5.
        accuracies: at .5 and at its own out-of-fold Youden threshold; empty for a reading task.
        are_above_rate: whether each accuracy's exact interval lies above the no-information rate.
        note: what must be said beside the numbers; empty if nothing.
    """

    label: str
    auc: Row
    is_above_chance: bool
    accuracies: Sequence[Row]
    are_above_rate: Sequence[bool]
    note: str


@dataclass(frozen=True)
class StandingGroup:
    """Predictors of one kind, under one heading."""

    heading: str
    standings: Sequence[Standing]


def show_performance(run: RunFiles, metrics: Mapping[str, Any]) -> list[StandingGroup]:
    """Return every predictor by kind, and write all their metrics beside the report.

    Empty for a run that was judged before there were simple predictors.
    """
    simple = metrics.get("simple_predictors")
    if simple is None:
        return []
    of_kind: dict[str, list[tuple[str, Mapping[str, Any]]]] = {kind: [] for kind in GROUPS}
    of_kind[""] = classifiers_of(metrics)
    for its in simple.values():
        of_kind[its["kind"]].append((its["label"], its))
    records = [
        record
        for kind, described in of_kind.items()
        for label, its in described
        for record in _records(metrics, kind, label, its)
    ]
    table_of(run, "performance", frame_of(records))
    return [
        StandingGroup(GROUPS[kind], [_stand(metrics, label, its) for label, its in described])
        for kind, described in of_kind.items()
        if described
    ]


def is_above(interval: Mapping[str, Any], limit: float) -> bool:
    """Whether an interval that says something lies above a limit."""
    return is_usable(interval) and interval["low"] > limit


def _stand(metrics: Mapping[str, Any], label: str, its: Mapping[str, Any]) -> Standing:
    auc = _auc_row(metrics, label, its)
    accuracies = [rows[0] for _, rows in _calls(metrics, its)]
    rate = metrics["no_information_rate"]
    return Standing(
        label,
        auc,
        is_above(auc.intervals[LOGIT_DELONG], CHANCE) and not its.get("note"),
        accuracies,
        [is_above(row.intervals[CLOPPER_PEARSON], rate) for row in accuracies],
        its.get("note") or "",
    )


def _calls(
    metrics: Mapping[str, Any], its: Mapping[str, Any]
) -> Iterator[tuple[str, Sequence[Row]]]:
    """Yield (threshold's name, rows of every proportion, accuracy first)."""
    for key in (HALF, YOUDEN):
        if key in its.get("thresholds", {}):
            yield key, call_rows(its, key, metrics["confidence"])


def _auc_row(metrics: Mapping[str, Any], label: str, its: Mapping[str, Any]) -> Row:
    auc = its["auc"]
    return Row(
        label,
        "test",
        auc["estimate"],
        auc["intervals"],
        auc["n"],
        TEST,
        metrics["positives"],
        unreliable=auc.get("unreliable"),
    )


def _records(
    metrics: Mapping[str, Any], kind: str, label: str, its: Mapping[str, Any]
) -> Iterator[dict[str, Any]]:
    """Yield one record for each metric and interval of a predictor."""
    is_model = kind == "" and label == MODEL_LABEL
    head = {
        "predictor": label,
        "kind": kind or "study",
        "development_auc": its.get("development_auc"),
        "no_information_rate": metrics["no_information_rate"],
    }
    nothing = {"threshold_kind": "", "threshold": None}
    for record in _auc_row(metrics, label, its).records():
        p = metrics.get("permutation_p") if is_model else None
        above = record["low"] is not None and record["low"] > CHANCE
        yield head | nothing | record | {"what": "AUC", "above": above, "permutation_p": p}
    for key, rows in _calls(metrics, its):
        threshold = {"threshold_kind": key, "threshold": its["thresholds"][key]["threshold"]}
        for row in rows:
            for record in row.records():
                above = None
                if row.label == "accuracy" and record["low"] is not None:
                    above = record["low"] > metrics["no_information_rate"]
                yield head | threshold | record | {"above": above, "permutation_p": None}
