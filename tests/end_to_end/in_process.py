"""A whole study in this process: the parts that Ray would run, run one after the other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from analysis.choose.retrain import retrain
from analysis.choose.select import select
from analysis.judge.evaluate import evaluate
from benchmarks.in_process import search_in_process
from cohort.split import read_split
from cohort.table import Cohort, read_cohort
from spaces.run_files import RunFiles, read_json, write_json
from spaces.study import read_study

__all__ = [
    "FIXED",
    "describe_lambda",
    "finish_in_process",
    "open_cohort",
    "run_here",
    "search_in_process",
]

# One configuration of two epochs: what a test needs that wants a trained model, not a search.
FIXED = {
    "cohort.split": {"test": 12},
    "space": {"lambda": 0.5, "augmentation_strength": 0.0, "learning_rate": 0.01},
    "training.epochs": 2,
    "evaluation.bootstraps": 100,
}


def open_cohort(run: RunFiles) -> Cohort:
    """Return the cohort of a run; its images are not verified again."""
    split = read_split(run.split)
    return read_cohort(read_study(run.study), run.root, split=split, verify_images=False)


def run_here(function: Callable[..., Any], arguments: Sequence[tuple[Any, ...]]) -> list[Any]:
    """Stand in for ``Place.run_on_slots``."""
    return [function(*one) for one in arguments]


def describe_lambda(model: Path, lambda_: float) -> None:
    """Let a trained model's description say that it was trained with another lambda."""
    info = read_json(model / "model.json", "model")
    del info["format"]
    info["chosen"]["configuration"]["lambda"] = lambda_
    if lambda_ == 1:
        info |= dict.fromkeys(("segment_mean", "segment_sd", "segments_prefix"))
    write_json(model / "model.json", "model", info)


def finish_in_process(run: RunFiles, cohort: Cohort) -> Any:
    """Select, retrain and evaluate; return what evaluate returns."""
    select(run)
    retrain(run, run_here, "cpu")
    return evaluate(run, cohort)
