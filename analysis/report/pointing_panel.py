"""The report's panel on the pointing game."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from analysis.judge.answer import maps_of
from analysis.judge.pointing import why_not_played
from analysis.report.findings import Findings
from analysis.report.panels import table_of
from cohort.table import Cohort
from spaces.run_files import RunFiles, read_json

TABLE = "pointing"


@dataclass(frozen=True)
class PointingPanel:
    """What is said of the pointing game.

    Attributes:
        rows: one for each territory and map; empty if it was not played.
        heads: how many random heads were tried.
        sentence: what may be claimed, or why the game was not played.
    """

    rows: Sequence[Mapping[str, Any]]
    heads: int
    sentence: str


def show_pointing(run: RunFiles, cohort: Cohort, found: Findings) -> PointingPanel:
    """Return the panel and write its table."""
    if not run.pointing.exists():
        reason = why_not_played(found.study, cohort) or "it was not computed"
        return PointingPanel([], 0, f"The pointing game was not played: {reason}.")
    content = read_json(run.pointing, "pointing")
    rows = content["rows"]
    table_of(run, TABLE, pd.DataFrame(rows))
    return PointingPanel(rows, content["heads"], _say(rows))


def _say(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return in which territories attention may be said to find the disease."""
    said = []
    for name in dict.fromkeys(row["map"] for row in rows):
        found = [row["territory"] for row in rows if row["map"] == name and row["claimed"]]
        seen = f"Grad-CAM of {_grad_cam_of(name)}"
        if len(found) == 1:
            [vessel] = found
            said.append(
                f"In drawn patients with a tight {vessel} stenosis, {seen} is strongest in the "
                f"{vessel} territory more often than by chance."
            )
        elif found:
            said.append(
                f"In drawn patients with a tight stenosis of one vessel, {seen} is strongest in "
                f"its territory more often than by chance; so for {_listed(found)}."
            )
    failed = [f"{row['territory']} ({row['map']})" for row in rows if not row["claimed"]]
    if failed:
        said.append(f"That Grad-CAM finds the stenosis is not claimed for {_listed(failed)}.")
    return " ".join(said)


def _grad_cam_of(name: str) -> str:
    """Return a map, or those that early stacking gives one attention, as words.

    >>> _grad_cam_of("reserve"), _grad_cam_of("rest+stress")
    ('the reserve map', 'the rest and stress maps')
    """
    inputs = name.split("+")
    words = maps_of(inputs)
    return f"the {words}" if len(inputs) > 1 else f"the {words.removesuffix('s')}"


def _listed(names: Sequence[str]) -> str:
    *others, last = names
    return f"{', '.join(others)} and {last}" if others else last
