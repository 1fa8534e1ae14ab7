"""A whole study in this process: the parts that Ray would run, run one after the other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from analysis.choose.retrain import retrain
from analysis.choose.select import select
from analysis.judge.evaluate import evaluate
from benchmarks.in_process import search_in_process
from cohort.table import Cohort
from spaces.run_files import RunFiles

__all__ = ["finish_in_process", "run_here", "search_in_process"]


def run_here(function: Callable[..., Any], arguments: Sequence[tuple[Any, ...]]) -> list[Any]:
    """Stand in for ``Place.run_on_slots``."""
    return [function(*one) for one in arguments]


def finish_in_process(run: RunFiles, cohort: Cohort) -> Any:
    """Select, retrain and evaluate; return what evaluate returns."""
    select(run)
    retrain(run, run_here, "cpu")
    return evaluate(run, cohort)
