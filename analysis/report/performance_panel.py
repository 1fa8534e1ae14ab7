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
        thresholds: .5 and its own out-of-fold Youden threshold, by name; none for a reading task.
        calls: every proportion at each threshold, accuracy first.
        no_information_rate: the accuracy of calling everybody by the commoner class.
        note: what must be said beside the numbers; empty if nothing.
    """

    label: str
    auc: Row
    thresholds: Mapping[str, float]
    calls: Mapping[str, Sequence[Row]]
    no_information_rate: float
    note: str

    @property
    def is_above_chance(self) -> bool:
        """Whether the AUC's logit-DeLong interval lies above .5; a reading task's says nothing."""
        return is_above(self.auc.intervals[LOGIT_DELONG], CHANCE) and not self.note

    @property
    def accuracies(self) -> list[Row]:
        """The accuracy at each threshold."""
        return [rows[0] for rows in self.calls.values()]

    @property
    def are_above_rate(self) -> list[bool]:
        """Whether each accuracy's exact interval lies above the no-information rate."""
        rate = self.no_information_rate
        return [is_above(row.intervals[CLOPPER_PEARSON], rate) for row in self.accuracies]


@dataclass(frozen=True)
class StandingGroup:
    """Predictors of one kind, under one heading."""

    heading: str
    standings: Sequence[Standing]


def show_performance(run: RunFiles, metrics: Mapping[str, Any]) -> list[StandingGroup]:
    """Return every predictor by kind, and write all their metrics beside the report."""
    table_of(run, "performance", frame_of(list(performance_records(metrics))))
    return list_performance(metrics)


def list_performance(metrics: Mapping[str, Any]) -> list[StandingGroup]:
    """Return every predictor of a judgement by kind."""
    return [
        StandingGroup(GROUPS[kind], [stand(metrics, label, its) for label, its in described])
        for kind, described in _by_kind(metrics).items()
        if described
    ]


def performance_records(metrics: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield one record for each predictor, metric and interval on the test set."""
    for kind, described in _by_kind(metrics).items():
        for label, its in described:
            yield from _records(metrics, kind, label, its)


def _by_kind(metrics: Mapping[str, Any]) -> dict[str, list[tuple[str, Mapping[str, Any]]]]:
    """Return (label, what was measured) of every predictor, in the order of ``GROUPS``."""
    of_kind: dict[str, list[tuple[str, Mapping[str, Any]]]] = {kind: [] for kind in GROUPS}
    of_kind[""] = classifiers_of(metrics)
    for its in metrics["simple_predictors"].values():
        of_kind[its["kind"]].append((its["label"], its))
    return of_kind


def is_above(interval: Mapping[str, Any], limit: float) -> bool:
    """Whether an interval that says something lies above a limit."""
    return is_usable(interval) and interval["low"] > limit


def stand(metrics: Mapping[str, Any], label: str, its: Mapping[str, Any]) -> Standing:
    """Return one predictor of metrics.json on the test set.

    Args:
        metrics: of the study.
        label: what the predictor is called.
        its: what ``describe_classifier`` said of it.
    """
    thresholds = its.get("thresholds", {})
    kept = [key for key in (HALF, YOUDEN) if key in thresholds]
    return Standing(
        label,
        _auc_row(metrics, label, its),
        {key: thresholds[key]["threshold"] for key in kept},
        {key: call_rows(its, key, metrics["confidence"]) for key in kept},
        metrics["no_information_rate"],
        its.get("note") or "",
    )


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
    standing = stand(metrics, label, its)
    head = {
        "predictor": label,
        "kind": kind or "study",
        "development_auc": its.get("development_auc"),
        "no_information_rate": metrics["no_information_rate"],
    }
    nothing = {"threshold_kind": "", "threshold": None}
    auc, rate = standing.auc, standing.no_information_rate
    p = metrics.get("permutation_p") if is_model else None
    for record in auc.records():
        is_high = is_above(auc.intervals[record["method"]], CHANCE)
        yield head | nothing | record | {"what": "AUC", "above": is_high, "permutation_p": p}
    for key, rows in standing.calls.items():
        threshold = {"threshold_kind": key, "threshold": standing.thresholds[key]}
        for row in rows:
            for record in row.records():
                above = None
                if row.label == "accuracy":
                    above = is_above(row.intervals[record["method"]], rate)
                yield head | threshold | record | {"above": above, "permutation_p": None}
