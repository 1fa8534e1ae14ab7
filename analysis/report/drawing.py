"""What every figure of the report shares: its style, its canvas, and how it becomes inline SVG."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas

# Okabe and Ito's colours, told apart with any common colour blindness; dark on white.
INK, GREY, PALE, WASH = "#1b1f24", "#6b7280", "#d9dde3", "#dcebf5"
BLUE, ORANGE, GREEN, RED, SKY = "#0072b2", "#b86e00", "#00795a", "#c44e00", "#8cc4e8"
# At this width in inches a figure fills a phone with letters that can be read.
WIDTH, HEIGHT = 4.7, 3.3
FONTS = ["Arial", "Helvetica", "Liberation Sans", "DejaVu Sans"]
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "text.parse_math": False,  # a column may be called $x$
    "font.family": "sans-serif",
    "font.sans-serif": FONTS,
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
styled = mpl.rc_context(STYLE)
NAMESPACES = 'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'


@dataclass(frozen=True)
class Figure:
    """One figure.

    Attributes:
        svg: the element itself, with a title and a description for those who cannot see it.
        caption: what is seen, of how many patients, from where.
        data: the files with the numbers, relative to the report.
    """

    svg: str
    caption: str
    data: Sequence[str]


def new_canvas(height: float = HEIGHT) -> tuple[Canvas, Axes]:
    """Return an empty figure of the report's width and ``height`` inches."""
    canvas = Canvas(figsize=(WIDTH, height), layout="constrained")
    return canvas, canvas.subplots()


def label_rows(axes: Axes, labels: Sequence[str]) -> None:
    """Write the labels of rows 0, 1, .. left of the axes, each line flush with the axis.

    Matplotlib places the lines of one text by its own fonts, which are not the reader's.
    """
    axes.set_yticks(range(len(labels)), [""] * len(labels))
    for row, label in enumerate(labels):
        lines = label.split("\n")
        for at, line in enumerate(lines):
            below = 11 * (at - (len(lines) - 1) / 2)
            axes.annotate(
                line,
                (0, row),
                (-8, -below),
                xycoords=axes.get_yaxis_transform(),
                textcoords="offset points",
                ha="right",
                va="center",
                color=INK if at == 0 else GREY,
                fontsize=9 if at == 0 else 8.5,
            )


def legend_above(canvas: Canvas) -> None:
    """Put one row of keys over the axes, where no point can hide behind it."""
    canvas.legend(
        loc="outside upper center", ncols=4, handlelength=1.5, columnspacing=1.4, handletextpad=0.4
    )


def svg_of(canvas: Canvas, name: str, title: str, description: str) -> str:
    """Return the canvas as one responsive element; the same input gives the same bytes.

    Args:
        canvas: what was drawn.
        name: a word that no other figure of the page has; its ids begin with it.
        title: what the figure is.
        description: what a reader would see in it, with the numbers.
    """
    buffer = io.StringIO()
    # The salt keeps the ids of several figures on one page apart.
    with mpl.rc_context({"svg.hashsalt": name}):
        canvas.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    drawn = buffer.getvalue()
    drawn = drawn[drawn.index("<svg") :]
    box = re.findall(r'viewBox="([^"]+)"', drawn)[0]
    return opening(name, box, title, description) + _shortened(drawn[drawn.index(">") + 1 :])


def opening(name: str, box: str, title: str, description: str) -> str:
    """Return the start of an SVG element with the given view box, title and description."""
    return (
        f'<svg viewBox="{box}" role="img" aria-labelledby="{name}-title {name}-said" {NAMESPACES}>'
        f'<title id="{name}-title">{escape(title)}</title>'
        f'<desc id="{name}-said">{escape(description)}</desc>'
    )


def _shortened(drawn: str) -> str:
    """Return Matplotlib's SVG without what no reader sees; a third of the bytes remain."""
    drawn = re.sub(r"<metadata>.*?</metadata>", "", drawn, flags=re.DOTALL)
    drawn = re.sub(r"<!--.*?-->", "", drawn, flags=re.DOTALL)
    drawn = re.sub(r'<g id="[^"]*"', "<g", drawn)
    # Coordinates to a hundredth of a point; the numbers that are printed stay as they are.
    drawn = re.sub(r'="[^"]*"', lambda found: re.sub(r"(\.\d\d)\d+", r"\1", found[0]), drawn)
    families = ", ".join(f"'{name}'" for name in FONTS)
    drawn = drawn.replace(f"{families}, sans-serif", "Helvetica, Arial, sans-serif")
    return re.sub(r"\s*\n\s*", "\n", drawn).strip()
