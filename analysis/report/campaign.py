"""The report on a campaign: every target from every input, in one page beside its evidence."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from analysis.judge.answer import limits, maps_of, number, percent, plain, say_p, title
from analysis.judge.baselines import L2
from analysis.judge.judgement import TEST
from analysis.report.belief import is_usable
from analysis.report.campaign_cells import Cell, doubt_of, exact_or_percentile
from analysis.report.cohort_panel import CohortPanel, show_patients
from analysis.report.contents import Contents, flow_of
from analysis.report.drawing import Figure
from analysis.report.findings import Findings, read_findings
from analysis.report.page import environment
from analysis.report.panels import FOLDER, show_flow
from analysis.report.performance_panel import Standing
from analysis.statistics.bootstrap import LOGIT_DELONG, PERCENTILE
from analysis.statistics.chance import PERMUTATIONS
from cohort.table import Cohort
from spaces.campaign import Plan
from spaces.run_files import RunFiles, write_text

TEMPLATE = "campaign.html"
REGRESSION = "logistic regression on the segment values"


def write_campaign(plan: Plan, cohorts: Sequence[Cohort], cells: Sequence[Cell]) -> None:
    """Write campaign.html, and the tables of who the patients are (report/*.csv).

    Args:
        plan: the campaign.
        cohorts: of each of its studies.
        cells: of each of its studies, as ``compare_studies`` gives them.
    """
    found = [
        read_findings(RunFiles(plan.root / member.study.name), cohort)
        for member, cohort in zip(plan.members, cohorts, strict=True)
    ]
    campaign, metrics = plan.campaign, found[0].metrics
    assert metrics is not None
    patients, flow = _show_patients(plan, cohorts[0], found[0])
    made = environment()
    made.filters |= {"plain": plain}
    page = made.get_template(TEMPLATE).render(
        campaign=campaign,
        shared=plan.members[0].study,
        steps=_steps(plan),
        cells={(cell.target, cell.input): cell for cell in cells},
        inputs={name: maps_of(columns) for name, columns in campaign.inputs.items()},
        headlines=[say_cell(cell, campaign.inputs[cell.input]) for cell in cells if cell.headline],
        simple=list(dict.fromkeys(name for cell in cells for name in cell.simple)),
        readings={cell.target: cell.reading for cell in cells if cell.reading},
        doubt_of=doubt_of,
        shown_method=exact_or_percentile,
        doubts=_doubts(cells, len(campaign.inputs)),
        openings=metrics["openings"],
        flags=_flags(plan, found),
        confidence=metrics["confidence"],
        bootstraps=metrics["bootstraps"],
        permutations=f"{PERMUTATIONS:,}",
        judged=count_patients(cells),
        contents=Contents(patients=patients),
        figures={"flow": flow},
        external=[
            member.study.name
            for member, its in zip(plan.members, found, strict=True)
            if its.external
        ],
    )
    write_text(plan.report, page)


def say_cell(cell: Cell, columns: Sequence[str]) -> str:
    """Return what the cell of a target says, beside logistic regression on the segment values.

    Args:
        cell: the target from one input.
        columns: the maps of that input.
    """
    question = f"{title(plain(cell.target))} from {maps_of(columns)}"
    if cell.model is None:
        return f"{question}: not judged ({cell.untrained})."
    auc, rate = cell.model.auc, cell.no_information_rate
    accuracy = cell.model.accuracies[0].estimate or 0.0
    said = (
        f"{question}: AUC {number(auc.estimate)} {_judge(cell.model)}, p {say_p(cell.p_holm)} "
        "after Holm's correction; accuracy "
        f"{percent(accuracy)} where calling everybody by the commoner class has {percent(rate)}"
    )
    difference = cell.differences.get(L2)
    if difference is None:
        return f"{said}."
    interval = difference.intervals[PERCENTILE]
    if not is_usable(interval):
        why = doubt_of(difference, PERCENTILE)
        return f"{said}; no usable interval of its difference from {REGRESSION} ({why})."
    if interval["low"] > 0:
        verdict = f"does better than {REGRESSION} (not corrected for the number of comparisons)"
    elif interval["high"] < 0:
        verdict = f"does worse than {REGRESSION} (not corrected for the number of comparisons)"
    else:
        verdict = f"no difference from {REGRESSION} is shown"
    return f"{said}; {verdict}: {number(difference.estimate)} ({limits(interval)})."


def count_patients(cells: Sequence[Cell]) -> str:
    """Return how many test patients were judged; those without a label of a target are not."""
    sizes = sorted({cell.n for cell in cells})
    if len(sizes) == 1:
        return f"{sizes[0]} test patients"
    return f"{sizes[0]} to {sizes[-1]} test patients, those with a label"


def _judge(model: Standing) -> str:
    """Return the AUC's interval in brackets, and what it says of chance."""
    auc = model.auc
    interval, doubt = auc.intervals[LOGIT_DELONG], doubt_of(auc, LOGIT_DELONG)
    if not is_usable(interval):
        return f"(no usable interval: {doubt})"
    its = limits(interval) + (f"; unreliable: {doubt}" if doubt else "")
    if not model.is_above_chance:
        return f"({its}), not shown to beat chance"
    return f"({its}), better than chance" + (" if that interval holds" if doubt else "")


def _steps(plan: Plan) -> list[tuple[list[str], str]]:
    """Return the targets of each step, and where its models start from."""
    campaign = plan.campaign
    steps = [(campaign.targets, "from the backbone's weights")]
    if campaign.transfer and campaign.starts_from:
        said = f"from the models of {plain(campaign.starts_from)}, fold by fold"
        steps.append((campaign.transfer.targets, said))
    return steps


def _flags(plan: Plan, found: Sequence[Findings]) -> dict[str, list[str]]:
    """Return what a reader must know before any number, and the studies that it holds for."""
    flags: dict[str, list[str]] = {}
    for member, its in zip(plan.members, found, strict=True):
        for flag in its.flags():
            flags.setdefault(flag, []).append(member.study.name)
    return flags


def _doubts(cells: Sequence[Cell], inputs: int) -> dict[int, list[str]]:
    """Return why intervals are not to be relied on: of AUCs by step, of the regressions by 0."""
    found: dict[int, list[tuple[Cell, str]]] = {0: [], 1: [], 2: []}
    for cell in cells:
        if cell.model is not None:
            found[cell.step].append((cell, doubt_of(cell.model.auc, LOGIT_DELONG)))
        for regression in cell.regressions.values():
            found[0].append((cell, doubt_of(regression.auc, LOGIT_DELONG)))
        for difference in cell.differences.values():
            found[0].append((cell, doubt_of(difference, PERCENTILE)))
    return {place: _gather(doubts, inputs) for place, doubts in found.items()}


def _gather(doubts: Iterable[tuple[Cell, str]], inputs: int) -> list[str]:
    """Return each reason once, with the targets, and their inputs unless all, it holds for."""
    found: dict[str, dict[str, list[str]]] = {}
    for cell, doubt in doubts:
        if doubt:
            names = found.setdefault(doubt, {}).setdefault(cell.target, [])
            names += [] if cell.input in names else [cell.input]
    return [
        f"{doubt}: "
        + "; ".join(
            plain(target) + ("" if len(names) == inputs else f" ({', '.join(names)})")
            for target, names in where.items()
        )
        for doubt, where in found.items()
    ]


def _show_patients(plan: Plan, cohort: Cohort, first: Findings) -> tuple[CohortPanel, Figure]:
    """Return who the patients of all studies are, by the first one's target and split."""
    files, name = RunFiles(plan.root), plan.members[0].study.name
    flow = flow_of(cohort, first)
    # Classes and missing labels are of one target; the tables have them.
    flow = replace(
        flow,
        development=[flow.development[0], flow.development[-1]],
        test=[flow.test[0], "opened once for all studies"],
    )
    figure = show_flow(files, flow)
    write_text(files.root / FOLDER / "flow.svg", figure.svg)
    panel = show_patients(files, cohort, first)
    panel.tables = [
        replace(table, origin=table.origin.replace(TEST, f"{name}/{TEST}"))
        for table in panel.tables
    ]
    return panel, figure
