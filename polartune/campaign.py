"""A campaign: its studies one after the other, then one look at the test set for all of them.

The studies share one Ray and take turns. Each has every slot, so slots idle only where a generation
ends; several studies at a time would save that little, and tangle their logs and their curves.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape

from polartune.steps import LOG, driven, placed, progress_bar, retrain, search, step
from spaces.errors import InputError, NoCompleteTrialError, RefusedError

if TYPE_CHECKING:
    from cohort.split import Split
    from cohort.table import Cohort
    from spaces.campaign import Member, Plan
    from spaces.run_files import RunFiles


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
    from analysis.report.page import write_report
    from spaces.campaign import read_campaign
    from spaces.environment import check_packages
    from spaces.run_files import RunFiles
    from spaces.session import driving

    check_packages()
    plan = read_campaign(file, out)
    console.print(f"Checking the cohort for {len(plan.members)} studies.", highlight=False)
    cohorts = read_cohorts(plan)
    runs = [RunFiles(plan.root / member.study.name) for member in plan.members]
    with driving(RunFiles(plan.root)):
        _train(plan, runs, cohorts, address, console)
        members = list(zip(runs, cohorts, strict=True))
        with _holding(plan, runs, cohorts):
            with step("evaluate", console), _bars(len(runs), console) as progress:
                name = plan.campaign.name
                evaluate_together(members, name=name, frozen_file=plan.frozen, progress=progress)
            with step("report", console), _bars(len(runs), console) as progress:
                for done, (run, cohort) in enumerate(members, 1):
                    write_report(run, cohort)
                    progress("report", done)
                write_campaign(plan, cohorts)
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


def _train(
    plan: Plan, runs: list[RunFiles], cohorts: list[Cohort], address: str | None, console: Console
) -> None:
    """Search and retrain in the order of the transfer, with time left.

    A study that gives no model stops those that start from it, and no other. The test set then
    stays sealed: it is opened once, for all.

    Raises:
        NoCompleteTrialError: some studies have no model; names them.
    """
    without: dict[str, str] = {}
    left = [at for at, run in enumerate(runs) if not (run.model / "model.json").exists()]
    if not left:
        return
    began = time.monotonic()
    with placed(plan.members[0].study, address) as place:
        for done, at in enumerate(left):
            passed = time.monotonic() - began
            console.print(
                f"\n[bold]{at + 1}/{len(runs)}[/] {_says(plan.members[at])}"
                + (
                    f" [dim]about {_minutes(passed / done * (len(left) - done))} left[/]"
                    if done
                    else ""
                ),
                highlight=False,
            )
            study, first = plan.members[at].study, plan.members[at].follows
            if first in without:
                without[study.name] = f"starts from {first}"
                continue
            try:
                with driven(study, plan.folder, runs[at], cohorts[at]):
                    search(runs[at], place, console, study.search.stalled_after)
                    retrain(runs[at], place, console)
            except (InputError, NoCompleteTrialError) as error:
                without[study.name] = f"{error.where}: {error.problem}"
                LOG.warning("%s has no model: %s", study.name, error)
                console.print(f"[yellow]no model[/] {escape(str(error))}")
    if without:
        raise NoCompleteTrialError(
            plan.campaign.name,
            f"{len(without)} of {len(runs)} studies have no model "
            f"({'; '.join(f'{name}: {why}' for name, why in without.items())})",
            "The others are trained, and the test set is sealed. Mend these, or take them out of "
            "the campaign file, and the same command goes on",
        )


@contextmanager
def _holding(plan: Plan, runs: list[RunFiles], cohorts: list[Cohort]) -> Iterator[None]:
    """Hold every run, so that nothing changes between the freezing and the opening."""
    with ExitStack() as held:
        for member, run, cohort in zip(plan.members, runs, cohorts, strict=True):
            held.enter_context(driven(member.study, plan.folder, run, cohort))
        yield


@contextmanager
def _bars(total: int, console: Console) -> Iterator[Callable[[str, int], None]]:
    tasks: dict[str, int] = {}
    with progress_bar(console) as progress:

        def advance(what: str, done: int) -> None:
            if what not in tasks:
                tasks[what] = progress.add_task(what, total=total)
            progress.update(tasks[what], completed=done)  # type: ignore[arg-type]

        yield advance


def _says(member: Member) -> str:
    after = f", after {member.follows}" if member.follows else ""
    return (
        f"{member.study.name}: {member.target} from {' + '.join(member.study.cohort.inputs)}{after}"
    )


def _minutes(seconds: float) -> str:
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
