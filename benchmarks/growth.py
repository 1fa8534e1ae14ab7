"""How time and memory grow with trials and with patients; what a second study does not repeat."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from benchmarks.measuring import (
    MemorySampler,
    Out,
    Quick,
    console,
    goal,
    machine,
    show_goals,
    step_seconds,
    table,
    wait_for,
    write_results,
)
from benchmarks.phantom_runs import begin_run, parts_of, phantom_table, written
from cohort.split import read_split
from spaces.run_files import RunFiles
from spaces.study import Study
from spaces.trial_log import read_trials

SLOTS = 2
MEMORY_GB = 6.0
SLACK = 1.1
INPUT = "reserve"


@dataclass(frozen=True)
class Sizes:
    """What is run; the strength is fixed, so that the bank has two strengths: 0 and that one.

    Attributes:
        patients: of the small cohort.
        more_patients: of the large one.
        trials: of the short search.
        more_trials: of the long one.
        epochs: of every trial; nothing is stopped.
        size: of the maps in pixels.
        strength: of augmentation, with one view.
    """

    patients: int = 944
    more_patients: int = 9440
    trials: int = 8
    more_trials: int = 64
    epochs: int = 3
    size: int = 224
    strength: float = 0.5


QUICK = Sizes(patients=80, more_patients=160, trials=2, more_trials=4, epochs=2, size=32)


@dataclass(frozen=True)
class Search:
    """What one ``polartune search`` took.

    Attributes:
        command: seconds from its start to its end.
        bank: seconds that filling the bank took, by run.log.
        search: seconds of the search, by run.log.
        training: seconds that the epochs took, summed over the trials.
        samples: training samples that passed a head.
        peak_bytes: Pss_Anon + Pss_Shmem over all its processes, sampled each second.
    """

    command: float
    bank: float
    search: float
    training: float
    samples: int
    peak_bytes: int


def study_of(
    sizes: Sizes, cohort: Path, *, trials: int, target: str = "impaired_any", epochs: int = 0
) -> Study:
    """Return a study whose every trial trains all its epochs at one strength."""
    content = {
        "name": "growth",
        "cohort": {
            "path": str(cohort),
            "inputs": [INPUT],
            "target": target,
            "derive": {"impaired_any": {"below": 2.0}},
            "colour_scale": "fixed",
            "split": {"test": 0.1},
        },
        "network": {"backbone": "efficientnet_lite0", "image_size": sizes.size},
        "augmentation": {"views": 1},
        "space": {"augmentation_strength": sizes.strength},
        "training": {"epochs": epochs or sizes.epochs},
        "search": {"trials": trials, "scheduler": "none"},
        "resources": {"device": "cpu", "slots": SLOTS},
    }
    return Study.model_validate(content)


def start(run: RunFiles) -> subprocess.Popen[bytes]:
    """Start ``polartune search`` in a process of its own."""
    command = [sys.executable, "-m", "polartune", "search", str(run.root)]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL)  # noqa: S603


def search(run: RunFiles) -> Search:
    """Search to the end and return what it took."""
    began = time.perf_counter()
    process = start(run)
    with MemorySampler(process.pid) as memory:
        status = process.wait()
    command = time.perf_counter() - began
    assert status == 0, f"polartune search ended with {status}"
    trials = read_trials(run.trials)
    epochs = [epoch for trial in trials for epoch in trial.epochs]
    log = run.log.read_text(encoding="utf-8")
    return Search(
        command=command,
        bank=step_seconds("bank", log),
        search=step_seconds("search", log),
        training=sum(epoch.seconds for epoch in epochs),
        samples=len(epochs) * training_samples(run),
        peak_bytes=memory.peak,
    )


def training_samples(run: RunFiles) -> int:
    """Return the samples of one epoch: every patient trains in all folds but one."""
    folds = read_split(run.split).folds
    return sum(int((folds != fold).sum()) for fold in set(folds.tolist()))


def interrupt(run: RunFiles) -> None:
    """Search until the first trial has ended, then ask the driver to stop."""

    def has_ended() -> bool:
        return run.trials.exists() and '"event": "ended"' in run.trials.read_text(encoding="utf-8")

    process = start(run)
    try:
        assert wait_for(lambda: has_ended() or process.poll() is not None, seconds=600)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()


def measure_trials(sizes: Sizes, folder: Path, cohort: Path) -> dict[str, Any]:
    """Search with few and many trials; predict the second from the first's head samples."""
    short, long = (
        search(begin_run(study_of(sizes, cohort, trials=trials), folder, folder / f"t{trials}"))
        for trials in (sizes.trials, sizes.more_trials)
    )
    # Both without the bank, which only the first of them fills.
    measured = long.command - long.bank
    more = (long.samples - short.samples) * (short.training / short.samples) / SLOTS
    predicted = short.command - short.bank + more
    return {
        "short": asdict(short),
        "long": asdict(long),
        "seconds_measured": measured,
        "seconds_predicted": predicted,
        "ratio": measured / predicted,
    }


def measure_patients(sizes: Sizes, folder: Path, small: dict[str, Any]) -> dict[str, Any]:
    """Search a cohort that is many times as large."""
    cohort = phantom_table(folder, patients=sizes.more_patients, maps=[INPUT], size=228)
    study = study_of(sizes, cohort, trials=sizes.trials)
    large = search(begin_run(study, folder, folder / "large"))
    shutil.rmtree(cohort.parent)
    times = sizes.more_patients / sizes.patients
    ratios = {
        step: getattr(large, step) / small[step] / times for step in ("command", "bank", "search")
    }
    both = (large.bank + large.search) / (small["bank"] + small["search"]) / times
    return {"large": asdict(large), "share_of_linear": {**ratios, "bank_and_search": both}}


def count_repeats(sizes: Sizes, folder: Path, cohort: Path) -> dict[str, int]:
    """Count the bank parts that a second target and a resumed run write, and lines they lose."""
    before = parts_of(cohort)
    study = study_of(sizes, cohort, trials=1, target="sex", epochs=1)
    search(begin_run(study, folder, folder / "second"))
    after_second = parts_of(cohort)
    run = begin_run(study_of(sizes, cohort, trials=4, epochs=1), folder, folder / "resumed")
    interrupt(run)
    kept = run.trials.read_text(encoding="utf-8")
    search(run)
    return {
        "parts": len(before),
        "written_by_a_second_target": written(before, after_second),
        "written_by_a_resumed_run": written(after_second, parts_of(cohort)),
        "lines_lost_by_a_resumed_run": int(
            not run.trials.read_text(encoding="utf-8").startswith(kept)
        ),
    }


def goals_of(trials: dict[str, Any], patients: dict[str, Any], counted: dict[str, int]) -> Any:
    """Return the goals with their verdicts."""
    peak = patients["large"]["peak_bytes"] / 1e9
    repeats = sum(value for name, value in counted.items() if name != "parts")
    share = patients["share_of_linear"]["bank_and_search"]
    return [
        goal(
            "more trials take at most 1.1 times what their head samples predict",
            reached=trials["ratio"] <= SLACK,
        ),
        goal("more patients: bank and search at most 1.1 times linear", reached=share <= SLACK),
        goal(f"at most {MEMORY_GB:g} GB over all processes", reached=peak <= MEMORY_GB),
        goal("nothing is computed twice", reached=repeats == 0),
    ]


def show(sizes: Sizes, content: dict[str, Any], terminal: Console) -> None:
    """Print the tables."""
    trials, patients, counted = content["trials"], content["patients"], content["counted"]
    rows = table(
        f"{sizes.epochs} epochs a trial, {SLOTS} slots, seconds",
        "",
        "command",
        "bank",
        "search",
        "GB",
    )
    for label, one in (
        (f"{sizes.patients} patients, {sizes.trials} trials", trials["short"]),
        (f"{sizes.patients} patients, {sizes.more_trials} trials", trials["long"]),
        (f"{sizes.more_patients} patients, {sizes.trials} trials", patients["large"]),
    ):
        cells = [f"{one[name]:.1f}" for name in ("command", "bank", "search")]
        rows.add_row(label, *cells, f"{one['peak_bytes'] / 1e9:.2f}")
    terminal.print(rows)
    terminal.print(
        f"{sizes.more_trials} trials without the bank: {trials['seconds_measured']:.1f} s; "
        f"predicted from head samples {trials['seconds_predicted']:.1f} s"
    )
    shares = ", ".join(f"{k} {v:.2f}" for k, v in patients["share_of_linear"].items())
    terminal.print(f"{sizes.more_patients} patients, time as a share of linear growth: {shares}")
    terminal.print(
        f"of {counted['parts']} bank parts, written again: by a second target "
        f"{counted['written_by_a_second_target']}, by a resumed run "
        f"{counted['written_by_a_resumed_run']}"
    )


def main(
    folder: Annotated[Path | None, typer.Option(help="Where to work; 4 GB are needed.")] = None,
    quick: Quick = False,
    out: Out = None,
) -> None:
    """Measure growth from 8 to 64 trials and from 944 to 9,440 patients."""
    terminal, described = console(), machine()
    sizes = QUICK if quick else Sizes()
    home = Path(tempfile.mkdtemp(prefix="polartune-growth-", dir=folder))
    try:
        cohort = phantom_table(home, patients=sizes.patients, maps=[INPUT], size=228)
        trials = measure_trials(sizes, home, cohort)
        counted = count_repeats(sizes, home, cohort)
        patients = measure_patients(sizes, home, trials["short"])
    finally:
        shutil.rmtree(home, ignore_errors=True)
    goals = goals_of(trials, patients, counted)
    content = {"trials": trials, "patients": patients, "counted": counted, "goals": goals}
    show(sizes, content, terminal)
    show_goals(goals, terminal, quick=quick)
    settings = {"settings": {**asdict(sizes), "slots": SLOTS}}
    path = write_results("growth", settings | content, described, quick=quick, out=out)
    terminal.print(f"Wrote {path}", soft_wrap=True)


if __name__ == "__main__":
    typer.run(main)
