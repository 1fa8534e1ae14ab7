"""The figure of agreement between predicted and measured segment values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from analysis.judge.answer import MINUS, limits, number
from analysis.report.drawing import BLUE, GREY, INK, ORANGE, WASH, new_canvas, styled, svg_of
from analysis.statistics.agreement import BIAS, LOWER_LIMIT, UPPER_LIMIT
from analysis.statistics.bootstrap import PERCENTILE

# More dots than this hide each other and make a large file.
MOST_DOTS = 1000
SAND = "#f6e7cf"
LINES = (
    (UPPER_LIMIT, "upper limit", ORANGE, SAND, "--"),
    (BIAS, "bias", BLUE, WASH, "-"),
    (LOWER_LIMIT, "lower limit", ORANGE, SAND, "--"),
)

Frame = tuple[tuple[float, float], tuple[float, float]]


def thinned(points: pd.DataFrame) -> pd.DataFrame:
    """Return every k-th row, so that at most ``MOST_DOTS`` remain."""
    step = -(-len(points) // MOST_DOTS)
    return points if step <= 1 else points.iloc[::step]


def frame_around(points: Sequence[pd.DataFrame], regions: Sequence[Mapping[str, Any]]) -> Frame:
    """Return limits of x and y that hold all points and intervals, for figures side by side."""
    across = pd.concat([its["average"] for its in points])
    reach = [abs(value) for its in points for value in its["difference"]]
    for region in regions:
        for name, *_ in LINES:
            interval = region[name]["intervals"][PERCENTILE]
            reach += [abs(interval[end]) for end in ("low", "high") if interval[end] is not None]
    left, right = float(across.min()), float(across.max())
    room = (right - left) or 1.0
    height = 1.12 * max(reach) or 1.0
    # The names of the lines stand right of every dot.
    return (left - 0.05 * room, right + 0.38 * room), (-height, height)


@styled
def draw_agreement(
    points: pd.DataFrame, region: Mapping[str, Any], frame: Frame, *, name: str, who: str, unit: str
) -> str:
    """Return a Bland-Altman plot: bias and limits of agreement with bands for their intervals.

    Args:
        points: ``average`` and ``difference`` of each patient.
        region: an entry of ``judge_regions``.
        frame: limits of x and y.
        name: a word that no other figure has.
        who: the patients.
        unit: of the values.
    """
    canvas, axes = new_canvas(height=3.6)
    shown = thinned(points)
    axes.axhline(0, color=GREY, linewidth=1, linestyle=":")
    said = [f"{who}, n = {region['n']}"]
    for quantity, label, colour, wash, style in LINES:
        estimate, interval = region[quantity]["estimate"], region[quantity]["intervals"][PERCENTILE]
        if estimate is None:
            continue
        if interval["low"] is not None:
            axes.axhspan(interval["low"], interval["high"], color=wash, linewidth=0, zorder=0.4)
        axes.axhline(estimate, color=colour, linewidth=1.4, linestyle=style, zorder=1.5)
        axes.annotate(
            f"{label} {number(estimate)}",
            (1, estimate),
            (0, 3),
            xycoords=axes.get_yaxis_transform(),
            textcoords="offset points",
            ha="right",
            color=colour,
            weight="bold",
            fontsize=8.5,
            zorder=5,
        )
        said.append(f"{label} {number(estimate)} ({limits(interval)})")
    axes.plot(
        shown["average"],
        shown["difference"],
        "o",
        color=INK,
        alpha=0.45,
        markersize=4 if len(shown) <= 300 else 2.5,
        markeredgewidth=0,
    )
    axes.set(xlabel=f"average of predicted and measured ({unit})", xlim=frame[0], ylim=frame[1])
    axes.set_ylabel(f"predicted {MINUS} measured ({unit})")
    axes.set_title(f"{who}, n = {region['n']}", loc="left", weight="bold")
    return svg_of(canvas, name, f"Agreement of mean segment values, {who}", "; ".join(said))
