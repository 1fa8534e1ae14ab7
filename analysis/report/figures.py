"""The figures of how the model judges patients: AUCs, ROC curves, calibration, segment errors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from analysis.judge.answer import number
from analysis.report.drawing import (
    BLUE,
    GREEN,
    GREY,
    INK,
    ORANGE,
    PALE,
    WASH,
    label_rows,
    legend_above,
    new_canvas,
    styled,
    svg_of,
)
from analysis.statistics.curves import Calibration
from cohort.segments import TERRITORIES

CHANCE = 0.5


@dataclass(frozen=True)
class Bar:
    """One estimate with its interval.

    Attributes:
        label: of whom; a line break is kept.
        method: of the interval; bars of one method share a colour.
        estimate: None if it is undefined.
        low: the lower limit; None where the interval is undefined.
        high: the upper limit.
    """

    label: str
    method: str
    estimate: float | None
    low: float | None
    high: float | None

    @property
    def span(self) -> tuple[float, float] | None:
        """Both limits, if there are any."""
        return None if self.low is None or self.high is None else (self.low, self.high)

    @property
    def said(self) -> str:
        """The bar in words."""
        label = self.label.replace("\n", " ")
        span = "undefined" if self.low is None else f"{number(self.low)} to {number(self.high)}"
        return f"{label}: {number(self.estimate)} ({span}, {self.method})"


@styled
def draw_headline(bars: Sequence[Bar]) -> str:
    """Return the AUC of the model and of what it is compared with between coin toss and perfect."""
    canvas, axes = new_canvas(height=0.75 + 0.5 * len(bars))
    lows = [bar.low for bar in bars if bar.low is not None]
    shown = [bar.estimate for bar in bars if bar.estimate is not None]
    left = min([CHANCE, *lows, *shown])
    for y, (bar, colour) in enumerate(zip(bars, (BLUE, ORANGE), strict=False)):
        if bar.estimate is None:
            continue
        if bar.span is not None:
            axes.plot(bar.span, [y, y], color=colour, linewidth=3.2)
        axes.plot(bar.estimate, y, "o", color=colour, markersize=8, clip_on=False)
        axes.annotate(
            number(bar.estimate),
            (min(bar.estimate, 0.985), y),
            (0, 8),
            textcoords="offset points",
            ha="center",
            color=colour,
            weight="bold",
        )
    axes.axvline(CHANCE, color=GREY, linewidth=1, linestyle=":")
    label_rows(axes, [bar.label for bar in bars])
    axes.set(ylim=(len(bars) - 0.5, -0.75), xlim=(left - 0.03, 1.005))
    ticks = [tick for tick in np.arange(11) / 10 if tick >= left - 0.03]
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    for tick, word in ((CHANCE, "coin toss"), (1.0, "perfect")):
        axes.annotate(
            word,
            (tick, 0),
            (0, -21),
            xycoords=axes.get_xaxis_transform(),
            textcoords="offset points",
            ha="center",
            va="center",
            fontsize=9,
        )
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.grid(axis="y", visible=False)
    said = "; ".join(bar.said for bar in bars)
    return svg_of(canvas, "headline", "Test AUC with its interval", said)


@styled
def draw_roc(
    curves: Sequence[tuple[str, str, str, pd.DataFrame]],
    points: Sequence[tuple[str, str, str, float, float]],
    band: pd.DataFrame,
) -> str:
    """Return ROC curves, the points of thresholds on them, and the band of the first curve.

    Args:
        curves: (label, colour, line style, rates) each.
        points: (label, colour, marker, false positive rate, true positive rate) each.
        band: of ``roc_band``.
    """
    canvas, axes = new_canvas(height=4.5)
    axes.plot([0, 1], [0, 1], color=PALE, linewidth=1.2)
    at = band["false_positive_rate"]
    key = "model, test: interval of sensitivity"
    axes.fill_between(at, band["low"], band["high"], color=WASH, linewidth=0, label=key, zorder=0.5)
    for label, colour, style, rates in curves:
        x, y = rates["false_positive_rate"], rates["true_positive_rate"]
        axes.plot(x, y, color=colour, linestyle=style, label=label)
    for label, colour, marker, false_rate, true_rate in points:
        axes.plot(
            false_rate,
            true_rate,
            marker,
            markersize=7.5,
            markerfacecolor="white",
            markeredgecolor=colour,
            markeredgewidth=1.6,
            label=label,
            zorder=4,
            clip_on=False,
        )
    axes.set(xlabel="1 \N{MINUS SIGN} specificity", ylabel="sensitivity")
    axes.set(xlim=(-0.015, 1.015), ylim=(-0.015, 1.015), aspect="equal")
    canvas.legend(loc="outside upper center", ncols=1, handlelength=2.2)
    said = [label for label, *_ in curves]
    middle = band.iloc[(at - 0.2).abs().argmin()]
    said.append(f"{key} at specificity 0.80: {number(middle['low'])} to {number(middle['high'])}")
    said += [
        f"{label}: sensitivity {number(true)}, specificity {number(1 - false)}"
        for label, _, _, false, true in points
    ]
    return svg_of(canvas, "roc", "ROC curves", "; ".join(said))


@styled
def draw_forest(
    bars: Sequence[Bar], name: str, title: str, quantity: str, *, reference: float
) -> str:
    """Return estimates with intervals, one row a label and one colour a method.

    Args:
        bars: those of one label stand together.
        name: a word that no other figure has.
        title: what the figure is.
        quantity: what the axis measures.
        reference: the value of no effect, drawn as a line.
    """
    labels = list(dict.fromkeys(bar.label for bar in bars))
    methods = list(dict.fromkeys(bar.method for bar in bars))
    canvas, axes = new_canvas(height=1.1 + 0.55 * len(labels))
    colours = dict(zip(methods, (BLUE, ORANGE, GREEN, INK), strict=False))
    keyed: set[str] = set()
    for y, label in enumerate(labels):
        rows = [bar for bar in bars if bar.label == label]
        for bar, offset in zip(rows, np.arange(len(rows)) - (len(rows) - 1) / 2, strict=True):
            at, colour = y + 0.22 * float(offset), colours[bar.method]
            if bar.estimate is None:
                continue
            if bar.span is not None:
                key = bar.method if bar.method not in keyed else None
                keyed.add(bar.method)
                axes.plot(bar.span, [at, at], color=colour, label=key)
            axes.plot(bar.estimate, at, "o", color=colour, markersize=4.5)
    label_rows(axes, labels)
    axes.set(xlabel=quantity, ylim=(len(labels) - 0.4, -0.6))
    axes.axvline(reference, color=GREY, linewidth=1, linestyle=":")
    axes.grid(axis="y", visible=False)
    if keyed:
        legend_above(canvas)
    return svg_of(canvas, name, title, "; ".join(bar.said for bar in bars))


@styled
def draw_calibration(calibration: Calibration) -> str:
    """Return observed against predicted shares, with exact intervals."""
    canvas, axes = new_canvas()
    bins = calibration.bins
    axes.plot([0, 1], [0, 1], color=PALE, linewidth=1.2)
    errors = np.stack([bins["observed"] - bins["low"], bins["high"] - bins["observed"]])
    axes.errorbar(
        bins["predicted"], bins["observed"], errors, fmt="o", color=BLUE, markersize=5, elinewidth=1
    )
    axes.set(xlabel="predicted probability", ylabel="observed share positive")
    axes.set(xlim=(-0.03, 1.03), ylim=(-0.03, 1.03), aspect="equal")
    slope, in_the_large = (
        number(its.estimate if its.interval.is_defined else None)
        for its in (calibration.slope, calibration.in_the_large)
    )
    said = (
        f"{calibration.n} out-of-fold predictions in {len(bins)} bins; slope {slope}, in the large "
        f"{in_the_large}"
    )
    return svg_of(canvas, "calibration", "Calibration", said)


@styled
def draw_segments(rows: Sequence[Mapping[str, Any]], unit: str) -> str:
    """Return the mean absolute error of each segment with its interval, coloured by territory."""
    canvas, axes = new_canvas()
    colours = dict(zip(TERRITORIES, (BLUE, ORANGE, GREEN), strict=True))
    for territory, members in TERRITORIES.items():
        key: str | None = territory
        for row in (row for row in rows if row["segment"] in members):
            interval = row["intervals"]["percentile"]
            if row["estimate"] is None or interval["low"] is None:
                continue
            x, colour = row["segment"], colours[territory]
            axes.plot([x, x], [interval["low"], interval["high"]], color=colour, linewidth=1.4)
            axes.plot(x, row["estimate"], "o", color=colour, markersize=5, label=key)
            key = None
    axes.set(xlabel="segment", ylabel=f"mean absolute error ({unit})")
    axes.set_xticks(range(1, 18))
    axes.tick_params(axis="x", labelsize=8)
    highs = [row["intervals"]["percentile"]["high"] or 0.0 for row in rows]
    axes.set_ylim(0, 1.12 * max(highs) or 1.0)
    if axes.get_legend_handles_labels()[0]:
        legend_above(canvas)
    known = [row["estimate"] for row in rows if row["estimate"] is not None]
    said = f"{len(known)} segments"
    if known:
        said += f", errors from {min(known):.2f} to {max(known):.2f}"
    return svg_of(canvas, "segments", "Mean absolute error of each segment", said)


@styled
def draw_decision(curve: pd.DataFrame) -> str:
    """Return the net benefit of the model with its interval, of acting on all and on nobody.

    Args:
        curve: of ``decision_curve``.
    """
    canvas, axes = new_canvas()
    at = curve["threshold"]
    axes.fill_between(at, curve["low"], curve["high"], color=WASH, linewidth=0, zorder=0.5)
    lines = (("model", "model", BLUE, "-"), ("treat_all", "act on everybody", ORANGE, "--"))
    for column, label, colour, style in lines:
        axes.plot(at, curve[column], color=colour, linestyle=style, label=label)
    axes.axhline(0, color=GREY, linewidth=1, linestyle=":", label="act on nobody")
    # Far below zero acting on everybody only says that it is foolish there.
    lowest = min(0.0, float(curve["low"].min()))
    highest = max(float(curve["high"].max()), float(curve["treat_all"].max()), 0.01)
    axes.set(ylim=(lowest - 0.05 * highest, 1.05 * highest), xlim=(at.min(), at.max()))
    axes.set(xlabel="probability from which one acts", ylabel="net benefit a patient")
    legend_above(canvas)
    ends = [
        f"at {number(row['threshold'])} model {number(row['model'], 3)}, everybody "
        f"{number(row['treat_all'], 3)}"
        for _, row in curve.iloc[[0, -1]].iterrows()
    ]
    return svg_of(canvas, "decision", "Decision curve", "; ".join(ends))
