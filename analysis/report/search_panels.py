"""Which figures of the search the report shows, of which numbers; writes those beside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from analysis.report import search_figures
from analysis.report.drawing import Figure
from analysis.report.panels import table_of
from analysis.statistics.curves import ending_table, learning_curves, strength_table, trial_table
from spaces.parameters import AUGMENTATION_STRENGTH
from spaces.run_files import RunFiles
from spaces.study import Study
from spaces.trial_log import WINDOW, TrialRecord


def show_search(
    run: RunFiles, study: Study, trials: Sequence[TrialRecord], best: Mapping[str, Any] | None
) -> dict[str, Figure]:
    """Return the chosen trial's ``learning`` curves, the ``history``, and one figure a parameter.

    Empty before the first epoch; a fixed study has learning curves only.
    """
    if not any(trial.epochs for trial in trials):
        return {}
    table = trial_table(trials)
    data = table_of(run, "trials", table)
    chosen = None if best is None else best["trial"]
    found = {}
    if best is not None:
        found["learning"] = _show_learning(run, study, trials, best)
    if study.is_fixed:
        return found
    states = ", ".join(f"{n} {state}" for state, n in table["state"].value_counts().items())
    found["history"] = Figure(
        search_figures.draw_history(table, chosen),
        f"Score of {len(table)} trials ({states}); the line is the best complete trial so far. "
        "Each score is out-of-fold on the development patients; trials.jsonl.",
        [data],
    )
    scored = int(table["score"].notna().sum())
    for name, parameter in study.space.searched().items():
        if name == AUGMENTATION_STRENGTH:
            found[name] = _show_strengths(run, table, chosen)
            continue
        svg = search_figures.draw_parameter(table, name, searched=parameter, chosen=chosen)
        low, high = search_figures.searched_ends(parameter)
        caption = (
            f"{name}, searched from {low:g} to {high:g}: score of {scored} trials against its "
            "value; trials.jsonl."
        )
        found[name] = Figure(svg, caption, [data])
    return found


def show_endings(run: RunFiles, trials: Sequence[TrialRecord]) -> list[dict[str, Any]]:
    """Return how trials ended, by state and reason; written beside the report."""
    if not trials:
        return []
    table = ending_table(trial_table(trials))
    table_of(run, "endings", table)
    return [{str(key): value for key, value in row.items()} for row in table.to_dict("records")]


def _show_strengths(run: RunFiles, table: pd.DataFrame, chosen: int | None) -> Figure:
    strengths = strength_table(table)
    data = table_of(run, "strengths", strengths)
    svg = search_figures.draw_strengths(table, strengths, chosen)
    counts = ", ".join(
        f"{row.augmentation_strength:g}: {row.asked}" for row in strengths.itertuples()
    )
    caption = (
        f"Score by augmentation strength; trials at each: {counts}. Trials differ in their other "
        "parameters too, so this is no effect of augmentation by itself; trials.jsonl."
    )
    return Figure(svg, caption, [data])


def _show_learning(
    run: RunFiles, study: Study, trials: Sequence[TrialRecord], best: Mapping[str, Any]
) -> Figure:
    trial = next(trial for trial in trials if trial.number == best["trial"])
    curves = learning_curves(trial)
    window = (max(1, best["epochs"] - WINDOW + 1), best["epochs"])
    mean = "ends where training ends" if study.is_fixed else "gives its score"
    return Figure(
        search_figures.draw_learning_curves(curves, window),
        f"Validation AUC of the chosen trial ({trial.number}) in {len(best['fold_auc'])} folds of "
        f"the development set; shaded, the window that {mean}; trials.jsonl.",
        [table_of(run, "learning_curves", curves)],
    )
