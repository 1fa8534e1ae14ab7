"""A campaign: its studies one after the other, then one look at the test set for all of them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from polartune.steps import LOG, step
from polartune.turns import Turn, bars, holding, train_in_turn
from spaces.errors import RefusedError

if TYPE_CHECKING:
    from cohort.split import Split
    from cohort.table import Cohort
    from spaces.campaign import Plan


def run_campaign(
    file: Path, *, out: Path = Path("runs"), address: str | None = None, console: Console
) -> Plan:
    """Run every study of a campaign, or continue it; return the plan with where everything lies.

    Raises:
        InputError: the file, a cohort or the weights break a rule; found before anything runs.
        RefusedError: a run is in use, or belongs to another study, cohort or split.
        NoCompleteTrialError: a study has no model; the others have, and nothing was opened.
    """
    from analysis.judge.evaluate import evaluate_together
    from analysis.report.campaign import write_campaign
    from analysis.report.campaign_cells import compare_studies
    from analysis.report.page import write_report
    from spaces.campaign import read_campaign
    from spaces.environment import check_packages
    from spaces.run_files import RunFiles
    from spaces.session import driving

    check_packages()
    plan = read_campaign(file, out)
    console.print(f"Checking the cohort for {len(plan.members)} studies.", highlight=False)
    cohorts = read_cohorts(plan)
    name = plan.campaign.name
    turns = [
        Turn(member.study, RunFiles(plan.root / member.study.name), cohort, member.follows)
        for member, cohort in zip(plan.members, cohorts, strict=True)
    ]
    members = [(turn.run, turn.cohort) for turn in turns]
    with driving(RunFiles(plan.root)):
        train_in_turn(name, plan.folder, turns, address=address, console=console)
        with holding(plan.folder, turns):
            with step("evaluate", console), bars(len(turns), console) as progress:
                evaluate_together(members, name=name, frozen_file=plan.frozen, progress=progress)
            with step("report", console), bars(len(turns), console) as progress:
                cells = compare_studies(plan)
                for done, (run, cohort) in enumerate(members, 1):
                    write_report(run, cohort)
                    progress("report", done)
                write_campaign(plan, cohorts, cells)
    return plan


def check_campaign(file: Path, console: Console) -> None:
    """Validate every study of a campaign; say what all of them together would cost."""
    from analysis.show.campaign_forecast import forecast_campaign, show_campaign_forecast
    from spaces.campaign import read_campaign

    plan = read_campaign(file, Path("runs"))
    cohorts = read_cohorts(plan, create_key=False)
    show_campaign_forecast(plan, cohorts, forecast_campaign(plan, cohorts), console)


def read_cohorts(plan: Plan, *, create_key: bool = True) -> list[Cohort]:
    """Return the cohort of each study; an image that several studies use is verified once.

    Args:
        plan: the campaign.
        create_key: whether runs begin or go on; if not, nothing is written.

    Raises:
        InputError: a cohort breaks a rule.
        RefusedError: a run belongs to another study, or the studies do not share one split.
    """
    from cohort.enrolment import enrol
    from cohort.table import read_cohort
    from spaces.run_files import RunFiles

    verified: dict[tuple[str, ...], Cohort] = {}
    cohorts: list[Cohort] = []
    split: Split | None = None
    for member in plan.members:
        study = member.study
        inputs = tuple(study.cohort.inputs)
        verify = inputs not in verified
        if create_key:
            run = RunFiles(plan.root / study.name)
            cohort = enrol(study, plan.folder, run, verify_images=verify)
        else:
            cohort = read_cohort(study, plan.folder, split=split, verify_images=verify)
            split = cohort.split
        known = verified.setdefault(inputs, cohort)
        cohorts.append(replace(cohort, images_sha256=known.images_sha256, warnings=known.warnings))
    if len({cohort.split.sha256 for cohort in cohorts}) != 1:
        raise RefusedError(
            str(plan.root), "its studies must share one split", "Give the campaign another name"
        )
    for warning in {warning: None for cohort in verified.values() for warning in cohort.warnings}:
        LOG.warning(warning)
    return cohorts
