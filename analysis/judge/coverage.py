"""How often intervals like the reported ones covered the truth in simulations, in a sentence.

``python -m benchmarks.coverage`` simulated it, on a grid of patients, prevalence and AUC, and wrote
``coverage.json`` beside this file.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
from scipy.stats import norm

from analysis.judge.answer import SPACE, number
from analysis.statistics.bootstrap import BCA, LOGIT_DELONG, PERCENTILE
from spaces.run_files import read_json

GRID = Path(__file__).with_name("coverage.json")
KIND = "coverage"
NOMINAL = 0.95
METHODS = (PERCENTILE, BCA, LOGIT_DELONG)
# A cell with many more patients of either class than the study has would promise too much.
MORE_PATIENTS = 1.6
# Half way, on the normal scale, from the grid's last AUC to .975; nearer to 1 intervals collapse.
LARGEST_AUC = 0.96


@dataclass(frozen=True)
class CoverageCell:
    """Simulated coverage of the intervals of nominally 95 % at one point of the grid.

    Attributes:
        n: test patients.
        prevalence: share of positives among all patients; a test set's own share varies.
        auc: true AUC.
        replicates: simulated test sets.
        percentile: share of them whose percentile interval covered the AUC.
        bca: likewise, for the bias-corrected and accelerated interval.
        logit_delong: likewise, for DeLong's interval on the logit scale.
    """

    n: int
    prevalence: float
    auc: float
    replicates: int
    percentile: float
    bca: float
    logit_delong: float

    @property
    def classes(self) -> tuple[float, float]:
        """Expected patients of the rarer and of the commoner class."""
        return class_sizes(self.n, self.prevalence)


def class_sizes(n: int, prevalence: float) -> tuple[float, float]:
    """Return the expected patients of the rarer and of the commoner class."""
    rarer = min(prevalence, 1 - prevalence)
    return n * rarer, n * (1 - rarer)


@cache
def read_grid() -> tuple[CoverageCell, ...]:
    """Return every simulated cell.

    Raises:
        InputError: the packaged file is missing or damaged.
    """
    return tuple(
        CoverageCell(
            **{name: cell[name] for name in ("n", "prevalence", "auc", "replicates")},
            **{method: cell["auc_intervals"][method]["coverage"] for method in METHODS},
        )
        for cell in read_json(GRID, KIND)["cells"]
    )


def nearest_coverage(n: int, prevalence: float, auc: float) -> CoverageCell | None:
    """Return the simulated cell that is most like these test patients, or None if none is.

    Cells are compared by their patients of the rarer and of the commoner class, on log scales, and
    then by their AUC. Exchanging the classes, or turning a score round, changes no interval but to
    mirror it; so the grid serves prevalences above .5 and AUCs below .5 too, and the cell is
    returned the way round that was asked for.

    Args:
        n: test patients with a label.
        prevalence: share of positives among them.
        auc: the estimate.

    Returns:
        None for fewer patients than were simulated, or an AUC so near to 1 (or 0) that intervals
        begin to collapse.
    """
    if not max(auc, 1 - auc) <= LARGEST_AUC:  # a nan is not either
        return None
    ours = np.array(class_sizes(n, prevalence))
    here = [cell for cell in read_grid() if (cell.classes <= MORE_PATIENTS * ours).all()]
    if not here:
        return None

    def distance(cell: CoverageCell) -> tuple[float, float]:
        of_classes = np.linalg.norm(np.log(np.array(cell.classes) / ours))
        of_auc = abs(norm.ppf(cell.auc) - norm.ppf(max(auc, 1 - auc)))
        return round(float(of_classes), 9), float(of_auc)

    cell = min(here, key=distance)
    if prevalence > 0.5:
        cell = replace(cell, prevalence=1 - cell.prevalence)
    return replace(cell, auc=1 - cell.auc) if auc < 0.5 else cell


def coverage_sentence(
    n: int, prevalence: float, auc: float | None, *, method: str, confidence: float
) -> str:
    """Return how often such an interval of an AUC covered the truth in simulations.

    Args:
        n: test patients with a label.
        prevalence: share of positives among them.
        auc: the estimate; None if it is undefined.
        method: ``percentile``, ``bca`` or ``logit_delong``.
        confidence: the interval's own; others than .95 were not simulated.
    """
    if confidence != NOMINAL:
        return f"Coverage was simulated for 95{SPACE}% intervals only."
    cell = None if auc is None else nearest_coverage(n, prevalence, auc)
    if cell is None:
        return "No simulation is near enough to say how often this interval covers the truth."
    covered = {
        PERCENTILE: cell.percentile,
        BCA: cell.bca,
        LOGIT_DELONG: cell.logit_delong,
    }[method]
    return (
        f"In simulations with {cell.n} patients, {100 * cell.prevalence:.0f}{SPACE}% positive and "
        f"an AUC of {number(cell.auc)}, this interval covered the truth "
        f"{100 * covered:.1f}{SPACE}% of the time (nominal 95{SPACE}%)."
    )
