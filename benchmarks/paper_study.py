"""A study of the paper's size, from the study file to the report: time, epochs and memory.

944 phantoms, ResNet-50 at 224 pixels, 32 trials of up to 20 epochs, ASHA, five strengths of four
views. The weights are random, since torchvision's would have to be downloaded; that changes the
AUC, and with it which trials are stopped, but not what an epoch costs.
"""

from __future__ import annotations

import re
import tempfile
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from analysis.show.result import read_result
from benchmarks.measuring import (
    Out,
    Quick,
    console,
    goal,
    machine,
    show_goals,
    step_seconds,
    table,
    time_command,
    write_results,
)
from benchmarks.phantom_runs import phantom_table
from spaces.run_files import RunFiles
from spaces.study import Study
from spaces.trial_log import read_trials

MINUTES = 25
SLOTS = 2
PATIENTS, TEST, SIZE = 944, 93, 224
STEPS = ("bank", "search", "select", "retrain", "evaluate", "report")


def paper_sized(cohort: Path, *, quick: bool) -> Study:
    """Return what ``studies/paper.yaml`` asks, on phantoms.

    Grace, eta, strengths and views stand here although they are the defaults, so that the setting
    stays what it is when a default changes.
    """
    return Study.model_validate(
        {
            "name": "paper-sized",
            "cohort": {
                "path": str(cohort),
                "inputs": ["reserve"],
                "target": "impaired_any",
                "derive": {"impaired_any": {"below": 2.0}},
                "colour_scale": "fixed",
                "split": {"test": 20 if quick else TEST, "stratify": True},
            },
            "network": {
                "backbone": "resnet18" if quick else "resnet50",
                "weights": "random",
                "trainable_layers": 3,
                "image_size": 32 if quick else SIZE,
            },
            "augmentation": {"views": 4},
            "space": {"augmentation_strength": {"choices": [0.0, 0.25, 0.5, 0.75, 1.0]}},
            "training": {"epochs": 4 if quick else 20},
            "search": {"trials": 5 if quick else 32, "scheduler": "asha", "grace": 3, "eta": 3},
            "evaluation": {"bootstraps": 4000},
            "resources": {"device": "cpu", "slots": SLOTS},
        }
    )


def run_study(study: Study, folder: Path) -> tuple[RunFiles, float, int]:
    """Run ``polartune run``; return the run, its seconds and its peak of memory in bytes."""
    file = folder / "paper.yaml"
    file.write_text(study.as_yaml(), encoding="utf-8")
    seconds, peak = time_command("run", str(file), "--out", str(folder / "runs"))
    return RunFiles(folder / "runs" / study.name), seconds, peak


def describe(run: RunFiles, study: Study, seconds: float, peak: int) -> dict[str, Any]:
    """Return what the run took and what it did, from its own log and files."""
    log = run.log.read_text(encoding="utf-8")
    steps = {name: step_seconds(name, log) for name in STEPS}
    trials, result = read_trials(run.trials), read_result(run)
    epochs = [len(trial.epochs) for trial in trials]
    assert all(trial.state in {"complete", "stopped"} for trial in trials)
    assert len(trials) == study.search.trials
    return {
        "seconds": seconds,
        "steps": steps,
        "trials": len(trials),
        "stopped": sum(trial.state == "stopped" for trial in trials),
        "epochs": sum(epochs),
        "epochs_without_pruning": study.training.epochs * len(trials),
        "epoch_seconds": sum(epoch.seconds for trial in trials for epoch in trial.epochs),
        "bank_images": int(re.findall(r"(\d+) images and views", log)[-1]),
        "bank_gb": sum(path.stat().st_size for path in _bank(study)) / 1e9,
        "peak_gb": peak / 1e9,
        "score": result.score,
        "test_auc": result.auc,
    }


def _bank(study: Study) -> list[Path]:
    return list((Path(study.cohort.path).parent / "banks").rglob("*.safetensors"))


def show(found: dict[str, Any], study: Study, terminal: Console) -> None:
    """Print steps and work."""
    rows = table(
        f"{study.network.backbone} (random weights), {study.network.image_size} px, "
        f"{study.search.trials} trials of up to {study.training.epochs} epochs, {SLOTS} slots",
        "",
        "s",
    )
    for name, seconds in found["steps"].items():
        rows.add_row(name, f"{seconds:.1f}")
    rest = found["seconds"] - sum(found["steps"].values())
    rows.add_row("start, check of the cohort, end", f"{rest:.1f}")
    rows.add_row("all", f"{found['seconds']:.1f}")
    terminal.print(rows)
    terminal.print(
        f"{found['epochs']} epochs of five folds run, {found['stopped']} trials stopped early "
        f"({found['epochs_without_pruning']} epochs without). Bank: {found['bank_images']} images "
        f"and views, {found['bank_gb']:.1f} GB. Memory without mapped files: at most "
        f"{found['peak_gb']:.2f} GB. Score {found['score']:.3f}, test AUC {found['test_auc']:.3f}."
    )


def main(
    folder: Annotated[Path | None, typer.Option(help="Where to work; 6 GB are needed.")] = None,
    quick: Quick = False,
    out: Out = None,
) -> None:
    """Run a study of the paper's size once, from its file to its report."""
    terminal, described = console(), machine()
    with tempfile.TemporaryDirectory(prefix="polartune-paper-", dir=folder) as name:
        home = Path(name)
        patients, size = (80, 32) if quick else (PATIENTS, 228)
        cohort = phantom_table(home, patients=patients, maps=["reserve"], size=size)
        study = paper_sized(cohort, quick=quick)
        run, seconds, peak = run_study(study, home)
        found = describe(run, study, seconds, peak)
    show(found, study, terminal)
    minutes = found["seconds"] / 60
    goals = [goal(f"within {MINUTES} minutes ({minutes:.1f})", reached=minutes <= MINUTES)]
    show_goals(goals, terminal, quick=quick)
    content = {"study": study.model_dump(mode="json"), **found, "goals": goals}
    path = write_results("paper_study", content, described, quick=quick, out=out)
    terminal.print(f"Wrote {path}", soft_wrap=True)


if __name__ == "__main__":
    typer.run(main)
