"""How much of the winner's score is luck: bias-corrected cross-validation over all candidates."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from analysis.statistics.bootstrap import weighted_auc
from spaces.run_files import RunFiles, read_out_of_fold
from spaces.trial_log import TrialRecord

BOOTSTRAPS = 200


def corrected_score(
    trials: Iterable[np.ndarray],
    positive: np.ndarray,
    folds: np.ndarray,
    *,
    window: int,
    generator: np.random.Generator,
    bootstraps: int = BOOTSTRAPS,
) -> float:
    """Return what the selected candidate would score on patients that did not select it.

    A candidate is a trial at an epoch, judged like the one score: by its mean fold AUC over the
    window that ends there. Patients are resampled inside each fold; the best candidate among the
    drawn patients is scored on those not drawn; the mean over the resamples is returned
    (Tsamardinos et al. 2018, 10.1007/s10994-018-5714-4). Folds that a resample leaves with one
    class only do not count in it.

    Args:
        trials: out-of-fold scores of every trial, (epochs, n); stopped trials included.
        positive: bool, (n,).
        folds: int, (n,).
        window: epochs of the moving average; trials with fewer are no candidates.
        generator: draws the resamples.
        bootstraps: how many.
    """
    counts = _resample_within(folds, bootstraps, generator=generator)
    left_out = (counts == 0).astype(np.float64)
    best_in = np.full(bootstraps, -np.inf)
    best_out = np.full(bootstraps, np.nan)
    for scores in trials:
        inside = _window_means(scores, positive, folds, counts, window)
        outside = _window_means(scores, positive, folds, left_out, window)
        for ends_inside, ends_outside in zip(inside, outside, strict=True):
            better = ends_inside > best_in
            best_in[better], best_out[better] = ends_inside[better], ends_outside[better]
    return float(np.nanmean(best_out)) if np.isfinite(best_out).any() else float("nan")


def read_scores(
    run: RunFiles, trials: Iterable[TrialRecord], known: np.ndarray
) -> Iterator[np.ndarray]:
    """Yield the out-of-fold scores, (epochs, n), of every trial that left predictions.

    Args:
        run: the run directory.
        trials: the trials of the log.
        known: bool, the patients with a label; n of them.
    """
    for trial in trials:
        if trial.oof_sha256 is not None and trial.state != "failed":
            logits = read_out_of_fold(run.out_of_fold_of(trial.number), trial.oof_sha256)
            yield (logits[:, :, 1] - logits[:, :, 0])[:, known]


def _window_means(
    scores: np.ndarray, positive: np.ndarray, folds: np.ndarray, counts: np.ndarray, window: int
) -> np.ndarray:
    """Return the mean fold AUC over each full window of epochs, (windows, resamples)."""
    if len(scores) < window:
        return np.empty((0, len(counts)))
    epochs = np.stack([_mean_fold_auc(score, positive, folds, counts) for score in scores])
    means = sliding_window_view(epochs, window, axis=0).mean(axis=-1)
    return np.asarray(means, dtype=np.float64)


def _resample_within(
    folds: np.ndarray, count: int, *, generator: np.random.Generator
) -> np.ndarray:
    """Return multiplicities (count, n) that draw each fold's patients from that fold."""
    multiplicities = np.zeros((count, len(folds)))
    for fold in np.unique(folds):
        members = np.flatnonzero(folds == fold)
        uniform = np.full(len(members), 1 / len(members))
        multiplicities[:, members] = generator.multinomial(len(members), uniform, size=count)
    return multiplicities


def _mean_fold_auc(
    score: np.ndarray, positive: np.ndarray, folds: np.ndarray, counts: np.ndarray
) -> np.ndarray:
    """Return the mean AUC over the folds of every row of multiplicities; nan if none has one."""
    of_folds = [
        weighted_auc(positive[folds == f], score[folds == f], counts[:, folds == f])
        for f in np.unique(folds)
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        return np.asarray(np.nanmean(of_folds, axis=0), dtype=np.float64)
