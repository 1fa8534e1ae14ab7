"""Every target from every input of a campaign, beside each other, with p-values corrected."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from analysis.judge.baselines import L2, UNPENALISED
from analysis.judge.judgement import MODEL_LABEL, Row, difference_rows, frame_of, label_of
from analysis.judge.metric_tables import MODEL
from analysis.judge.simple_predictors import MEAN, READING, TRAITS
from analysis.report.belief import is_usable
from analysis.report.membership import Membership, write_membership
from analysis.report.panels import table_of
from analysis.report.performance_panel import Standing, performance_records, stand
from analysis.statistics.bootstrap import CLOPPER_PEARSON, LOGIT_DELONG, PERCENTILE
from analysis.statistics.chance import holm
from analysis.statistics.metrics import PROPORTIONS
from spaces.campaign import Member, Plan, name_of
from spaces.csv_files import write_csv
from spaces.run_files import RunFiles, read_json, write_json

REGRESSIONS = (UNPENALISED, L2)
AGE_AND_SEX = "age, sex"


@dataclass(frozen=True)
class Cell:
    """One target from one input.

    Attributes:
        target: what is predicted.
        input: the short name of the input.
        step: 1 from the backbone's weights, 2 from another target's models.
        follows: the study whose models it started from, if any.
        development_n: labelled development patients.
        development_positives: of them.
        n: labelled test patients.
        positives: of them.
        no_information_rate: the accuracy of calling all of them by the commoner class.
        untrained: why the network is not judged; empty if it is.
        score: cross-validation score of the chosen trial, corrected for its choice where known.
        model: the network on the test set; None if its logits were not trained.
        regressions: logistic regression on the segment values of the same maps, by name; none for
            a cohort without segment values.
        differences: the network's AUC minus each regression's, by name.
        simple: what tells the classes apart without a network or a map of 17 values: the mean of
            the segments, age and sex; by what it is called.
        reading: the measured value that defines the target, which makes it a reading task; empty if
            none does.
        p: of the AUC by permuted labels, one-sided; None likewise.
        p_holm: the same corrected within its step.
        family: studies of its step that have an AUC.
        headline_input: the target's input with the highest development score.
    """

    target: str
    input: str
    step: int
    follows: str | None
    development_n: int
    development_positives: int
    n: int
    positives: int
    no_information_rate: float
    untrained: str
    score: float | None
    model: Standing | None
    regressions: Mapping[str, Standing]
    differences: Mapping[str, Row]
    simple: Mapping[str, Standing]
    reading: str
    p: float | None
    p_holm: float | None
    family: int
    headline_input: str

    @property
    def headline(self) -> bool:
        """Whether its input is the target's headline input; all other cells are secondary."""
        return self.input == self.headline_input

    @property
    def run(self) -> str:
        """The run directory, beside the report."""
        return name_of(self.target, self.input)

    def record(self) -> dict[str, Any]:
        """Return it as one row of a table: a limit beside every estimate."""
        return {
            "target": self.target,
            "input": self.input,
            "step": self.step,
            "follows": self.follows,
            "headline": self.headline,
            "n": self.n,
            "positives": self.positives,
            "development_n": self.development_n,
            "development_positives": self.development_positives,
            "score": self.score,
            "untrained": self.untrained or None,
            **(self._model(self.model) if self.model else {}),
            "p": self.p,
            "p_holm": self.p_holm,
            "no_information_rate": self.no_information_rate,
            **(self._calls(self.model) if self.model else {}),
            **self._regressions(),
        }

    @staticmethod
    def _model(model: Standing) -> dict[str, Any]:
        auc = model.auc
        return {
            **_flat("auc", auc, LOGIT_DELONG),
            "percentile_low": auc.intervals[PERCENTILE]["low"],
            "percentile_high": auc.intervals[PERCENTILE]["high"],
            "unreliable": auc.unreliable,
            "above_chance": model.is_above_chance,
        }

    @staticmethod
    def _calls(model: Standing) -> dict[str, Any]:
        rates = zip(model.calls, model.are_above_rate, strict=True)
        return {
            **{f"{key}_above_rate": is_above for key, is_above in rates},
            **{f"{key}_threshold": value for key, value in model.thresholds.items()},
        } | {
            name: value
            for key, rows in model.calls.items()
            for metric, row in zip(PROPORTIONS, rows, strict=True)
            for name, value in _flat(f"{key}_{metric}", row, exact_or_percentile(row)).items()
        }

    def _regressions(self) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for name, regression in self.regressions.items():
            found |= _flat(f"{name}_auc", regression.auc, LOGIT_DELONG)
            if name in self.differences:
                found |= _flat(f"{name}_difference", self.differences[name], PERCENTILE)
        return found


def exact_or_percentile(row: Row) -> str:
    """Return the method whose interval of a proportion is shown: balanced accuracy has no exact."""
    return CLOPPER_PEARSON if CLOPPER_PEARSON in row.intervals else PERCENTILE


def doubt_of(row: Row, method: str) -> str:
    """Return why an interval is not to be relied on; empty if nothing speaks against it.

    A collapsed interval would look like certainty.
    """
    interval, found = row.intervals[method], []
    if interval["low"] is None:
        found.append("too few patients for an interval")
    elif interval["degenerate"]:
        found.append("the interval collapsed to a point, as where separation is complete")
    if row.unreliable:
        found.append(row.unreliable)
    return "; ".join(found)


def compare_studies(plan: Plan) -> list[Cell]:
    """Return every cell of a judged campaign, and write what programs and studies need of it.

    That is campaign.json and campaign.csv, one row a study; report/performance.csv, every predictor
    of every study with every metric and interval; and test/membership.json in each run, what the
    study's own report must say of the others.

    Raises:
        InputError: a study has not been evaluated.
    """
    metrics = {
        member.study.name: read_json(RunFiles(plan.root / member.study.name).metrics, "metrics")
        for member in plan.members
    }
    cells = list(cells_of(plan.members, metrics))
    records = [cell.record() for cell in cells]
    write_csv(plan.summary.with_suffix(".csv"), pd.DataFrame(records))
    write_json(plan.summary, "campaign-result", {"cells": records})
    everything = [
        {"target": cell.target, "input": cell.input, "headline": cell.headline} | record
        for cell in cells
        for record in performance_records(metrics[cell.run])
    ]
    table_of(RunFiles(plan.root), "performance", frame_of(everything))
    for cell in cells:
        membership = Membership(
            campaign=plan.campaign.name,
            studies=len(cells),
            input=cell.input,
            headline_input=cell.headline_input,
            family=cell.family,
            p_holm=cell.p_holm,
        )
        write_membership(RunFiles(plan.root / cell.run), membership)
    return cells


def cells_of(members: Sequence[Member], metrics: Mapping[str, Mapping[str, Any]]) -> Iterator[Cell]:
    """Yield the cell of each study.

    Args:
        members: of the campaign.
        metrics: the content of each study's metrics.json, by the study's name.
    """
    for second in (False, True):
        family = [member for member in members if (member.follows is not None) is second]
        p_values = {its.study.name: metrics[its.study.name]["permutation_p"] for its in family}
        judged = {name: p for name, p in p_values.items() if p is not None}
        corrected = dict(zip(judged, holm(list(judged.values())), strict=True))
        for member in family:
            rivals = [other for other in family if other.target == member.target]
            best = max(rivals, key=lambda other: _score(metrics[other.study.name]) or 0.0)
            p_holm = corrected.get(member.study.name)
            yield _cell(member, metrics[member.study.name], p_holm, len(judged), best.input)


def _score(metrics: Mapping[str, Any]) -> float | None:
    """Return the development score; None where the logits were not trained."""
    development = metrics["development"]
    corrected: float | None = development["bias_corrected_score"]
    score: float | None = development["score"]
    return score if corrected is None else corrected


def _cell(
    member: Member,
    metrics: Mapping[str, Any],
    p_holm: float | None,
    family: int,
    headline_input: str,
) -> Cell:
    regressions = () if "skipped" in metrics["baselines"] else REGRESSIONS
    simple = metrics["simple_predictors"].values()
    untrained = metrics[MODEL].get("skipped", "")
    rows = {row.label: row for row in difference_rows(metrics, None, None, metrics["confidence"])}
    return Cell(
        target=member.target,
        input=member.input,
        step=1 if member.follows is None else 2,
        follows=member.follows,
        development_n=metrics["development"]["n"],
        development_positives=metrics["development"]["positives"],
        n=metrics["n"],
        positives=metrics["positives"],
        no_information_rate=metrics["no_information_rate"],
        untrained=untrained,
        score=_score(metrics),
        model=None if untrained else stand(metrics, MODEL_LABEL, metrics[MODEL]),
        regressions={
            name: stand(metrics, label_of(name), metrics["baselines"][name]) for name in regressions
        },
        differences={name: rows[label_of(name)] for name in regressions if label_of(name) in rows},
        simple={
            AGE_AND_SEX if its["kind"] == TRAITS else its["label"]: stand(
                metrics, its["label"], its
            )
            for its in simple
            if its["kind"] in {MEAN, TRAITS}
        },
        reading=next((its["label"] for its in simple if its["kind"] == READING), ""),
        p=metrics["permutation_p"],
        p_holm=p_holm,
        family=family,
        headline_input=headline_input,
    )


def _flat(name: str, row: Row, method: str) -> dict[str, Any]:
    """Return an estimate with its limits as columns, and whether they say nothing."""
    interval = row.intervals[method]
    return {
        name: row.estimate,
        f"{name}_low": interval["low"],
        f"{name}_high": interval["high"],
        f"{name}_usable": is_usable(interval),
    }
