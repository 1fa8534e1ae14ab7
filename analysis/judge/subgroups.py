"""Whether the model ranks patients of both sexes, and younger and older ones, equally well."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from analysis.statistics.bootstrap import (
    FEWEST_OF_A_CLASS,
    Resamples,
    auc_of,
    logit_delong_interval,
    percentile_interval,
    undefined_too_often,
    weighted_auc,
)
from analysis.statistics.metrics import Estimate, estimate_of

FEWEST_SHOWN = 5


def judge_subgroups(
    positive: np.ndarray,
    log_odds: np.ndarray,
    divided: Mapping[str, Mapping[str, np.ndarray]],
    resamples: Resamples,
    confidence: float,
) -> list[dict[str, Any]]:
    """Return the AUC in both groups of each trait, and the first one's minus the second one's.

    A group with fewer than ten patients of a class has no AUC, and then there is no difference.
    Counts below five could name somebody: if a trait has one, none of its counts is given.

    Args:
        positive: bool, (n,).
        log_odds: (n,).
        divided: members, bool (n,), by trait and group.
        resamples: of these n patients.
        confidence: for example .95.

    Returns:
        One ``{"trait", "unknown", "groups": [{"name", "n", "positives", "auc"}], "difference",
        "reason"}`` a trait; counts and estimates are null where they must not or cannot be had.
    """
    return [
        {"trait": trait} | _judge_trait(groups, positive, log_odds, resamples, confidence)
        for trait, groups in divided.items()
    ]


def _judge_trait(
    groups: Mapping[str, np.ndarray],
    positive: np.ndarray,
    log_odds: np.ndarray,
    resamples: Resamples,
    confidence: float,
) -> dict[str, Any]:
    cells = {
        name: (int((positive & members).sum()), int((~positive & members).sum()))
        for name, members in groups.items()
    }
    unknown = len(positive) - sum(map(sum, cells.values()))
    counts = [count for of_group in cells.values() for count in of_group]
    hidden = min(counts) < FEWEST_SHOWN or 0 < unknown < FEWEST_SHOWN
    described: list[dict[str, Any]] = []
    distributions, estimates = [], []
    for name, members in groups.items():
        auc: Estimate | None = None
        if min(cells[name]) >= FEWEST_OF_A_CLASS:
            its = weighted_auc(positive[members], log_odds[members], resamples.counts[:, members])
            distributions.append(its)
            exact = logit_delong_interval(positive[members], log_odds[members], confidence)
            auc = _estimate(
                auc_of(positive[members], log_odds[members]),
                its,
                None if hidden else int(members.sum()),
                confidence,
            )
            auc["intervals"][exact.method] = exact.as_dict()
            estimates.append(auc["estimate"])
        described.append(
            {
                "name": name,
                "n": None if hidden else sum(cells[name]),
                "positives": None if hidden else cells[name][0],
                "auc": auc,
            }
        )
    difference, reason = None, None
    if len(distributions) == len(groups):
        first, second = estimates
        n = None if hidden else len(positive) - unknown
        difference = _estimate(first - second, distributions[0] - distributions[1], n, confidence)
    else:
        reason = f"a group has fewer than {FEWEST_OF_A_CLASS} patients of a class"
    return {
        "unknown": None if hidden else unknown,
        "groups": described,
        "difference": difference,
        "reason": reason,
    }


def _estimate(
    estimate: float, distribution: np.ndarray, n: int | None, confidence: float
) -> Estimate:
    undefined = int((~np.isfinite(distribution)).sum())
    return estimate_of(
        estimate,
        n or 0,
        [percentile_interval(distribution, confidence)],
        undefined_resamples=undefined,
        unreliable=undefined_too_often(undefined / len(distribution)),
    ) | {"n": n}
