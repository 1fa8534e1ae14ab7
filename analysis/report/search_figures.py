"""The figures of the search: every trial by number and parameter; how the chosen one learnt."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, MaxNLocator

from analysis.report.drawing import (
    BLUE,
    GREY,
    ORANGE,
    RED,
    SKY,
    legend_above,
    new_canvas,
    styled,
    svg_of,
)
from spaces.parameters import Choices, Range

STATES: dict[str, dict[str, Any]] = {
    "complete": {"color": BLUE, "s": 26},
    "stopped": {"facecolors": "white", "edgecolors": ORANGE, "marker": "v", "s": 24},
}
RING: dict[str, Any] = {"facecolors": "none", "edgecolors": RED, "s": 110, "linewidths": 1.6}


@styled
def draw_learning_curves(curves: pd.DataFrame, window: tuple[int, int]) -> str:
    """Return validation AUC by epoch: folds thin, their mean thick, the best window shaded."""
    canvas, axes = new_canvas()
    folds = [name for name in map(str, curves.columns) if name.startswith("fold_")]
    axes.axvspan(window[0] - 0.5, window[1] + 0.5, color="#fff3d6", label="best window")
    for at, fold in enumerate(folds):
        label = "one fold" if at == 0 else None
        axes.plot(curves["epoch"], curves[fold], color=SKY, linewidth=1.1, label=label)
    dots = "o" if len(curves) < 40 else None
    axes.plot(curves["epoch"], curves["mean"], color=BLUE, marker=dots, markersize=4, label="mean")
    axes.set(xlabel="epoch", ylabel="validation AUC", xlim=(0.5, len(curves) + 0.5))
    axes.xaxis.set_major_locator(MaxNLocator(8, integer=True))
    legend_above(canvas)
    first, last = curves["mean"].iloc[0], curves["mean"].iloc[-1]
    said = (
        f"{len(curves)} epochs in {len(folds)} folds: mean {first:.3f} after "
        f"the first, {last:.3f} after the last; best window epochs {window[0]} to {window[1]}"
    )
    return svg_of(canvas, "learning", "Validation AUC by epoch", said)


@styled
def draw_history(trials: pd.DataFrame, chosen: int | None) -> str:
    """Return the score of every trial by number, with the best complete score so far."""
    canvas, axes = new_canvas()
    axes.step(trials["trial"], trials["best_so_far"], where="post", color=GREY, linewidth=1.2)
    _scatter_states(axes, trials, "trial", chosen)
    failed = trials[trials["score"].isna()]
    if len(failed):
        floor = axes.get_ylim()[0]
        axes.plot(failed["trial"], [floor] * len(failed), "x", color=RED, label="no score")
    axes.set(xlabel="trial", ylabel="score (mean CV AUC)")
    axes.xaxis.set_major_locator(MaxNLocator(8, integer=True))
    legend_above(canvas)
    counts = ", ".join(f"{n} {state}" for state, n in trials["state"].value_counts().items())
    said = f"{len(trials)} trials by number ({counts})"
    if trials["best_so_far"].notna().any():
        said += f"; best complete score {trials['best_so_far'].max():.3f}"
    return svg_of(canvas, "history", "Score of every trial", said)


@styled
def draw_parameter(
    trials: pd.DataFrame, name: str, *, searched: Range | Choices, chosen: int | None
) -> str:
    """Return the score of every trial against one parameter, over all of the searched range."""
    canvas, axes = new_canvas(height=2.6)
    _scatter_states(axes, trials, name, chosen)
    axes.set(xlabel=name.replace("_", " "), ylabel="score")
    low, high = searched_ends(searched)
    log = isinstance(searched, Range) and searched.log
    axes.set_xlim(*_with_margin(low, high, log=log))
    if log:
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.xaxis.set_minor_formatter(FuncFormatter(lambda *_: ""))
    legend_above(canvas)
    said = f"{_scored(trials)} trials, searched from {low:g} to {high:g}"
    winner = trials.loc[trials["trial"] == chosen, name]
    if len(winner):
        said += f"; chosen {winner.iloc[0]:.3g}"
    return svg_of(canvas, name, f"Score against {name}", said)


@styled
def draw_strengths(trials: pd.DataFrame, strengths: pd.DataFrame, chosen: int | None) -> str:
    """Return the scores at each augmentation strength, with the mean of the complete trials."""
    canvas, axes = new_canvas(height=2.6)
    name = "augmentation_strength"
    _scatter_states(axes, trials, name, chosen)
    known = strengths.dropna(subset="mean_score")
    steps = sorted(strengths[name])
    reach = 0.3 * min((b - a for a, b in pairwise(steps)), default=0.2)
    for at, row in enumerate(known.itertuples()):
        centre, mean = float(row.augmentation_strength), float(row.mean_score)  # type: ignore[arg-type]
        label = "mean of complete" if at == 0 else None
        axes.plot([centre - reach, centre + reach], [mean] * 2, color=GREY, label=label)
    axes.set(xlabel="augmentation strength", ylabel="score")
    axes.set_xticks(steps)
    legend_above(canvas)
    said = [
        f"{strength:g}: {complete} complete of {asked}"
        for strength, asked, complete in strengths[[name, "asked", "complete"]].to_numpy()
    ]
    return svg_of(canvas, name, "Score by augmentation strength", "; ".join(said))


def searched_ends(searched: Range | Choices) -> tuple[float, float]:
    """Return the smallest and the largest value that a trial could have."""
    if isinstance(searched, Range):
        return searched.low, searched.high
    return searched.choices[0], searched.choices[-1]


def _with_margin(low: float, high: float, *, log: bool) -> tuple[float, float]:
    """Return the searched range and a little more, so that points at its ends are whole."""
    if log:
        margin = (high / low) ** 0.03
        return low / margin, high * margin
    margin = 0.03 * (high - low)
    return low - margin, high + margin


def _scored(trials: pd.DataFrame) -> int:
    return int(trials["score"].notna().sum())


def _scatter_states(axes: Axes, trials: pd.DataFrame, x: str, chosen: int | None) -> None:
    """Draw complete trials filled, stopped ones hollow, and ring the chosen one."""
    for state, look in STATES.items():
        some = trials[(trials["state"] == state) & trials["score"].notna()]
        if len(some):
            axes.scatter(some[x], some["score"], label=state, zorder=3, **look)
    winner = trials[trials["trial"] == chosen]
    if len(winner):
        axes.scatter(winner[x], winner["score"], label="chosen", zorder=4, **RING)
