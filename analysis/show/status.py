"""How far a run is, from its files alone."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console
from rich.table import Table

from analysis.choose.choice import why_not_trained
from spaces.parameters import NAMES
from spaces.run_files import RunFiles, read_json, require_run
from spaces.session import is_driven
from spaces.study import read_study
from spaces.trial_log import TrialRecord, read_trials

SHOWN = 30


def show_status(run: RunFiles, console: Console) -> None:
    """Print the trials, the best of them, which steps are done and where their files are.

    Raises:
        InputError: the directory is no run.
    """
    require_run(run)
    study = read_study(run.study)
    trials = read_trials(run.trials)
    asked = 1 if study.is_fixed else study.search.trials
    working = ", a driver is at work" if is_driven(run) else ""
    console.print(f"[bold]{study.name}[/]: {len(trials)} of {asked} trials asked{working}")
    if trials:
        console.print(_trial_table(trials, driven=bool(working)))
    console.print(_step_table(run, trials, asked))
    if run.best.exists():
        best = read_json(run.best, "best")
        score = f"score {best['score']:.3f} (SD over folds {best['score_sd']:.3f})"
        said = why_not_trained(best) or score
        console.print(f"Chosen: trial {best['trial']}, {said}, {best['epochs']} epochs")


def _trial_table(trials: list[TrialRecord], *, driven: bool) -> Table:
    ranked = sorted(trials, key=lambda trial: (not trial.is_complete, -_score(trial), trial.number))
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("trial", "state", "epochs", "score"):
        table.add_column(heading, justify="left" if heading == "state" else "right")
    for name in NAMES:
        table.add_column(name.replace("augmentation_", ""), justify="right")
    for trial in ranked[:SHOWN]:
        values = (f"{value:.3g}" for value in trial.configuration.as_dict().values())
        score = f"{_score(trial):.3f}" if trial.epochs else ""
        state = trial.state or ("running" if driven else "interrupted")
        table.add_row(str(trial.number), state, str(len(trial.epochs)), score, *values)
    if len(ranked) > SHOWN:
        table.caption = f"{len(ranked) - SHOWN} more in trials.jsonl"
    return table


def _score(trial: TrialRecord) -> float:
    return trial.epochs[-1].score if trial.epochs else 0.0


def _step_table(run: RunFiles, trials: list[TrialRecord], asked: int) -> Table:
    ended = sum(trial.state is not None for trial in trials)
    steps: list[tuple[str, bool, Path]] = [
        ("search", ended >= asked, run.trials),
        ("select", run.best.exists(), run.best_study),
        ("retrain", (run.model / "model.json").exists(), run.model),
        ("evaluate", run.metrics.exists(), run.metrics),
        ("report", run.report.exists(), run.report),
    ]
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("step", "", "files"):
        table.add_column(heading, overflow="fold")
    for name, is_done, path in steps:
        table.add_row(name, "done" if is_done else "-", str(path) if path.exists() else "")
    return table
