"""The report on a campaign: every target from every input, in one table beside its evidence."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import pandas as pd

from analysis.judge.answer import maps_of, number, percent, plain, title
from analysis.judge.external import read_external_judgements
from analysis.judge.metric_tables import MODEL
from analysis.report.findings import read_findings
from analysis.report.page import environment
from analysis.statistics.bootstrap import LOGIT_DELONG, PERCENTILE, clopper_pearson_interval
from analysis.statistics.chance import holm
from analysis.statistics.metrics import HALF
from cohort.table import Cohort
from spaces.campaign import Member, Plan
from spaces.csv_files import write_csv
from spaces.run_files import RunFiles, read_json, write_json, write_text

TEMPLATE = "campaign.html"
CHANCE = 0.5


@dataclass(frozen=True)
class Cell:
    """One target from one input.

    Attributes:
        target: what is predicted.
        input: the short name of the input.
        step: 1 from the backbone's weights, 2 from another target's models.
        follows: the study whose models it started from, if any.
        n: labelled test patients.
        positives: of them.
        score: cross-validation score of the chosen trial, corrected for its choice where known.
        auc: on the test set.
        auc_low: lower limit, logit-DeLong.
        auc_high: upper limit, likewise.
        percentile_low: lower limit of the percentile bootstrap, as in the paper.
        percentile_high: likewise.
        accuracy: at a probability of .5.
        accuracy_low: lower limit, exact.
        accuracy_high: likewise.
        no_information_rate: the accuracy of calling everybody by the commoner class.
        p: of the AUC by permuted labels, one-sided.
        p_holm: the same corrected within the step's table.
        regression_auc: of L2-penalised logistic regression on the segment values.
        difference: the model's AUC minus the regression's.
        difference_low: lower limit, percentile bootstrap of pairs.
        difference_high: likewise.
        unreliable: why the intervals are not to be relied on, if so.
        headline: whether this is the target's input with the highest development score.
    """

    target: str
    input: str
    step: int
    follows: str | None
    n: int
    positives: int
    score: float
    auc: float | None
    auc_low: float | None
    auc_high: float | None
    percentile_low: float | None
    percentile_high: float | None
    accuracy: float
    accuracy_low: float
    accuracy_high: float
    no_information_rate: float
    p: float
    p_holm: float
    regression_auc: float | None
    difference: float | None
    difference_low: float | None
    difference_high: float | None
    unreliable: str | None
    headline: bool

    @property
    def beats_chance(self) -> bool:
        """Whether the lower limit of the AUC exceeds chance."""
        return self.auc_low is not None and self.auc_low > CHANCE

    @property
    def beats_commoner_class(self) -> bool:
        """Whether the lower limit of the accuracy exceeds the no-information rate."""
        return self.accuracy_low > self.no_information_rate

    @property
    def run(self) -> str:
        """The run directory, beside the report."""
        return f"{self.target}-{self.input}"


def write_campaign(plan: Plan, cohorts: Sequence[Cohort]) -> list[Cell]:
    """Write campaign.html, campaign.json and campaign.csv of a finished campaign; return its cells.

    Args:
        plan: the campaign.
        cohorts: of each of its studies.

    Raises:
        InputError: a study has not been evaluated.
    """
    metrics = {
        member.study.name: read_json(RunFiles(plan.root / member.study.name).metrics, "metrics")
        for member in plan.members
    }
    cells = list(_cells(plan.members, metrics))
    write_csv(plan.summary.with_suffix(".csv"), pd.DataFrame([asdict(cell) for cell in cells]))
    write_json(plan.summary, "campaign-result", {"cells": [asdict(cell) for cell in cells]})
    flags = _flags(plan, cohorts)
    write_text(plan.report, _render(plan, cells, flags, next(iter(metrics.values()))))
    return cells


def _flags(plan: Plan, cohorts: Sequence[Cohort]) -> dict[str, list[str]]:
    """Return what a reader must know before any number, and the studies that it holds for."""
    found: dict[str, list[str]] = {}
    for member, cohort in zip(plan.members, cohorts, strict=True):
        for flag in read_findings(RunFiles(plan.root / member.study.name), cohort).flags():
            found.setdefault(flag, []).append(member.study.name)
    return found


def _cells(members: Sequence[Member], metrics: Mapping[str, Mapping[str, Any]]) -> Iterator[Cell]:
    corrected: dict[str, float] = {}
    for second in (False, True):
        family = [m.study.name for m in members if (m.follows is not None) is second]
        p_values = holm([metrics[name]["permutation_p"] for name in family])
        corrected |= dict(zip(family, p_values, strict=True))
    for member in members:
        rivals = [m.study.name for m in members if m.target == member.target]
        best = max(rivals, key=lambda name: _score(metrics[name]))
        name = member.study.name
        yield _cell(member, metrics[name], corrected[name], headline=best == name)


def _score(metrics: Mapping[str, Any]) -> float:
    development = metrics["development"]
    corrected = development["bias_corrected_score"]
    return float(development["score"] if corrected is None else corrected)


def _cell(member: Member, metrics: Mapping[str, Any], p_holm: float, *, headline: bool) -> Cell:
    auc, called = metrics[MODEL]["auc"], metrics[MODEL]["thresholds"][HALF]["counts"]
    right = called["tp"] + called["tn"]
    exact = clopper_pearson_interval(right, metrics["n"], metrics["confidence"])
    regression: Mapping[str, Any] = {}
    difference: Mapping[str, Any] = {}
    if "skipped" not in metrics["baselines"]:
        primary = metrics["primary_comparison"]
        regression = metrics["baselines"][primary]["auc"]
        difference = metrics["differences"][primary]
    between = difference.get("intervals", {}).get(PERCENTILE, {})
    return Cell(
        target=member.target,
        input=member.input,
        step=1 if member.follows is None else 2,
        follows=member.follows,
        n=metrics["n"],
        positives=metrics["positives"],
        score=_score(metrics),
        auc=auc["estimate"],
        auc_low=auc["intervals"][LOGIT_DELONG]["low"],
        auc_high=auc["intervals"][LOGIT_DELONG]["high"],
        percentile_low=auc["intervals"][PERCENTILE]["low"],
        percentile_high=auc["intervals"][PERCENTILE]["high"],
        accuracy=right / metrics["n"],
        accuracy_low=exact.low,
        accuracy_high=exact.high,
        no_information_rate=metrics["no_information_rate"],
        p=metrics["permutation_p"],
        p_holm=p_holm,
        regression_auc=regression.get("estimate"),
        difference=difference.get("estimate"),
        difference_low=between.get("low"),
        difference_high=between.get("high"),
        unreliable=auc.get("unreliable"),
        headline=headline,
    )


def _render(
    plan: Plan,
    cells: Sequence[Cell],
    flags: Mapping[str, Sequence[str]],
    metrics: Mapping[str, Any],
) -> str:
    campaign = plan.campaign
    by_place = {(cell.target, cell.input): cell for cell in cells}
    steps = [(campaign.targets, "from the backbone's weights")]
    if campaign.transfer and campaign.starts_from:
        said = f"from the models of {plain(campaign.starts_from)}, fold by fold"
        steps.append((campaign.transfer.targets, said))
    made = environment()
    made.filters |= {"plain": plain}
    return made.get_template(TEMPLATE).render(
        campaign=campaign,
        shared=plan.members[0].study,
        steps=steps,
        cells=by_place,
        inputs={name: maps_of(columns) for name, columns in campaign.inputs.items()},
        headlines=[_sentence(cell, campaign.inputs[cell.input]) for cell in cells if cell.headline],
        openings=metrics["openings"],
        flags=flags,
        confidence=metrics["confidence"],
        bootstraps=metrics["bootstraps"],
        n=max(cell.n for cell in cells),
        external=[
            member.study.name
            for member in plan.members
            if read_external_judgements(RunFiles(plan.root / member.study.name))
        ],
    )


def _sentence(cell: Cell, columns: Sequence[str]) -> str:
    """Return what the headline cell of a target says, and whether images add to segment values."""
    auc = f"AUC {number(cell.auc)} ({number(cell.auc_low)} to {number(cell.auc_high)})"
    judged = "better than chance" if cell.beats_chance else "not shown to be better than chance"
    if cell.unreliable:
        judged += f" (the interval is unreliable: {cell.unreliable})"
    said = (
        f"{title(plain(cell.target))} from {maps_of(columns)}: {auc}, {judged}; accuracy "
        f"{percent(cell.accuracy)} where calling everybody by the commoner class has "
        f"{percent(cell.no_information_rate)}"
    )
    if cell.difference is None or cell.difference_low is None or cell.difference_high is None:
        return f"{said}."
    spread = f"{number(cell.difference_low)} to {number(cell.difference_high)}"
    if cell.difference_low > 0:
        verdict = "images add to the segment values"
    elif cell.difference_high < 0:
        verdict = "logistic regression on the segment values is better"
    else:
        verdict = "no difference from logistic regression on the segment values is shown"
    return f"{said}; {verdict} ({number(cell.difference)}, {spread})."
