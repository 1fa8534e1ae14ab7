"""Small studies for searches that cost nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from spaces.run_files import RunFiles
from spaces.study import Study

COHORT = {"path": "cohort.csv", "inputs": ["rest"], "target": "sex", "colour_scale": "fixed"}
EPOCHS = 6

MakeRun = Callable[..., RunFiles]


def make_study(*, epochs: int = EPOCHS, space: dict | None = None, **search: Any) -> Study:
    """A study with the given search section."""
    return Study.model_validate(
        {
            "name": "simulated",
            "seed": search.pop("seed", 0),
            "cohort": COHORT,
            "space": space or {},
            "training": {"epochs": epochs},
            "search": {"trials": 8, "grace": 2, "eta": 2} | search,
        }
    )
