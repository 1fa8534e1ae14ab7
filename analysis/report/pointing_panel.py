"""The report's panel on the pointing game."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

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
    table_of(run, TABLE, pd.DataFrame(content["rows"]))
    return PointingPanel(content["rows"], content["heads"], _say(content["rows"]))


def _say(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return in which territories attention may be said to find the disease."""
    claimed = [f"{row['territory']} ({row['map']})" for row in rows if row["claimed"]]
    failed = [f"{row['territory']} ({row['map']})" for row in rows if not row["claimed"]]
    said = []
    if claimed:
        said.append(f"In drawn patients Grad-CAM finds a stenosis of {', '.join(claimed)}.")
    if failed:
        said.append(f"That it does is not claimed for {', '.join(failed)}.")
    return " ".join(said)
