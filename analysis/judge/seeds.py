"""How much chance moves the answer: the same configuration, trained with other random numbers."""

from __future__ import annotations

from typing import Any

import numpy as np

from analysis.judge.other_models import SEEDS, read_others
from analysis.statistics.bootstrap import auc_of
from spaces.run_files import RunFiles, read_json


def judge_seeds(
    run: RunFiles, positive: np.ndarray, log_odds: np.ndarray, known: np.ndarray
) -> dict[str, Any] | None:
    """Return the test AUCs of all trainings of the chosen configuration.

    Args:
        run: with what ``predict_others`` wrote.
        positive: bool, (n,), the labelled test patients.
        log_odds: (n,), of the model.
        known: bool, (test patients,), which of them have a label.

    Returns:
        ``auc`` (the model's first), ``lowest``, ``highest``, ``sd`` (divisor n - 1) and
        ``diverged``, how many trainings gave nothing; None unless there were several.
    """
    seeds = read_json(run.model / "model.json", "model").get("seeds", {})
    if not seeds:
        return None
    aucs = [auc_of(positive, log_odds)]
    if (run.test / SEEDS).exists():
        aucs += [auc_of(positive, its[known]) for its in read_others(run.test / SEEDS).T]
    return {
        "auc": aucs,
        "lowest": min(aucs),
        "highest": max(aucs),
        "sd": float(np.std(aucs, ddof=1)) if len(aucs) > 1 else None,
        "diverged": sum(digest is None for digest in seeds.values()),
    }
