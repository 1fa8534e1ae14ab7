"""The numbers behind the figures of the report, as tables."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats
from sklearn.linear_model import LogisticRegression

from analysis.statistics.bootstrap import clopper_pearson_interval
from analysis.statistics.metrics import log_odds_of, probability_of
from spaces.trial_log import TrialRecord

BINS = 10
LEAST_PER_BIN = 10


def learning_curves(trial: TrialRecord) -> pd.DataFrame:
    """Return one row an epoch: ``epoch``, ``fold_1`` .. ``fold_k``, ``mean`` (validation AUC)."""
    rows = [
        {"epoch": epoch.epoch}
        | {f"fold_{fold}": auc for fold, auc in enumerate(epoch.auc, start=1)}
        | {"mean": epoch.mean_auc}
        for epoch in trial.epochs
    ]
    return pd.DataFrame(rows)


def trial_table(trials: Sequence[TrialRecord]) -> pd.DataFrame:
    """Return one row a trial, by number, with its configuration and the best score so far.

    ``best_so_far`` counts complete trials only, as selection does; nan before the first.
    """
    rows, best = [], -math.inf
    for trial in trials:
        if trial.is_complete and trial.score is not None:
            best = max(best, trial.score)
        rows.append(
            {
                "trial": trial.number,
                "state": trial.state or "unfinished",
                "source": trial.source,
                "score": math.nan if trial.score is None else trial.score,
                "best_so_far": best if math.isfinite(best) else math.nan,
                "best_epoch": trial.best_epoch,
                "epochs": len(trial.epochs),
                **trial.configuration.as_dict(),
                "reason": trial.reason,
            }
        )
    return pd.DataFrame(rows)


def strength_table(trials: pd.DataFrame) -> pd.DataFrame:
    """Return one row an augmentation strength: ``asked``, ``complete``, and their scores.

    ``mean_score``, ``best_score`` and ``sd_score`` are of complete trials; nan without (enough).

    Args:
        trials: the rows of ``trial_table``.
    """
    rows = []
    for strength, group in trials.groupby("augmentation_strength"):
        complete = group.loc[group["state"] == "complete", "score"]
        rows.append(
            {
                "augmentation_strength": strength,
                "asked": len(group),
                "complete": len(complete),
                "mean_score": complete.mean(),
                "sd_score": complete.std(),
                "best_score": complete.max(),
            }
        )
    return pd.DataFrame(rows)


def ending_table(trials: pd.DataFrame) -> pd.DataFrame:
    """Return how trials ended: ``state``, ``reason`` and how many ``trials``, the most first.

    Of a reason like ``rung 3: score 0.61 < cutoff 0.70`` only what stands before the colon counts.

    Args:
        trials: the rows of ``trial_table``.
    """
    why = trials["reason"].str.split(":").str[0].str.strip()
    ended = trials["state"].to_frame().assign(reason=why.where(why != "", "unknown"))
    counts = ended.value_counts(["state", "reason"]).rename("trials").reset_index()
    return counts.sort_values(["trials", "state", "reason"], ascending=[False, True, True])


@dataclass(frozen=True)
class Calibration:
    """How predicted probabilities compare with what was observed.

    Attributes:
        bins: one row a bin: ``predicted`` (mean), ``observed`` (share), ``low``, ``high``
            (Clopper-Pearson), ``n``, ``positives``.
        slope: of the outcome's logit on the predicted logit; 1 is ideal, below 1 overconfident.
        slope_limits: Wald interval.
        intercept: of the same regression; 0 is ideal.
        intercept_limits: Wald interval.
        n: patients.
    """

    bins: pd.DataFrame
    slope: float
    slope_limits: tuple[float, float]
    intercept: float
    intercept_limits: tuple[float, float]
    n: int


def calibrate(positive: np.ndarray, logits: np.ndarray, confidence: float) -> Calibration:
    """Return the calibration of (n, 2) logits: bins of equal size and the logistic recalibration.

    Cox 1958 (10.1093/biomet/45.3-4.562).
    """
    logit = log_odds_of(logits)
    fitted = LogisticRegression(C=np.inf, max_iter=2000).fit(logit[:, None], positive)
    slope, intercept = float(fitted.coef_[0, 0]), float(fitted.intercept_[0])
    design = np.stack([np.ones_like(logit), logit], axis=1)
    chance = probability_of(intercept + slope * logit)
    information = design.T @ (design * (chance * (1 - chance))[:, None])
    errors = np.sqrt(np.diag(np.linalg.pinv(information)))
    intercept_width, slope_width = stats.norm.ppf((1 + confidence) / 2) * errors
    return Calibration(
        bins=_bins(positive, probability_of(logit), confidence),
        slope=slope,
        slope_limits=(float(slope - slope_width), float(slope + slope_width)),
        intercept=intercept,
        intercept_limits=(float(intercept - intercept_width), float(intercept + intercept_width)),
        n=len(positive),
    )


def _bins(positive: np.ndarray, probability: np.ndarray, confidence: float) -> pd.DataFrame:
    """Return bins of (nearly) equal size, by rising probability."""
    order = np.argsort(probability, kind="stable")
    count = max(2, min(BINS, len(positive) // LEAST_PER_BIN))
    rows = []
    for members in np.array_split(order, count):
        n, positives = len(members), int(positive[members].sum())
        interval = clopper_pearson_interval(positives, n, confidence)
        rows.append(
            {
                "predicted": float(probability[members].mean()),
                "observed": positives / n,
                "low": interval.low,
                "high": interval.high,
                "n": n,
                "positives": positives,
            }
        )
    return pd.DataFrame(rows)
