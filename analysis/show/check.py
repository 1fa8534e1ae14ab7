"""What ``check`` prints of one study: its patients, its size, what it would cost."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence

import numpy as np
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from analysis.show.forecast import ASSUMED_AUC, Computing, Forecast, Size
from cohort.table import Cohort
from spaces.bank_files import in_words
from spaces.study import Study
from trainable.bank import SPARE_DISK

PROCESS_BYTES = 1.25e9
GPU_RATE = 10e12
"""Operations a second that small products keep up on a data-centre GPU; a modest guess."""
TOO_FEW = (
    "too few expected events to say how well the test AUC would be known: of one class less than "
    "one test patient is expected"
)


def show_patients(study: Study, cohort: Cohort, console: Console) -> None:
    """Print patients, classes per fold, and what looks wrong with the cohort."""
    section = study.cohort
    console.print(
        f"[bold]{study.name}[/]: {escape(section.target)} from "
        f"{escape(' + '.join(section.inputs))}, "
        f"{study.network.backbone}, {study.network.trainable_layers} trainable layers"
    )
    console.print(_patients(cohort))
    show_warnings(cohort.warnings, console)


def show_size(study: Study, size: Size, console: Console) -> None:
    """Print how much would be searched, and how sharp the answer would be."""
    stops = ", nothing is searched" if study.is_fixed else ""
    if _may_stop(study):
        stops = ", most of them stopped earlier"
    table = _rows()
    table.add_row(
        "search",
        f"{size.trials} trials x {study.cohort.split.folds} folds x {study.training.epochs} epochs"
        f" = at most {size.epochs} epochs of a fold{stops}",
    )
    if not math.isnan(size.half_width):
        width = f"\N{PLUS-MINUS SIGN}{size.half_width:.2f}"
        level = f"{100 * study.evaluation.confidence:g} %"
        table.add_row(
            "answer",
            f"an AUC of {ASSUMED_AUC} on the test set would be known to about {width} "
            f"({level}, Hanley-McNeil)",
        )
    console.print(table)
    show_warnings(_warnings(study, size), console)


def show_forecast(cost: Forecast, console: Console) -> None:
    """Print what the study would cost here."""
    table = _rows()
    table.add_row(
        "bank",
        f"{cost.images} images and views once through the frozen layers, "
        f"{in_words(cost.bank_bytes)} of disk ({in_words(cost.free_bytes)} free)"
        if cost.images
        else "none: every epoch passes the whole network",
    )
    slots = cost.size.slots
    memory = PROCESS_BYTES * (slots + 1) / 1e9
    table.add_row("memory", f"about {memory:.1f} GB, trials at a time: {slots}")
    cores = f"{os.cpu_count()} CPU cores"
    table.add_row("time", f"at most about {duration(cost.seconds)} on {cores}; less with a GPU")
    table.add_row("to pay", to_pay(cost.filling + cost.training, cost.size.cores))
    console.print(table)
    if SPARE_DISK * cost.bank_bytes > cost.free_bytes:
        text = "the disk is too small for the bank: set bank.path or bank.mode: off"
        show_warnings([text], console)


def show_warnings(warnings: Sequence[str], console: Console) -> None:
    """Print what looks wrong."""
    for warning in warnings:
        console.print(f"[yellow]warning[/] {escape(warning)}")


def _patients(cohort: Cohort) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold", title_justify="left")
    for heading in ("patients", "all", "positive", "negative", "unknown"):
        table.add_column(heading, justify="left" if heading == "patients" else "right")
    target, folds = cohort.development.target, cohort.split.folds
    rows = [("development", target)]
    rows += [(f"  fold {fold + 1}", target[folds == fold]) for fold in np.unique(folds)]
    for name, values in rows:
        counts = (values.size, np.sum(values == 1), np.sum(values == 0), np.sum(np.isnan(values)))
        table.add_row(name, *map(str, counts))
    table.add_row("test", str(cohort.test_size), "sealed", "sealed", "sealed")
    excluded = cohort.flow["excluded"]
    assert isinstance(excluded, Mapping)
    if excluded:
        table.add_row("excluded", str(sum(excluded.values())))
    return table


def _rows() -> Table:
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(style="bold", no_wrap=True, min_width=len("search"))
    table.add_column(overflow="fold")
    return table


def _may_stop(study: Study) -> bool:
    """Return whether the scheduler can stop trials before their last epoch.

    In reproducible order a generation is compared with earlier ones, so the first is never stopped.
    """
    search = study.search
    first = search.generation if search.order == "reproducible" else 1
    early = search.grace < study.training.epochs
    return search.scheduler == "asha" and early and search.trials > first and not study.is_fixed


def _warnings(study: Study, size: Size) -> list[str]:
    found = []
    search = study.search
    if not study.is_fixed and search.order == "reproducible" and search.generation < size.slots:
        found.append(
            f"search.generation {search.generation} leaves {size.slots - search.generation} of "
            f"{size.slots} slots idle; {size.slots} would not"
        )
    if study.space.lambda_ == 0:
        found.append("space.lambda 0 trains no logits: there will be no AUC, only segment values")
    if math.isnan(size.half_width):
        found.append(TOO_FEW)
    return found


def to_pay(computing: Computing, cores: int) -> str:
    """Return what a cluster would be paid for; ``cores`` are one trial's."""
    on_cpus = _hours(computing.seconds * cores / 3600)
    on_gpus = _hours(computing.operations / GPU_RATE / 3600)
    return (
        f"at most {on_cpus} core-hours on cores like these, or {on_gpus} GPU-hours at "
        f"{GPU_RATE / 1e12:.0f} TFLOP/s, which is assumed"
    )


def _hours(hours: float) -> str:
    if hours < 0.01:
        return "0.01"
    return f"{hours:.0f}" if hours >= 10 else f"{hours:.2g}"


def duration(seconds: float) -> str:
    """Return seconds as a reader wants them: in seconds, minutes or hours."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
