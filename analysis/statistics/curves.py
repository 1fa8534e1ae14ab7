"""The numbers behind the figures of the report, as tables."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats
from scipy.optimize import brentq
from sklearn.linear_model import LogisticRegression

from analysis.statistics.bootstrap import Interval, clopper_pearson_interval
from analysis.statistics.metrics import log_odds_of, probability_of
from spaces.trial_log import TrialRecord

WALD = "wald"
BINS = 10
LEAST_INFORMATION = 1e-9
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
class Fitted:
    """An estimate with its Wald interval; nan where there is none."""

    estimate: float
    interval: Interval


NOTHING = Fitted(math.nan, Interval(WALD, math.nan, math.nan))


@dataclass(frozen=True)
class Calibration:
    """How predicted probabilities compare with what was observed.

    Attributes:
        bins: one row a bin: ``predicted`` (mean), ``observed`` (share), ``low``, ``high``
            (Clopper-Pearson), ``n``, ``positives``.
        slope: see ``fit_slope``.
        in_the_large: see ``fit_in_the_large``.
        n: patients.
    """

    bins: pd.DataFrame
    slope: Fitted
    in_the_large: Fitted
    n: int


def calibrate(positive: np.ndarray, logits: np.ndarray, confidence: float) -> Calibration:
    """Return the calibration of (n, 2) logits: bins of equal size, slope, and in the large."""
    log_odds = log_odds_of(logits)
    return Calibration(
        bins=_bins(positive, probability_of(log_odds), confidence),
        slope=fit_slope(positive, log_odds, confidence),
        in_the_large=fit_in_the_large(positive, log_odds, confidence),
        n=len(positive),
    )


def fit_in_the_large(positive: np.ndarray, log_odds: np.ndarray, confidence: float) -> Fitted:
    """Return calibration in the large: the intercept of the outcome's logit, slope fixed at 1.

    The predicted log odds are an offset. Above 0 risks are too low on the whole, below too high; 0
    is ideal (Steyerberg et al. 2010, 10.1097/EDE.0b013e3181c30fb2). The intercept of a regression
    that fits the slope too is another quantity: it depends on where 0 lies on the scale.

    Args:
        positive: bool, (n,); both classes present.
        log_odds: float, (n,), predicted.
        confidence: of the Wald interval.

    Returns:
        nan where every probability is 0 or 1.
    """
    positives = positive.sum()

    def excess(intercept: float) -> float:
        return float(probability_of(log_odds + intercept).sum() - positives)

    # At these ends everybody has a probability of 0, or of 1.
    intercept = brentq(excess, -log_odds.max() - 50, -log_odds.min() + 50, xtol=1e-12)
    chance = probability_of(log_odds + intercept)
    information = float((chance * (1 - chance)).sum())
    if information < LEAST_INFORMATION:
        return NOTHING
    return _wald(float(intercept), information**-0.5, confidence)


def why_no_slope(positive: np.ndarray, log_odds: np.ndarray) -> str | None:
    """Return why the calibration slope is infinite or undefined, or None."""
    cases, controls = log_odds[positive], log_odds[~positive]
    if np.ptp(log_odds) == 0:
        return "every prediction is the same"
    if cases.min() >= controls.max() or cases.max() <= controls.min():
        return "the classes are separated completely"
    return None


def fit_slope(positive: np.ndarray, log_odds: np.ndarray, confidence: float) -> Fitted:
    """Return the slope of the outcome's logit on the predicted one, beside a free intercept.

    1 is ideal, below 1 predictions are too extreme (Cox 1958, 10.1093/biomet/45.3-4.562).

    Args:
        positive: bool, (n,); both classes present.
        log_odds: float, (n,), predicted.
        confidence: of the Wald interval.

    Returns:
        nan where ``why_no_slope`` has a reason.
    """
    if why_no_slope(positive, log_odds) is not None:
        return NOTHING
    regression = LogisticRegression(C=np.inf, solver="newton-cholesky", tol=1e-8)
    unit = float(log_odds.std())
    fitted = regression.fit(log_odds[:, None] / unit, positive)
    slope = float(fitted.coef_[0, 0]) / unit
    design = np.stack([np.ones_like(log_odds), log_odds], axis=1)
    chance = probability_of(fitted.intercept_[0] + slope * log_odds)
    information = design.T @ (design * (chance * (1 - chance))[:, None])
    return _wald(slope, float(np.sqrt(np.linalg.pinv(information)[1, 1])), confidence)


def _wald(estimate: float, error: float, confidence: float) -> Fitted:
    width = float(stats.norm.ppf((1 + confidence) / 2)) * error
    return Fitted(estimate, Interval(WALD, estimate - width, estimate + width))


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
