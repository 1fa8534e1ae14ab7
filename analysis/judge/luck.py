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
ALIKE = 1.6
"""A cell with so many times more patients of a class than the study has would promise too much; a
search so many times longer or shorter than the simulated ones has another luck."""


@cache
def read_simulated() -> dict[str, Any]:
    """Return the simulated searches: ``cells`` and ``settings``.

    Raises:
        InputError: the packaged file is missing or damaged.
    """
    return read_json(GRID, KIND)


def luck_sentence(n: int, prevalence: float, *, trials: int, epochs: int) -> str:
    """Return what was left of the winner's luck in searches like this over patients like these.

    Args:
        n: development patients with a label.
        prevalence: share of positives among them.
        trials: that the search asks.
        epochs: of a trial that is not stopped.

    Returns:
        Empty where no simulation is near enough.
    """
    simulated = read_simulated()
    settings, ours = simulated["settings"], np.array(class_sizes(n, prevalence))
    near = [
        cell
        for cell in simulated["cells"]
        if (np.array(class_sizes(cell["n"], cell["prevalence"])) <= ALIKE * ours).all()
    ]
    if not (near and _alike(trials, settings["trials"]) and _alike(epochs, settings["epochs"])):
        return ""
    cell = min(
        near,
        key=lambda its: float(
            np.linalg.norm(np.log(np.array(class_sizes(its["n"], its["prevalence"])) / ours))
        ),
    )
    left, before, true = cell["corrected"], cell["score"], settings["true_auc"]
    said = (
        f"In {cell['replicates']} simulated searches ({settings['trials']} trials of "
        f"{settings['epochs']} epochs, true AUCs {number(true['mean'])} \N{PLUS-MINUS SIGN} "
        f"{number(true['sd'])}) over {cell['n']} patients, {100 * cell['prevalence']:.0f}{SPACE}% "
        f"positive, the winner's score was {_off(before['bias'])}, its corrected value "
        f"{_off(left['bias'])} (standard error {number(left['standard_error'], 3)})"
    )
    if left["bias"] > WORTH_SAYING:
        return f"{said}, so part of the optimism remains."
    if left["bias"] < -WORTH_SAYING:
        return f"{said}, so it corrects too much."
    return f"{said}."


def _alike(one: int, other: int) -> bool:
    return one <= ALIKE * other and other <= ALIKE * one


def _off(bias: float) -> str:
    return f"too {'low' if bias < 0 else 'high'} by {number(abs(bias), 3)}"
