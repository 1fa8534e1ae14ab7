"""What a campaign would cost, before anything runs: banks once, heads for every study."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from rich.console import Console
from rich.table import Table

from analysis.judge.answer import plain
from analysis.show.check import TOO_FEW, duration, show_warnings, to_pay
from analysis.show.forecast import (
    ASSUMED_AUC,
    START_SECONDS,
    Computing,
    Forecast,
    Size,
    forecast,
)
from cohort.table import Cohort
from spaces.bank_files import in_words
from spaces.campaign import Plan
from spaces.study import Study
from trainable.bank import SPARE_DISK


@dataclass(frozen=True)
class CampaignForecast:
    """The size of a campaign.

    Attributes:
        studies: how many.
        trials: configurations to try in all of them, each in a full cross-validation.
        images: images and views that pass the frozen layers, each once whoever needs it.
        bank_bytes: disk for what they yield.
        free_bytes: free disk where the banks would lie.
        computing: of banks and trials.
        cores: of a trial.
        at_a_time: trials that this computer's CPU computes.
        half_widths: by target, of the test AUC's interval, were the AUC ``ASSUMED_AUC``; nan
            where less than one test patient of a class is expected.
    """

    studies: int
    trials: int
    images: int
    bank_bytes: int
    free_bytes: int
    computing: Computing
    cores: int
    at_a_time: int
    half_widths: Mapping[str, float]

    @property
    def seconds(self) -> float:
        """From the command to the end on this computer's CPU."""
        return START_SECONDS + self.computing.seconds / self.at_a_time


class Frozen(NamedTuple):
    """What decides, beside the maps, which banks studies share."""

    layers: int | str
    trunks: int


def forecast_campaign(plan: Plan, cohorts: Sequence[Cohort]) -> CampaignForecast:
    """Return what the studies would cost together; changes nothing.

    Speed is measured once for the studies of one input that train the same layers.

    Raises:
        InputError: the network's weights cannot be had.
    """
    computing = Computing(0.0, 0.0)
    banks: dict[tuple[tuple[str, ...], Frozen], Forecast] = {}
    trials = 0
    for (_, frozen), members in _alike(plan).items():
        at, count = members[0], len(members)
        # The run that a second step starts from is not there yet.
        study = plan.members[at].study.model_copy(update={"transfer": None})
        cost = forecast(study, cohorts[at], plan.folder, trunks=frozen.trunks)
        computing += cost.training * count
        trials += count * cost.size.trials
        for needed in _banks_of(study):
            if needed == tuple(study.cohort.inputs):
                banks[needed, frozen] = cost
            elif (needed, frozen) not in banks:
                alone = _on(study, needed)
                banks[needed, frozen] = forecast(
                    alone, cohorts[at], plan.folder, trunks=frozen.trunks
                )
    return CampaignForecast(
        studies=len(plan.members),
        trials=trials,
        images=sum(bank.images for bank in banks.values()),
        bank_bytes=sum(bank.bank_bytes for bank in banks.values()),
        free_bytes=cost.free_bytes,
        computing=sum((bank.filling for bank in banks.values()), computing),
        cores=cost.size.cores,
        at_a_time=cost.at_a_time,
        half_widths={
            member.target: Size.of(member.study, cohort).half_width
            for member, cohort in zip(plan.members, cohorts, strict=True)
        },
    )


def show_campaign_forecast(
    plan: Plan, cohorts: Sequence[Cohort], cost: CampaignForecast, console: Console
) -> None:
    """Print the classes of every target, and what the campaign would cost."""
    first = cohorts[0]
    console.print(
        f"[bold]{plan.campaign.name}[/]: {cost.studies} studies, {len(plan.targets)} targets from "
        f"{len(plan.campaign.inputs)} inputs; {len(first.development)} development and "
        f"{first.test_size} test patients"
    )
    console.print(_classes(plan, cohorts))
    warnings = {warning: None for cohort in cohorts for warning in cohort.warnings}
    if SPARE_DISK * cost.bank_bytes > cost.free_bytes:
        warnings["the disk is too small for the banks: set bank.path or bank.mode: off"] = None
    for target, width in cost.half_widths.items():
        if math.isnan(width):
            warnings[f"{target}: {TOO_FEW}"] = None
    show_warnings(list(warnings), console)
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    table.add_row("search", f"at most {cost.trials} cross-validated trials")
    if widths := _say_widths(cost.half_widths):
        level = f"{100 * plan.members[0].study.evaluation.confidence:g} %"
        table.add_row(
            "answer",
            f"an AUC of {ASSUMED_AUC} on the test set would be known to about {widths} "
            f"({level}, Hanley-McNeil)",
        )
    table.add_row(
        "bank",
        f"{cost.images} images and views once through the frozen layers, shared by all studies, "
        f"{in_words(cost.bank_bytes)} of disk ({in_words(cost.free_bytes)} free)",
    )
    table.add_row("time", f"at most about {duration(cost.seconds)} on this computer's CPU cores")
    table.add_row("to pay", to_pay(cost.computing, cost.cores))
    table.add_row("test set", "opened once, when every model is frozen")
    console.print(table)


def _say_widths(half_widths: Mapping[str, float]) -> str:
    """Return the narrowest and the widest interval with their targets; empty if there is none.

    >>> _say_widths({"sex": 0.0912, "smoking": 0.13, "diabetes": 0.124})
    '±0.09 (sex) to ±0.13 (smoking)'
    """
    known = {target: width for target, width in half_widths.items() if not math.isnan(width)}
    ends = sorted(known, key=lambda target: known[target])
    said = [f"\N{PLUS-MINUS SIGN}{known[end]:.2f} ({plain(end)})" for end in ends]
    return " to ".join(said if len(said) < 2 else [said[0], said[-1]])


def _classes(plan: Plan, cohorts: Sequence[Cohort]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("development")
    for heading in ("positive", "negative", "unknown"):
        table.add_column(heading, justify="right")
    for target in plan.targets:
        at = next(at for at, member in enumerate(plan.members) if member.target == target)
        values = cohorts[at].development.target
        counts = (np.sum(values == 1), np.sum(values == 0), np.sum(np.isnan(values)))
        table.add_row(plain(target), *map(str, counts))
    return table


def _alike(plan: Plan) -> dict[tuple[str, Frozen], list[int]]:
    """Return the positions of the studies of one input whose banks are the same."""
    first = plan.members[0].study.network
    found: dict[tuple[str, Frozen], list[int]] = {}
    for at, member in enumerate(plan.members):
        network, folds = member.study.network, member.study.cohort.split.folds
        trunks = folds + 1 if first.trains_deeper_than(network) else 1
        key = member.input, Frozen(network.trainable_layers, trunks)
        found.setdefault(key, []).append(at)
    return found


def _banks_of(study: Study) -> list[tuple[str, ...]]:
    """Return the inputs of each bank that a study reads: one a map, but for early stacking."""
    inputs = study.cohort.inputs
    return [tuple(inputs)] if study.cohort.stack == "early" else [(name,) for name in inputs]


def _on(study: Study, inputs: Sequence[str]) -> Study:
    """Return the study as it would be on other inputs."""
    section = study.cohort.model_copy(update={"inputs": list(inputs)})
    return study.model_copy(update={"cohort": section})
