"""Who was studied, as the flow diagram that readers of trials know."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

from analysis.report.drawing import GREY, INK, opening

# Units of the view box: the same size of letters as in the other figures.
WIDTH, LINE, PAD, GAP = 338, 13, 8, 20
LETTERS_OF_BOX = 25
FONT = "font-family='Helvetica, Arial, sans-serif' font-size='10'"


@dataclass(frozen=True)
class Flow:
    """How many patients there are at each step.

    Attributes:
        collected: rows of the cohort table.
        excluded: how many by reason; empty if nobody.
        included: all others.
        development: lines about the development set; the first one holds its count.
        test: likewise, about the test set.
    """

    collected: int
    excluded: Mapping[str, int]
    included: int
    development: Sequence[str]
    test: Sequence[str]

    def rows(self) -> list[tuple[str, str]]:
        """Return (step, what is said of it) for a table."""
        out = [("excluded", f"{count}: {reason}") for reason, count in self.excluded.items()]
        return [
            ("collected", str(self.collected)),
            *(out or [("excluded", "none")]),
            ("included", str(self.included)),
            ("development", "; ".join(self.development)),
            ("test", "; ".join(self.test)),
        ]


def draw_flow(flow: Flow) -> str:
    """Return the diagram: collected, excluded by reason, included, development and test."""
    left = (WIDTH - 2 - GAP) / 2
    start_of_right = 1 + left + GAP
    out = [f"Excluded: {sum(flow.excluded.values())}" if flow.excluded else "None excluded"]
    for reason, count in flow.excluded.items():
        out += textwrap.wrap(f"{count} {reason}", LETTERS_OF_BOX, subsequent_indent="  ")
    parts: list[str] = []
    top = 1.0
    bottom = _box(parts, 1, top, left, [f"{flow.collected} collected"])
    side = _box(parts, start_of_right, bottom + GAP / 2, left, out)
    middle, arm = 1 + left / 2, (bottom + GAP / 2 + side) / 2
    _line(parts, middle, arm, start_of_right, arm)
    below = side + GAP / 2
    _line(parts, middle, bottom, middle, below)
    end = _box(parts, 1, below, left, [f"{flow.included} included"])
    texts = [
        [line for text in said for line in textwrap.wrap(text, LETTERS_OF_BOX)]
        for said in (flow.development, flow.test)
    ]
    lines = max(map(len, texts))
    floor = end + 1.5 * GAP
    fork = end + GAP / 2
    starts = (1.0, start_of_right)
    parts.append(_path(f"M{middle:g} {end:g}V{fork:g}"))
    parts.append(_path(f"M{starts[0] + left / 2:g} {fork:g}H{starts[1] + left / 2:g}"))
    for x, text in zip(starts, texts, strict=True):
        _line(parts, x + left / 2, fork, x + left / 2, floor)
        height = _box(parts, x, floor, left, text, lines=lines)
    said = "; ".join(f"{step}: {text}" for step, text in flow.rows())
    begun = opening("flow", f"0 0 {WIDTH} {height + 1:g}", "Flow of patients", said)
    return f"{begun}<g {FONT} fill='{INK}'>{''.join(parts)}</g></svg>"


def _box(
    parts: list[str],
    x: float,
    y: float,
    width: float,
    text: Sequence[str],
    *,
    lines: int | None = None,
) -> float:
    """Add a box of text, its first line bold; return its lower edge."""
    height = (lines or len(text)) * LINE + 2 * PAD - 2
    parts.append(
        f"<rect x='{x:g}' y='{y:g}' width='{width:g}' height='{height:g}' rx='2' "
        f"fill='none' stroke='{INK}'/>"
    )
    for at, line in enumerate(text):
        weight = " font-weight='bold'" if at == 0 else ""
        indent = 8 if line.startswith("  ") else 0
        below = y + PAD + 8 + at * LINE
        written = escape(line.strip())
        parts.append(f"<text x='{x + PAD + indent:g}' y='{below:g}'{weight}>{written}</text>")
    return y + height


def _line(parts: list[str], x: float, y: float, to_x: float, to_y: float) -> None:
    """Add a line with an arrow head at its end."""
    parts.append(_path(f"M{x:g} {y:g}L{to_x:g} {to_y:g}"))
    wings = ((-4, -3), (-4, 3)) if to_y == y else ((-3, -4), (3, -4))
    (ax, ay), (bx, by) = wings
    parts.append(
        _path(f"M{to_x + ax:g} {to_y + ay:g}L{to_x:g} {to_y:g}L{to_x + bx:g} {to_y + by:g}")
    )


def _path(drawn: str) -> str:
    return f"<path d='{drawn}' fill='none' stroke='{GREY}'/>"
