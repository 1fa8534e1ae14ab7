"""From timed reports to a line: start-up, and what a trial-epoch costs from then on."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.peer import HOME, Job
from benchmarks.workload import CORES
from spaces.run_files import RunFiles
from spaces.trial_log import read_trials

SCORE = "mean/metric/score"


@dataclass(frozen=True)
class Timeline:
    """One search: when it began and ended, and when its driver learnt of each epoch.

    Attributes:
        wall: seconds from the start of its process to the end.
        arrivals: seconds from the start to each report, in order.
        at_a_time: trials at a time.
        auc: by (trial, epoch, fold), the validation AUC.
    """

    wall: float
    arrivals: tuple[float, ...]
    at_a_time: int
    auc: Mapping[tuple[int, int, int], float]

    @property
    def trial_epoch(self) -> float:
        """Seconds of one trial-epoch once every slot has reported its first.

        Trials at a time keep their distance, so what one is ahead at the first mark it is ahead at
        the last, and the two ends cancel.
        """
        first = self.arrivals[self.at_a_time - 1]
        return (self.arrivals[-1] - first) / (len(self.arrivals) - self.at_a_time)

    @property
    def start_up(self) -> float:
        """What is left of the time: processes, imports, data, the first epoch's extra, the end."""
        return self.wall - len(self.arrivals) * self.trial_epoch

    def per_patient(self, patients: int) -> float:
        """Milliseconds for each patient, trial and epoch of five folds."""
        return 1000 * self.trial_epoch / patients


def time_peer(kind: str, job: Job) -> Timeline:
    """Run a peer in a process of its own.

    Args:
        kind: ``plain`` or ``tuned``.
        job: what to run; its ``out`` must lie in a folder that does not exist yet.
    """
    out = Path(job.out)
    out.parent.mkdir(parents=True)
    job.write(out.with_name("job.json"))
    began, wall = _run(["benchmarks.peer", kind, str(out.with_name("job.json"))], out.parent)
    reports = json.loads(out.read_text(encoding="utf-8"))
    arrivals = sorted(report["at"] - began for report in reports)
    areas = {
        (report["trial"], report["epoch"], fold): area
        for report in reports
        for fold, area in enumerate(report["auc"])
    }
    return _whole(Timeline(wall, tuple(arrivals), job.at_a_time, areas), job.epochs)


def time_ours(run: RunFiles, epochs: int) -> Timeline:
    """Run ``polartune search`` on a run that has begun; filling the bank is part of it."""
    began, wall = _run(["polartune", "search", str(run.root)], run.root)
    areas = {
        (trial.number, epoch.epoch, fold): area
        for trial in read_trials(run.trials)
        for epoch in trial.epochs
        for fold, area in enumerate(epoch.auc)
    }
    arrivals = tuple(at - began for at in _written(run.tensorboard))
    return _whole(Timeline(wall, arrivals, CORES, areas), epochs)


def _whole(timeline: Timeline, epochs: int) -> Timeline:
    reports = len({(trial, epoch) for trial, epoch, _ in timeline.auc})
    if reports != len(timeline.arrivals) or reports % epochs:
        raise RuntimeError(f"{reports} epochs were logged and {len(timeline.arrivals)} timed")
    return timeline


def _run(module: Sequence[str], folder: Path) -> tuple[float, float]:
    """Run a module to its end; return when it began and how long it took."""
    environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    environment |= {
        "PYTHONPATH": str(HOME),
        "RAY_USAGE_STATS_ENABLED": "0",
        # Each worker in its own folder would make relative paths and imports depend on it.
        "RAY_CHDIR_TO_TRIAL_DIR": "0",
    }
    log = folder / "benchmark.log"
    with log.open("w", encoding="utf-8") as file:
        began, clock = time.time(), time.perf_counter()
        done = subprocess.run(  # noqa: S603  our own modules
            [sys.executable, "-m", *module],
            cwd=HOME,
            env=environment,
            stdout=file,
            stderr=subprocess.STDOUT,
            check=False,
        )
        wall = time.perf_counter() - clock
    if done.returncode:
        tail = log.read_text(encoding="utf-8", errors="replace")[-3000:]
        raise RuntimeError(f"{' '.join(module)} exited with {done.returncode}:\n{tail}")
    return began, wall


def _written(folder: Path) -> list[float]:
    """Return when our driver wrote each epoch's score, from the curves it keeps anyway."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found: list[float] = []
    for trial in sorted(folder.glob("trial_*")):
        curves: Any = EventAccumulator(str(trial), size_guidance={"scalars": 0})
        curves.Reload()
        found += [event.wall_time for event in curves.Scalars(SCORE)]
    return sorted(found)
