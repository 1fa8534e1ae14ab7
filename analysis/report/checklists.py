"""What reporting guidelines ask for: where this report answers, and what its authors must supply.

TRIPOD+AI: Collins et al. 2024, 10.1136/bmj-2023-078378. CLAIM: Mongan et al. 2020,
10.1148/ryai.2020200029. The topics are in our own words; the numbers are the guidelines'.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path

import pandas as pd

FILLED, MISSING = "filled", "author must supply"
ITEMS = Path(__file__).with_name("checklists.csv")


@dataclass(frozen=True)
class Item:
    """One row of a guideline.

    Attributes:
        guideline: its name.
        item: its number there.
        topic: what it asks for.
        places: the parts of the report that answer it together; none if one of them is missing.
    """

    guideline: str
    item: str
    topic: str
    places: tuple[str, ...]

    @property
    def status(self) -> str:
        """``filled``, or ``author must supply``."""
        return FILLED if self.places else MISSING


@dataclass(frozen=True)
class Checklist:
    """A guideline against a report."""

    guideline: str
    items: tuple[Item, ...]

    @property
    def filled(self) -> int:
        """How many items the report answers."""
        return sum(item.status == FILLED for item in self.items)


def fill(page: str) -> list[Checklist]:
    """Return every guideline, its items filled where ``page`` has all places that answer them.

    Args:
        page: the report as HTML.
    """
    there = set(re.findall(r'\sid="([a-z_-]+)"', page))
    items = [its if there.issuperset(its.places) else replace(its, places=()) for its in _read()]
    return [
        Checklist(guideline, tuple(rows))
        for guideline, rows in groupby(items, key=lambda item: item.guideline)
    ]


def table(checklists: list[Checklist]) -> pd.DataFrame:
    """Return all items, one a row: ``guideline``, ``item``, ``topic``, ``status``, ``places``."""
    rows = [
        {
            "guideline": its.guideline,
            "item": its.item,
            "topic": its.topic,
            "status": its.status,
            "places": " ".join(its.places),
        }
        for checklist in checklists
        for its in checklist.items
    ]
    return pd.DataFrame(rows)


def _read() -> Iterator[Item]:
    frame = pd.read_csv(ITEMS, dtype=str, keep_default_na=False)
    for row in frame.itertuples(index=False):
        yield Item(
            str(row.guideline), str(row.item), str(row.topic), tuple(str(row.places).split())
        )
