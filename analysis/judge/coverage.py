"""How often intervals like the reported ones were right in simulations, in sentences.

``python -m benchmarks.coverage`` simulated it, on a grid of patients, prevalence and AUC, and wrote
``coverage.json`` beside this file.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import norm

from analysis.judge.answer import SPACE, number
from analysis.statistics.bootstrap import BCA, LOGIT_DELONG, PERCENTILE
from spaces.run_files import read_json

GRID = Path(__file__).with_name("coverage.json")
KIND = "coverage"
NOMINAL = 0.95
METHODS = {LOGIT_DELONG: "logit-DeLong", PERCENTILE: "percentile", BCA: "BCa"}
# A cell with many more patients of either class than the study has would promise too much.
MORE_PATIENTS = 1.6
# Half way, on the normal scale, from the grid's last AUC to .975; nearer to 1 intervals collapse.
LARGEST_AUC = 0.96


COVERAGE = ("cells", "auc_intervals", "coverage")
"""Of the intervals of one AUC: the share of the test sets whose interval covered it."""
TYPE_1_ERROR = ("comparisons", "difference_intervals", "type_1_error")
"""Of two scores of the same AUC: the share whose interval of the difference left out 0."""


@dataclass(frozen=True)
class GridCell:
    """One point of the grid: the test sets that were simulated.

    Attributes:
        n: test patients.
        prevalence: share of positives among all patients; a test set's own share varies.
        auc: true AUC, of every score.
        replicates: simulated test sets.
        rates: share of the test sets, in [0, 1], by the method of a nominal 95 % interval.
    """

    n: int
    prevalence: float
    auc: float
    replicates: int
    rates: Mapping[str, float]

    @property
    def classes(self) -> tuple[float, float]:
        """Expected patients of the rarer and of the commoner class."""
        return class_sizes(self.n, self.prevalence)


def class_sizes(n: int, prevalence: float) -> tuple[float, float]:
    """Return the expected patients of the rarer and of the commoner class."""
    rarer = min(prevalence, 1 - prevalence)
    return n * rarer, n * (1 - rarer)


@cache
def read_grid(measure: tuple[str, str, str] = COVERAGE) -> tuple[GridCell, ...]:
    """Return every simulated cell.

    Args:
        measure: ``COVERAGE`` or ``TYPE_1_ERROR``.

    Raises:
        InputError: the packaged file is missing or damaged.
    """
    listed, statistic, rate = measure
    return tuple(
        GridCell(
            **{name: cell[name] for name in ("n", "prevalence", "auc", "replicates")},
            rates={
                method: cell[statistic][method][rate]
                for method in METHODS
                if method in cell[statistic]
            },
        )
        for cell in read_json(GRID, KIND)[listed]
    )


def nearest(
    cells: Sequence[GridCell], n: int, prevalence: float, auc: float | None
) -> GridCell | None:
    """Return the simulated cell that is most like these test patients, or None if none is.

    Cells are compared by their patients of the rarer and of the commoner class, on log scales, and
    then by their AUC. Exchanging the classes, or turning a score round, changes no interval but to
    mirror it; so the grid serves prevalences above .5 and AUCs below .5 too, and the cell is
    returned the way round that was asked for.

    Args:
        cells: of ``read_grid``.
        n: test patients with a label.
        prevalence: share of positives among them.
        auc: the estimate; None if it is undefined.

    Returns:
        None for fewer patients than were simulated, or an AUC so near to 1 (or 0) that intervals
        begin to collapse.
    """
    if auc is None or not max(auc, 1 - auc) <= LARGEST_AUC:  # a nan is not either
        return None
    ours = np.array(class_sizes(n, prevalence))
    here = [cell for cell in cells if (cell.classes <= MORE_PATIENTS * ours).all()]
    if not here:
        return None

    def distance(cell: GridCell) -> tuple[float, float]:
        of_classes = np.linalg.norm(np.log(np.array(cell.classes) / ours))
        of_auc = abs(norm.ppf(cell.auc) - norm.ppf(max(auc, 1 - auc)))
        return round(float(of_classes), 9), float(of_auc)

    cell = min(here, key=distance)
    if prevalence > 0.5:
        cell = replace(cell, prevalence=1 - cell.prevalence)
    return replace(cell, auc=1 - cell.auc) if auc < 0.5 else cell


def say_coverage(metrics: Mapping[str, Any]) -> list[str]:
    """Return what simulations say of the intervals of the AUC and of the primary difference.

    Args:
        metrics: of any judgement whose model has an AUC.
    """
    n, confidence = metrics["n"], metrics["confidence"]
    share, auc = metrics["positives"] / n, metrics["model"]["auc"]["estimate"]
    said = [coverage_sentence(n, share, auc, confidence=confidence)]
    if metrics["differences"]:
        other = metrics["baselines"][metrics["primary_comparison"]]["auc"]["estimate"]
        said.append(comparison_sentence(n, share, (auc + other) / 2, confidence=confidence))
    return [sentence for sentence in said if sentence]


def coverage_sentence(n: int, prevalence: float, auc: float | None, *, confidence: float) -> str:
    """Return how often each method's interval of such an AUC covered the truth in simulations.

    Args:
        n: test patients with a label.
        prevalence: share of positives among them.
        auc: the estimate; None if it is undefined.
        confidence: the intervals' own; others than .95 were not simulated.
    """
    if confidence != NOMINAL:
        return f"Coverage was simulated for 95{SPACE}% intervals only."
    cell = nearest(read_grid(), n, prevalence, auc)
    if cell is None:
        return "No simulation is near enough to say how often these intervals cover the truth."
    covered = [f"{name} {_percent(cell.rates[method])}" for method, name in METHODS.items()]
    return (
        f"In {cell.replicates} simulations with {_patients(cell)} and an AUC of "
        f"{number(cell.auc)}, nominal 95{SPACE}% intervals covered the truth this often: "
        f"{', '.join(covered)}."
    )


def comparison_sentence(n: int, prevalence: float, auc: float | None, *, confidence: float) -> str:
    """Return how often such an interval of a difference saw one where there was none.

    Args:
        n: test patients with a label.
        prevalence: share of positives among them.
        auc: the mean of both estimates; None if one is undefined.
        confidence: the interval's own; others than .95 were not simulated.
    """
    if confidence != NOMINAL:
        return ""  # said of the AUCs already
    cell = nearest(read_grid(TYPE_1_ERROR), n, prevalence, auc)
    if cell is None:
        return "No simulation is near enough to say how often a difference is seen where none is."
    return (
        f"In {cell.replicates} simulations of two equally good classifiers ({_patients(cell)}, AUC "
        f"{number(cell.auc)}, scores correlated by {number(_correlation(), 1)} within a class) the "
        f"interval of the difference left out 0 in {_percent(cell.rates[PERCENTILE])} of them "
        f"(nominal 5{SPACE}%)."
    )


@cache
def _correlation() -> float:
    return float(read_json(GRID, KIND)["settings"]["correlation_within_class"])


def _patients(cell: GridCell) -> str:
    return f"{cell.n} patients, {100 * cell.prevalence:.0f}{SPACE}% positive"


def _percent(share: float) -> str:
    return f"{100 * share:.1f}{SPACE}%"
