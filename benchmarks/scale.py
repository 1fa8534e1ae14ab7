"""Many short trials on many slots: how busy the slots are, and what the driver spends on each.

Trials of 10 to 20 seconds with ten reports only sleep, so that 64 slots fit on two cores; driver,
Ray, and what processes import and write are real, and share those cores. *Utilisation* is the time
that trials were to sleep, as a share of all slots' time, from when the last slot had started its
first trial until the last trial was handed out.
"""

from __future__ import annotations

import os
import shutil
import statistics
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from benchmarks.empty_trials import COHORT
from benchmarks.measuring import (
    Out,
    Quick,
    console,
    goal,
    machine,
    missed,
    show_goals,
    table,
    unshared_bytes,
    write_results,
)
from benchmarks.sleeping_trials import REPORTS, Span, read_spans
from search.place import Place, connected
from search.run import search
from spaces.run_files import RunFiles
from spaces.sections import ResourcesSection
from spaces.study import Study

BUSY = 0.95
MEMORY_MB = 50


@dataclass(frozen=True)
class Plan:
    """One search.

    Attributes:
        order: of proposals, as in the study file.
        generation: trials proposed together, in reproducible order.
        trials: in all.
        slots: trials at a time.
    """

    order: str
    generation: int
    trials: int
    slots: int

    @property
    def study(self) -> Study:
        """The study; nothing is stopped, so that every trial reports ten times."""
        search = {
            "trials": self.trials,
            "order": self.order,
            "generation": self.generation,
            "scheduler": "none",
        }
        content = {
            "name": "scale",
            "cohort": COHORT,
            "training": {"epochs": REPORTS},
            "search": search,
        }
        return Study.model_validate(content)

    @property
    def at_once(self) -> int:
        """How many trials can run at a time."""
        return self.slots if self.order == "asynchronous" else min(self.slots, self.generation)


@dataclass(frozen=True)
class Sample:
    """The driver at one moment: seconds since 1970, CPU seconds used, bytes that are its own."""

    at: float
    cpu: float
    memory: int


class DriverSampler(threading.Thread):
    """Looks at this process each second."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.samples: list[Sample] = []
        self._over = threading.Event()

    def run(self) -> None:
        """Sample until told to stop."""
        while True:
            memory = unshared_bytes(os.getpid())
            self.samples.append(Sample(time.time(), time.process_time(), memory))
            if self._over.wait(1.0):
                return

    def stop(self) -> list[Sample]:
        """Stop, and return the samples."""
        self._over.set()
        self.join()
        return self.samples


def window(spans: Sequence[Span], at_once: int) -> tuple[float, float]:
    """Return when warm-up was over and when the last trial began, in seconds since 1970."""
    first: dict[int, float] = {}
    trials: dict[int, float] = {}
    for span in sorted(spans, key=lambda span: span.began):
        first.setdefault(span.process, span.began)
        trials.setdefault(span.trial, span.began)
    # A process that takes the place of a lost one comes later, and is no part of the warm-up.
    begun = sorted(first.values())[:at_once]
    return begun[-1], max(trials.values())


def utilisation(spans: Sequence[Span], start: float, end: float, slots: int) -> float:
    """Return the share of the slots' time between two moments in which trials slept.

    >>> utilisation([Span(1, 7, 10.0, 4.0), Span(2, 8, 9.0, 3.0)], 10.0, 14.0, slots=2)
    0.75
    """
    inside = (min(end, span.began + span.seconds) - max(start, span.began) for span in spans)
    return ratio(sum(max(0.0, seconds) for seconds in inside), slots * (end - start))


def ratio(part: float, whole: float) -> float:
    """Return a ratio; 0 of nothing, as where a quick search ends before its warm-up.

    >>> ratio(3.0, 4.0), ratio(0.0, 0.0)
    (0.75, 0.0)
    """
    return part / whole if whole else 0.0


def nearest(samples: Sequence[Sample], at: float) -> Sample:
    """Return the sample taken nearest to a moment."""
    return min(samples, key=lambda sample: abs(sample.at - at))


def measure(plan: Plan, place: Place, folder: Path, opener: str) -> dict[str, Any]:
    """Search, and return what slots and driver did."""
    run = RunFiles(folder)
    run.root.mkdir()
    run.study.write_text(plan.study.as_yaml(), encoding="utf-8")
    sampler = DriverSampler()
    sampler.start()
    began = time.time()
    outcome = search(run, place, console=None, opener=f"benchmarks.sleeping_trials:{opener}")
    ended = time.time()
    samples = sampler.stop()
    assert outcome.complete == plan.trials, outcome
    return {**asdict(plan), **evaluate(plan, read_spans(run.root), samples, began, ended)}


def evaluate(
    plan: Plan, spans: Sequence[Span], samples: Sequence[Sample], began: float, ended: float
) -> dict[str, Any]:
    """Return the figures of one search."""
    start, end = window(spans, plan.at_once)
    lengths: dict[int, float] = {}
    for span in spans:
        lengths[span.trial] = lengths.get(span.trial, 0.0) + span.seconds
    warm, over = nearest(samples, start), nearest(samples, end)
    reports = sum(start <= span.began + span.seconds <= end for span in spans)
    return {
        "processes": len({span.process for span in spans}),
        "seconds": ended - began,
        "seconds_ideal": sum(lengths.values()) / plan.slots,
        "seconds_of_warm_up": start - began,
        "seconds_watched": end - start,
        "trial_seconds": statistics.mean(lengths.values()),
        "utilisation": utilisation(spans, start, end, plan.slots),
        "reports_a_second": ratio(reports, end - start),
        "driver_cpu_share": ratio(over.cpu - warm.cpu, over.at - warm.at),
        "driver_cpu_seconds_a_trial": ratio(over.cpu - warm.cpu, reports / REPORTS),
        "driver_mb": {
            "after_warm_up": warm.memory / 1e6,
            "at_the_end": samples[-1].memory / 1e6,
            "highest": max(sample.memory for sample in samples) / 1e6,
        },
        "driver_mb_over_time": [
            [round(sample.at - began, 1), round(sample.memory / 1e6, 2)] for sample in samples[::5]
        ],
    }


def show(found: Sequence[dict[str, Any]], terminal: Console) -> None:
    """Print the table."""
    titles = [name_of(one) for one in found]
    rows = table(f"trials that sleep, on {found[0]['slots']} slots", "", *titles)
    for label, cells in rows_of(found):
        rows.add_row(label, *cells)
    terminal.print(rows)


def name_of(one: dict[str, Any]) -> str:
    """Return what a search is called in a table."""
    if one["order"] == "asynchronous":
        return "asynchronous"
    return f"reproducible, generation {one['generation']}"


def rows_of(found: Sequence[dict[str, Any]]) -> list[tuple[str, list[str]]]:
    """Return the rows of the table: a label, and a figure for each search."""
    return [
        ("trials", [f"{one['trials']:,}" for one in found]),
        ("slots at work after warm-up, %", [f"{100 * one['utilisation']:.1f}" for one in found]),
        ("seconds in all", [f"{one['seconds']:,.0f}" for one in found]),
        ("- of which warm-up", [f"{one['seconds_of_warm_up']:,.0f}" for one in found]),
        ("- if slots never waited", [f"{one['seconds_ideal']:,.0f}" for one in found]),
        ("reports a second", [f"{one['reports_a_second']:.1f}" for one in found]),
        (
            "driver, CPU seconds a trial",
            [f"{one['driver_cpu_seconds_a_trial']:.3f}" for one in found],
        ),
        ("driver, share of a core, %", [f"{100 * one['driver_cpu_share']:.0f}" for one in found]),
        ("driver, MB after warm-up", [f"{one['driver_mb']['after_warm_up']:.0f}" for one in found]),
        ("driver, MB at the end", [f"{one['driver_mb']['at_the_end']:.0f}" for one in found]),
    ]


def goals_of(found: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the goals of the search in asynchronous order, with their verdicts."""
    memory = found["driver_mb"]
    more = memory["at_the_end"] - memory["after_warm_up"]
    return [
        goal(
            f"at least {BUSY:.0%} of the slots at work after warm-up",
            reached=found["utilisation"] >= BUSY,
        ),
        goal(
            f"the driver's memory grows by at most {MEMORY_MB} MB after warm-up",
            reached=more <= MEMORY_MB,
        ),
    ]


def plans_of(slots: int, trials: int) -> list[Plan]:
    """Return both orders; reproducible order gets five generations, enough to see its waits."""
    return [
        Plan("asynchronous", 4, trials, slots),
        Plan("reproducible", slots, min(trials, 5 * slots), slots),
    ]


def main(
    slots: Annotated[int, typer.Option(min=1, help="Trials at a time.")] = 64,
    trials: Annotated[int, typer.Option(min=1, help="Of the asynchronous search.")] = 1000,
    quick: Quick = False,
    out: Out = None,
) -> None:
    """Search with many short trials in both orders; exit code 1 if a goal was missed."""
    terminal, described = console(), machine()
    slots, trials = (2, 8) if quick else (slots, trials)
    opener = "open_quick" if quick else "open_problem"
    folder = Path(tempfile.mkdtemp(prefix="polartune-scale-"))
    try:
        with connected(ResourcesSection(device="cpu", slots=slots)) as place:
            found = [
                measure(plan, place, folder / plan.order, opener)
                for plan in plans_of(slots, trials)
            ]
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    show(found, terminal)
    goals = goals_of(found[0])
    show_goals(goals, terminal, quick=quick)
    content = {"settings": {"slots": slots}, "searches": found, "goals": goals}
    path = write_results("scale", content, described, quick=quick, out=out)
    terminal.print(f"Wrote {path}", soft_wrap=True)
    if not quick and missed(goals):
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
