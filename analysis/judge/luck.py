"""How much of a winner's luck the bias correction left in simulated searches, in a sentence.

``python -m benchmarks.optimism`` simulated them and wrote ``optimism.json`` beside this file.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from analysis.judge.answer import SPACE, number
from analysis.judge.coverage import class_sizes
from spaces.run_files import read_json

GRID = Path(__file__).with_name("optimism.json")
KIND = "optimism"
WORTH_SAYING = 0.01
"""Bias of an AUC above which the report warns of it."""
FEWER = 1.6
"""A cell with so many times more patients of a class than the study has would promise too much."""


@cache
def read_cells() -> tuple[dict[str, Any], ...]:
    """Return every simulated cell; none if it was not simulated yet.

    Raises:
        InputError: the packaged file is damaged.
    """
    return tuple(read_json(GRID, KIND)["cells"]) if GRID.exists() else ()


def luck_sentence(n: int, prevalence: float) -> str:
    """Return what was left of the winner's luck in searches over patients like these.

    Args:
        n: development patients with a label.
        prevalence: share of positives among them.

    Returns:
        Empty where no simulation is near enough.
    """
    ours = np.array(class_sizes(n, prevalence))
    near = [
        cell
        for cell in read_cells()
        if (np.array(class_sizes(cell["n"], cell["prevalence"])) <= FEWER * ours).all()
    ]
    if not near:
        return ""
    cell = min(
        near,
        key=lambda its: float(
            np.linalg.norm(np.log(np.array(class_sizes(its["n"], its["prevalence"])) / ours))
        ),
    )
    left, before = cell["corrected"], cell["score"]
    remains = f"{'too low ' if left['bias'] < 0 else ''}by {number(abs(left['bias']), 3)}"
    said = (
        f"In {cell['replicates']} simulated searches over {cell['n']} patients, "
        f"{100 * cell['prevalence']:.0f}{SPACE}% positive, the winner's score was too high by "
        f"{number(before['bias'], 3)}, its corrected value {remains} "
        f"(standard error {number(left['standard_error'], 3)})"
    )
    if abs(left["bias"]) > WORTH_SAYING:
        return f"{said}: some of the luck is still in it."
    return f"{said}."
