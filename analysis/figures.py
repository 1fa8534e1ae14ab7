"""The figures of the report as inline SVG, each with a text that says what it shows."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas
from matplotlib.ticker import FuncFormatter, MaxNLocator

from analysis.answer import limits, number
from analysis.curves import Calibration
from cohort.segments import TERRITORIES

# Okabe and Ito's colours, told apart with any common colour blindness; dark on white.
INK, GREY, PALE = "#1b1f24", "#6b7280", "#d9dde3"
BLUE, ORANGE, GREEN, RED, SKY = "#0072b2", "#b86e00", "#00795a", "#c44e00", "#8cc4e8"
SIZE = (4.7, 3.3)
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.sans-serif": ["Arial", "Helvetica", "Liberation Sans", "DejaVu Sans"],
    "font.size": 9.5,
    "axes.titlesize": 9.5,
    "axes.labelsize": 9.5,
    "axes.edgecolor": GREY,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#eceff3",
    "grid.linewidth": 0.8,
    "xtick.color": GREY,
    "ytick.color": GREY,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
    "text.color": INK,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "lines.linewidth": 1.8,
    "lines.solid_capstyle": "round",
}


@dataclass(frozen=True)
class Figure:
    """One figure.

    Attributes:
        svg: the element itself, with ``role="img"`` and its alternative text.
        caption: what is seen, of how many patients, from where.
        data: the file with the numbers, relative to the report.
    """

    svg: str
    caption: str
    data: str


@mpl.rc_context(STYLE)
def draw_roc(curves: Sequence[tuple[str, str, str, pd.DataFrame]], name: str = "roc") -> str:
    """Return ROC curves; each is (label, colour, line style, rates)."""
    canvas, axes = _canvas()
    axes.plot([0, 1], [0, 1], color=PALE, linewidth=1.2)
    for label, colour, style, rates in curves:
        x, y = rates["false_positive_rate"], rates["true_positive_rate"]
        axes.plot(x, y, color=colour, linestyle=style, label=label)
    axes.set(xlabel="1 \N{MINUS SIGN} specificity", ylabel="sensitivity")
    axes.set(xlim=(-0.015, 1.015), ylim=(-0.015, 1.015), aspect="equal")
    axes.legend(loc="lower right", handlelength=2.2, borderaxespad=0.2)
    alt = "ROC curves: " + "; ".join(label for label, *_ in curves)
    return _svg(canvas, name, alt)


@mpl.rc_context(STYLE)
def draw_intervals(
    rows: Sequence[tuple[str, Mapping[str, Any]]], methods: Mapping[str, str]
) -> str:
    """Return a forest plot of AUCs: each row is (label, Estimate), each method one line of it."""
    canvas, axes = _canvas()
    colours, offsets = (BLUE, ORANGE, GREEN), (-0.22, 0.0, 0.22)
    for y, (_, estimate) in enumerate(rows):
        for (key, label), colour, offset in zip(methods.items(), colours, offsets, strict=True):
            interval = estimate["intervals"][key]
            if interval["low"] is not None:
                span = [interval["low"], interval["high"]]
                axes.plot(span, [y + offset] * 2, color=colour, label=label if y == 0 else None)
            axes.plot(estimate["estimate"], y + offset, "o", color=colour, markersize=4.5)
    axes.set_yticks(range(len(rows)), [label for label, _ in rows])
    axes.set(xlabel="test AUC", ylim=(len(rows) - 0.4, -0.6))
    axes.axvline(0.5, color=GREY, linewidth=1, linestyle=":")
    axes.set_xlim(right=1.005)
    axes.grid(axis="y", visible=False)
    _legend_above(canvas)
    said = [
        f"{label}: {number(estimate['estimate'])}, "
        + ", ".join(f"{name} {limits(estimate['intervals'][key])}" for key, name in methods.items())
        for label, estimate in rows
    ]
    return _svg(canvas, "intervals", "Test AUC with intervals. " + ". ".join(said))


@mpl.rc_context(STYLE)
def draw_learning_curves(curves: pd.DataFrame, window: tuple[int, int]) -> str:
    """Return validation AUC by epoch: folds thin, their mean thick, the best window shaded."""
    canvas, axes = _canvas()
    folds = [name for name in map(str, curves.columns) if name.startswith("fold_")]
    axes.axvspan(window[0] - 0.5, window[1] + 0.5, color="#fff3d6", label="best window")
    for at, fold in enumerate(folds):
        label = "one fold" if at == 0 else None
        axes.plot(curves["epoch"], curves[fold], color=SKY, linewidth=1.1, label=label)
    dots = "o" if len(curves) < 40 else None
    axes.plot(curves["epoch"], curves["mean"], color=BLUE, marker=dots, markersize=4, label="mean")
    axes.set(xlabel="epoch", ylabel="validation AUC", xlim=(0.5, len(curves) + 0.5))
    axes.xaxis.set_major_locator(MaxNLocator(8, integer=True))
    _legend_above(canvas)
    first, last = curves["mean"].iloc[0], curves["mean"].iloc[-1]
    alt = (
        f"Validation AUC over {len(curves)} epochs in {len(folds)} folds: mean {first:.3f} after "
        f"the first, {last:.3f} after the last; best window epochs {window[0]} to {window[1]}"
    )
    return _svg(canvas, "learning", alt)


@mpl.rc_context(STYLE)
def draw_history(trials: pd.DataFrame, chosen: int | None) -> str:
    """Return the score of every trial by number, with the best complete score so far."""
    canvas, axes = _canvas()
    axes.step(trials["trial"], trials["best_so_far"], where="post", color=GREY, linewidth=1.2)
    _scatter_states(axes, trials, "trial", chosen)
    failed = trials[trials["score"].isna()]
    if len(failed):
        floor = axes.get_ylim()[0]
        axes.plot(failed["trial"], [floor] * len(failed), "x", color=RED, label="no score")
    axes.set(xlabel="trial", ylabel="score (mean CV AUC)")
    axes.xaxis.set_major_locator(MaxNLocator(8, integer=True))
    _legend_above(canvas)
    counts = ", ".join(f"{n} {state}" for state, n in trials["state"].value_counts().items())
    best = trials["best_so_far"].max()
    alt = f"Score of {len(trials)} trials by number ({counts}); best complete score {best:.3f}"
    return _svg(canvas, "history", alt)


@mpl.rc_context(STYLE)
def draw_parameter(trials: pd.DataFrame, name: str, *, log: bool, chosen: int | None) -> str:
    """Return the score of every trial against one searched parameter."""
    canvas, axes = _canvas(height=2.5)
    _scatter_states(axes, trials, name, chosen)
    axes.set(xlabel=name.replace("_", " "), ylabel="score")
    if log:
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.xaxis.set_minor_formatter(FuncFormatter(lambda *_: ""))
    scored = trials.dropna(subset="score")
    low, high = trials[name].min(), trials[name].max()
    alt = f"Score of {len(scored)} trials against {name} from {low:.3g} to {high:.3g}"
    winner = trials.loc[trials["trial"] == chosen, name]
    if len(winner):
        alt += f"; chosen {winner.iloc[0]:.3g}"
    return _svg(canvas, name, alt)


@mpl.rc_context(STYLE)
def draw_calibration(calibration: Calibration) -> str:
    """Return observed against predicted shares, with exact intervals."""
    canvas, axes = _canvas()
    bins = calibration.bins
    axes.plot([0, 1], [0, 1], color=PALE, linewidth=1.2)
    errors = np.stack([bins["observed"] - bins["low"], bins["high"] - bins["observed"]])
    axes.errorbar(
        bins["predicted"], bins["observed"], errors, fmt="o", color=BLUE, markersize=5, elinewidth=1
    )
    axes.set(xlabel="predicted probability", ylabel="observed share positive")
    axes.set(xlim=(-0.03, 1.03), ylim=(-0.03, 1.03), aspect="equal")
    alt = (
        f"Calibration of {calibration.n} out-of-fold predictions in {len(bins)} bins: slope "
        f"{number(calibration.slope)}, intercept {number(calibration.intercept)}"
    )
    return _svg(canvas, "calibration", alt)


@mpl.rc_context(STYLE)
def draw_segments(rows: Sequence[Mapping[str, Any]], unit: str) -> str:
    """Return the mean absolute error of each segment with its interval, coloured by territory."""
    canvas, axes = _canvas()
    colours = dict(zip(TERRITORIES, (BLUE, ORANGE, GREEN), strict=True))
    for territory, members in TERRITORIES.items():
        for row in (row for row in rows if row["segment"] in members):
            interval = row["intervals"]["percentile"]
            if row["estimate"] is None or interval["low"] is None:
                continue
            x, colour = row["segment"], colours[territory]
            axes.plot([x, x], [interval["low"], interval["high"]], color=colour, linewidth=1.4)
            label = territory if x == members[0] else None
            axes.plot(x, row["estimate"], "o", color=colour, markersize=5, label=label)
    axes.set(xlabel="segment", ylabel=f"mean absolute error ({unit})")
    axes.set_xticks(range(1, 18))
    axes.tick_params(axis="x", labelsize=8)
    highs = [row["intervals"]["percentile"]["high"] or 0.0 for row in rows]
    axes.set_ylim(0, 1.12 * max(highs))
    _legend_above(canvas)
    known = [row["estimate"] for row in rows if row["estimate"] is not None]
    alt = f"Mean absolute error of {len(known)} segments, {min(known):.2f} to {max(known):.2f}"
    return _svg(canvas, "segments", alt)


def _legend_above(canvas: Canvas) -> None:
    canvas.legend(
        loc="outside upper center", ncols=4, handlelength=1.5, columnspacing=1.4, handletextpad=0.4
    )


def _scatter_states(axes: Axes, trials: pd.DataFrame, x: str, chosen: int | None) -> None:
    """Draw complete trials filled, stopped ones hollow, and ring the chosen one."""
    looks: dict[str, dict[str, Any]] = {
        "complete": {"color": BLUE, "s": 26},
        "stopped": {"facecolors": "white", "edgecolors": ORANGE, "marker": "v", "s": 24},
    }
    for state, look in looks.items():
        some = trials[(trials["state"] == state) & trials["score"].notna()]
        if len(some):
            axes.scatter(some[x], some["score"], label=state, zorder=3, **look)
    winner = trials[trials["trial"] == chosen]
    ring: dict[str, Any] = {"facecolors": "none", "edgecolors": RED, "s": 110, "linewidths": 1.6}
    if len(winner):
        axes.scatter(winner[x], winner["score"], label="chosen", zorder=4, **ring)


def _canvas(height: float = SIZE[1]) -> tuple[Canvas, Axes]:
    canvas = Canvas(figsize=(SIZE[0], height), layout="constrained")
    return canvas, canvas.subplots()


def _svg(canvas: Canvas, name: str, alt: str) -> str:
    """Return the canvas as one responsive element; the same input gives the same bytes."""
    buffer = io.StringIO()
    # The salt keeps the ids of several figures on one page apart.
    with mpl.rc_context({"svg.hashsalt": name}):
        canvas.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    drawn = buffer.getvalue()
    drawn = drawn[drawn.index("<svg") :]
    drawn = re.sub(r"<metadata>.*?</metadata>\s*", "", drawn, flags=re.DOTALL)
    drawn = re.sub(r'<g id="[^"]*"', "<g", drawn)
    box = re.findall(r'viewBox="([^"]+)"', drawn)[0]
    opening = f'<svg viewBox="{box}" role="img" aria-label="{escape(alt)}" {_NAMESPACES}>'
    return re.sub(r"<svg[^>]*>", lambda _: opening, drawn, count=1).strip()


_NAMESPACES = 'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
