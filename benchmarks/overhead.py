"""What our search costs beside plain Ray Tune, and how soon a study is at work."""

from __future__ import annotations

import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from ray import tune
from ray.tune.search.optuna import OptunaSearch
from rich.console import Console

from benchmarks.empty_trials import COHORT, EmptyTrainable
from benchmarks.measuring import (
    WIDTH,
    Out,
    Quick,
    console,
    goal,
    machine,
    show_goals,
    spread,
    summarise,
    table,
    wait_for,
    write_results,
)
from benchmarks.phantom_runs import begin_run, fill_bank, phantom_table
from search.place import Place, connected
from search.run import TUNE_ENVIRONMENT, search
from search.searcher import distributions, sampler_of
from spaces.run_files import RunFiles
from spaces.sections import ResourcesSection
from spaces.study import Study

SLOTS = 2
MORE_A_TRIAL_MS = 25
FIRST_EPOCH_SECONDS = 10


@dataclass(frozen=True)
class Timing:
    """How long one search of empty trials took.

    Attributes:
        seconds: from the call to its return.
        first: until the first trial had reported: processes start and import.
        last: until the last trial had reported.
    """

    seconds: float
    first: float
    last: float

    def milliseconds(self, trials: int) -> float:
        """Return the whole time for each trial."""
        return 1e3 * self.seconds / trials

    def steady_milliseconds(self, trials: int) -> float:
        """Return the time from one report to the next, without start and end."""
        return 1e3 * (self.last - self.first) / (trials - 1)


def empty_study(trials: int) -> Study:
    """Return a study whose trials report once; everything else as by default."""
    content = {
        "name": "empty",
        "cohort": COHORT,
        "training": {"epochs": 1},
        "search": {"trials": trials},
    }
    return Study.model_validate(content)


def time_ours(place: Place, folder: Path, trials: int) -> Timing:
    """Time our whole search: log with fsync, logits, TensorBoard, and the live table."""
    run = RunFiles(folder)
    run.root.mkdir()
    run.study.write_text(empty_study(trials).as_yaml(), encoding="utf-8")
    with Path(os.devnull).open("w", encoding="utf-8") as nowhere:
        terminal = Console(file=nowhere, force_terminal=True, width=WIDTH)
        began, clock = time.time(), time.perf_counter()
        outcome = search(
            run, place, console=terminal, opener="benchmarks.empty_trials:open_problem"
        )
        seconds = time.perf_counter() - clock
    assert outcome.complete == trials, outcome
    written = [path.stat().st_mtime for path in run.out_of_fold.iterdir()]
    return Timing(seconds, min(written) - began, max(written) - began)


def time_raw(place: Place, folder: Path, trials: int) -> Timing:
    """Time Ray Tune with OptunaSearch alone, its own files and tables off as in our search."""
    study = empty_study(trials)
    tuner = tune.Tuner(
        tune.with_resources(EmptyTrainable, {"CPU": place.cpus}),
        tune_config=tune.TuneConfig(
            search_alg=OptunaSearch(
                distributions(study.space),
                metric="score",
                mode="max",
                sampler=sampler_of(study.search, study.seed, 0),
            ),
            num_samples=trials,
            max_concurrent_trials=place.slots,
            reuse_actors=True,
        ),
        run_config=tune.RunConfig(
            name="raw",
            storage_path=str(folder),
            verbose=0,
            checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
        ),
    )
    os.environ.update(TUNE_ENVIRONMENT)
    began, clock = time.time(), time.perf_counter()
    results = tuner.fit()
    seconds = time.perf_counter() - clock
    metrics = [results[at].metrics or {} for at in range(len(results))]
    reported = [float(one["reported_at"]) for one in metrics]
    assert len(reported) == trials
    return Timing(seconds, min(reported) - began, max(reported) - began)


WAYS: dict[str, Callable[[Place, Path, int], Timing]] = {"ours": time_ours, "raw": time_raw}


def measure_trials(
    folder: Path, trials: int, repeats: int, *, quick: bool
) -> dict[str, list[Timing]]:
    """Time both ways alternately, unless quick each once beforehand for what is imported once."""
    found: dict[str, list[Timing]] = {name: [] for name in WAYS}
    with connected(ResourcesSection(device="cpu", slots=SLOTS)) as place:
        for repeat in range(0 if quick else -1, repeats):
            for name in sorted(WAYS, reverse=repeat % 2 == 1):
                count = trials if repeat >= 0 else SLOTS
                timing = WAYS[name](place, folder / f"{name}{repeat}", count)
                if repeat >= 0:
                    found[name].append(timing)
    return found


def demo_like(cohort: Path, *, quick: bool) -> dict[str, Any]:
    """Return a study of the demo's size (944 phantoms, 160 pixels, 2 views), or a tiny one."""
    return {
        "name": "first-epoch",
        "cohort": {
            "path": str(cohort),
            "inputs": ["reserve"],
            "target": "impaired_any",
            "derive": {"impaired_any": {"below": 2.0}},
            "colour_scale": "fixed",
            "split": {"test": 0.1, "stratify": True},
        },
        "network": {"backbone": "efficientnet_lite0", "image_size": 32 if quick else 160},
        "augmentation": {"views": 2},
        "training": {"epochs": 3 if quick else 10},
        "search": {"trials": 4},
        "resources": {"device": "cpu", "slots": SLOTS},
    }


def measure_first_epoch(folder: Path, *, quick: bool, repeats: int) -> dict[str, list[float]]:
    """Time ``polartune search RUN`` from its start to the first epoch in trials.jsonl, bank warm.

    Returns:
        ``seconds`` until the line, and of those ``computing``: what the epoch itself took.
    """
    cohort = phantom_table(folder, patients=60 if quick else 944, maps=["reserve"], size=228)
    study = Study.model_validate(demo_like(cohort, quick=quick))
    found: dict[str, list[float]] = {"seconds": [], "computing": []}
    for repeat in range(repeats):
        run = begin_run(study, folder, folder / f"first{repeat}")
        fill_bank(run)
        seconds, computing = _time_first_epoch(run)
        found["seconds"].append(seconds)
        found["computing"].append(computing)
    return found


def _time_first_epoch(run: RunFiles) -> tuple[float, float]:
    lines: list[dict[str, Any]] = []

    def has_epoch() -> bool:
        if run.trials.exists():
            whole = run.trials.read_text(encoding="utf-8").split("\n")[:-1]
            lines[:] = [json.loads(line) for line in whole if '"event": "epoch"' in line]
        return bool(lines)

    command = [sys.executable, "-m", "polartune", "search", str(run.root)]
    began = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # noqa: S603
    try:
        came = wait_for(lambda: has_epoch() or process.poll() is not None, seconds=300)
        seconds = time.perf_counter() - began
        assert came, "no epoch within five minutes"
        assert lines, "the search ended without an epoch"
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()
    return seconds, float(lines[0]["seconds"])


def summary(found: dict[str, list[Timing]], trials: int) -> dict[str, Any]:
    """Return the milliseconds a trial of both ways, and by how much ours are more."""
    whole = {
        name: [timing.milliseconds(trials) for timing in timings] for name, timings in found.items()
    }
    more = [ours - raw for ours, raw in zip(whole["ours"], whole["raw"], strict=True)]
    return {
        "milliseconds_a_trial": {name: summarise(values) for name, values in whole.items()},
        "more_a_trial": summarise(more),
        "steady_milliseconds_a_trial": {
            name: summarise([timing.steady_milliseconds(trials) for timing in timings])
            for name, timings in found.items()
        },
        "seconds_to_first_report": {
            name: summarise([timing.first for timing in timings]) for name, timings in found.items()
        },
    }


def show(found: dict[str, Any], terminal: Console, trials: int) -> None:
    """Print both tables."""
    rows = table(f"{trials} empty trials on {SLOTS} slots", "", "ours", "Ray Tune alone")
    for key, label, factor, digits in (
        ("milliseconds_a_trial", "ms a trial, all in all", 1, 1),
        ("steady_milliseconds_a_trial", "ms from report to report", 1, 1),
        ("seconds_to_first_report", "s to the first report", 1, 2),
    ):
        cells = [
            spread([factor * value for value in found[key][name]["values"]], digits)
            for name in ("ours", "raw")
        ]
        rows.add_row(label, *cells)
    terminal.print(rows)
    terminal.print(f"ours - Ray Tune alone: {spread(found['more_a_trial']['values'])} ms a trial")
    first = found["first_epoch"]
    terminal.print(
        f"from the command to the first epoch, bank warm: {spread(first['seconds']['values'])} s, "
        f"of which computing it: {first['computing']['median']:.1f} s"
    )


def main(
    trials: Annotated[int, typer.Option(min=2, help="Empty trials a repeat.")] = 100,
    repeats: Annotated[int, typer.Option(min=1, help="Alternating repeats.")] = 3,
    quick: Quick = False,
    out: Out = None,
) -> None:
    """Time empty trials through our search against Ray Tune alone; time the first epoch."""
    terminal, described = console(), machine()
    trials, repeats = (6, 1) if quick else (trials, repeats)
    folder = Path(tempfile.mkdtemp(prefix="polartune-overhead-"))
    try:
        timings = measure_trials(folder, trials, repeats, quick=quick)
        first = measure_first_epoch(folder, quick=quick, repeats=repeats)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    found = summary(timings, trials)
    found["first_epoch"] = {name: summarise(values) for name, values in first.items()}
    show(found, terminal, trials)
    more, begun = found["more_a_trial"]["median"], statistics.median(first["seconds"])
    goals = [
        goal(
            f"at most {MORE_A_TRIAL_MS} ms a trial more than Ray Tune alone",
            reached=more <= MORE_A_TRIAL_MS,
        ),
        goal(
            f"first epoch within {FIRST_EPOCH_SECONDS} s of the command, bank warm",
            reached=begun <= FIRST_EPOCH_SECONDS,
        ),
    ]
    show_goals(goals, terminal, quick=quick)
    settings = {"trials": trials, "repeats": repeats, "slots": SLOTS}
    content = {"settings": settings, **found, "goals": goals}
    path = write_results("overhead", content, described, quick=quick, out=out)
    terminal.print(f"Wrote {path}", soft_wrap=True)


if __name__ == "__main__":
    typer.run(main)
