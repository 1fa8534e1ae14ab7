"""A thousand short trials, their processes killed at random: nothing lost, and memory flat."""

from __future__ import annotations

import os
import random
import shutil
import signal
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmarks.measuring import (
    Out,
    Quick,
    console,
    goal,
    machine,
    missed,
    show_goals,
    table,
    write_results,
)
from benchmarks.scale import MEMORY_MB, DriverSampler, Plan, evaluate
from benchmarks.sleeping_trials import SPANS, read_spans
from search.place import connected
from search.run import search
from spaces.run_files import RunFiles
from spaces.sections import ResourcesSection
from spaces.trial_log import read_trials

WORKING_SECONDS, LOOK_SECONDS = 1.0, 0.05


class Killer(threading.Thread):
    """Kills the process of a running trial now and then, at random moments or at the next after.

    Attributes:
        killed: how many so far.
    """

    def __init__(self, run: RunFiles, every: float) -> None:
        super().__init__(daemon=True)
        self.killed = 0
        self._spans = run.root / SPANS
        self._every = every
        self._over = threading.Event()

    def run(self) -> None:
        """Kill until told to stop."""
        draw = random.Random(0)  # noqa: S311  a die, not a secret
        while not self._over.wait(draw.expovariate(1 / self._every)):
            while not (working := self._working()):
                if self._over.wait(LOOK_SECONDS):
                    return
            with suppress(ProcessLookupError):
                os.kill(draw.choice(working), signal.SIGKILL)
                self.killed += 1

    def stop(self) -> int:
        """Stop, and return how many were killed."""
        self._over.set()
        self.join()
        return self.killed

    def _working(self) -> list[int]:
        """Return the processes that have noted something within the last second."""
        now = time.time()
        files = sorted(self._spans.glob("*.jsonl"))
        noted = [file for file in files if now - file.stat().st_mtime < WORKING_SECONDS]
        return [int(file.stem) for file in noted if Path(f"/proc/{file.stem}").exists()]


def soak(folder: Path, *, trials: int, slots: int, every: float) -> dict[str, Any]:
    """Search under fire, and return what became of trials and driver."""
    plan = Plan("asynchronous", 4, trials, slots)
    run = RunFiles(folder / "run")
    run.root.mkdir()
    run.study.write_text(plan.study.as_yaml(), encoding="utf-8")
    killer, sampler = Killer(run, every), DriverSampler()
    with connected(ResourcesSection(device="cpu", slots=slots)) as place:
        sampler.start()
        killer.start()
        began = time.time()
        outcome = search(run, place, console=None, opener="benchmarks.sleeping_trials:open_quick")
        ended = time.time()
        samples, killed = sampler.stop(), killer.stop()  # what is read below is not the driver's
    found = evaluate(plan, read_spans(run.root), samples, began, ended)
    log = run.trials.read_text(encoding="utf-8").splitlines()
    ends = [trial.number for trial in read_trials(run.trials) if trial.state]
    said = sum('"event": "ended"' in line for line in log)
    return {
        "trials": trials,
        "killed": killed,
        "complete": outcome.complete,
        "failed": outcome.failed,
        "ended_once": sorted(ends) == list(range(trials)) and said == trials,
        "started_again": sum('"event": "lost"' in line for line in log),
        **{name: found[name] for name in ("seconds", "utilisation", "processes", "driver_mb")},
        "driver_mb_over_time": found["driver_mb_over_time"],
    }


def main(
    trials: Annotated[int, typer.Option(min=1)] = 1000,
    slots: Annotated[int, typer.Option(min=1, help="Trials at a time.")] = 8,
    every: Annotated[float, typer.Option(help="Seconds between two kills, on average.")] = 5.0,
    quick: Quick = False,
    out: Out = None,
) -> None:
    """Run many short trials under random kills and count; exit code 1 if a goal was missed."""
    terminal, described = console(), machine()
    if quick:
        trials, slots, every = 6, 2, 1.5
    folder = Path(tempfile.mkdtemp(prefix="polartune-soak-"))
    try:
        found = soak(folder, trials=trials, slots=slots, every=every)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    memory = found["driver_mb"]
    rows = table(f"short trials on {slots} slots", "", "")
    for label, value in (
        ("trials asked", trials),
        ("- complete", found["complete"]),
        ("- failed, after all retries", found["failed"]),
        ("processes killed", found["killed"]),
        ("trials started again", found["started_again"]),
        ("seconds", f"{found['seconds']:.0f}"),
        ("driver, MB after warm-up", f"{memory['after_warm_up']:.0f}"),
        ("driver, MB at the end", f"{memory['at_the_end']:.0f}"),
    ):
        rows.add_row(label, str(value))
    terminal.print(rows)
    more = memory["at_the_end"] - memory["after_warm_up"]
    hit = found["killed"] > 0 and found["started_again"] > 0
    goals = [
        goal("processes were killed, and their trials started again", reached=hit),
        goal("every trial asked ended exactly once", reached=found["ended_once"]),
        goal("no trial failed", reached=found["failed"] == 0),
        goal(f"driver grows by at most {MEMORY_MB} MB after warm-up", reached=more <= MEMORY_MB),
    ]
    show_goals(goals, terminal, quick=quick)
    content = {"settings": {"slots": slots, "every": every}, **found, "goals": goals}
    path = write_results("soak", content, described, quick=quick, out=out)
    terminal.print(f"Wrote {path}", soft_wrap=True)
    if not quick and missed(goals):
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
