"""The configurations that every search asks first, beside the winner: default, and lambda = 1."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from analysis.choose.choice import why_not_trained, window_auc
from analysis.judge.segment_values import RESAMPLES
from analysis.statistics.bootstrap import Resamples, draw_resamples
from analysis.statistics.folds import corrected_t_interval, paired_difference
from analysis.statistics.metrics import compare_aucs, describe_auc, estimate_of, log_odds_of
from cohort.table import Cohort
from spaces.run_files import RunFiles, read_out_of_fold
from spaces.study import Study
from spaces.trial_log import TrialRecord

DEFAULT, SINGLE_TASK = "default", "single_task"
FIXED = "nothing was searched in this run"


@dataclass(frozen=True)
class _Development:
    """Labelled development patients, and the resamples of them that every trial is judged on."""

    run: RunFiles
    known: np.ndarray
    positive: np.ndarray
    resamples: Resamples
    confidence: float


def compare_references(
    run: RunFiles,
    study: Study,
    cohort: Cohort,
    best: Mapping[str, Any],
    trials: Sequence[TrialRecord],
) -> dict[str, Any]:
    """Return the out-of-fold results of the winner, the default configuration and lambda = 1.

    Scores are compared fold by fold (Student's t with Nadeau and Bengio's standard error), pooled
    AUCs on the same resamples of development patients. Differences are winner minus reference;
    that the winner was chosen on these very patients flatters it. No test patient is concerned.

    Args:
        run: the run directory.
        study: the study as run.
        cohort: its development patients.
        best: of best.json.
        trials: of trials.jsonl.

    Returns:
        ``{"skipped": reason}``, or ``n``, ``positives``, ``bootstraps``, ``winner`` and
        ``references`` (of ``default`` and ``single_task``, those that were asked). Each trial has
        ``trial``, ``state``, ``reason``, ``configuration``, ``epochs`` (the last one of its best
        window), ``score``, ``score_sd`` and ``auc``, null where it failed; references also have
        ``name``, ``is_winner``, ``score_difference`` and ``auc_difference``.

    Raises:
        RefusedError: a file of out-of-fold logits was altered.
    """
    reason = FIXED if study.is_fixed else why_not_trained(best)
    if reason is not None:
        return {"skipped": reason}
    target = cohort.development.target
    known = np.isfinite(target)
    positive = target[known] == 1
    count = min(RESAMPLES, study.evaluation.bootstraps)
    resamples = draw_resamples(positive, count, generator=np.random.default_rng(study.seed))
    development = _Development(run, known, positive, resamples, study.evaluation.confidence)
    [chosen] = [trial for trial in trials if trial.number == best["trial"]]
    asked = {trial.source: trial for trial in trials}
    return {
        "n": len(positive),
        "positives": int(positive.sum()),
        "bootstraps": count,
        "winner": _describe(development, chosen, best["epochs"]),
        "references": [
            {"name": name, "is_winner": asked[name] is chosen}
            | _describe(development, asked[name], asked[name].best_epoch)
            | _compare(development, (chosen, best["epochs"]), asked[name])
            for name in (DEFAULT, SINGLE_TASK)
            if name in asked
        ],
    }


def _describe(development: _Development, trial: TrialRecord, epochs: int | None) -> dict[str, Any]:
    described: dict[str, Any] = {
        "trial": trial.number,
        "state": trial.state or "unfinished",
        "reason": trial.reason,
        "configuration": trial.configuration.as_dict(),
        "epochs": epochs,
    }
    if not _was_judged(trial) or epochs is None:
        return described | {"score": None, "score_sd": None, "auc": None}
    folds = window_auc(trial, epochs)
    auc = describe_auc(
        development.positive,
        _log_odds(development, trial, epochs),
        development.resamples,
        development.confidence,
    )
    return described | {
        "score": float(np.mean(folds)),
        "score_sd": float(np.std(folds, ddof=1)),
        "auc": auc,
    }


def _compare(
    development: _Development, winner: tuple[TrialRecord, int], reference: TrialRecord
) -> dict[str, Any]:
    """Return winner minus reference, of scores and pooled AUCs; null where there is nothing."""
    chosen, epochs = winner
    if chosen is reference or not _was_judged(reference) or reference.best_epoch is None:
        return {"score_difference": None, "auc_difference": None}
    ours, its = window_auc(chosen, epochs), window_auc(reference, reference.best_epoch)
    mean, error = paired_difference(ours, its)
    interval = corrected_t_interval(mean, error, folds=len(its), confidence=development.confidence)
    auc_difference = compare_aucs(
        development.positive,
        _log_odds(development, chosen, epochs),
        _log_odds(development, reference, reference.best_epoch),
        development.resamples,
        development.confidence,
    )
    return {
        "score_difference": estimate_of(mean, len(development.positive), [interval]),
        "auc_difference": auc_difference,
    }


def _was_judged(trial: TrialRecord) -> bool:
    return trial.state in {"complete", "stopped"} and trial.oof_sha256 is not None


def _log_odds(development: _Development, trial: TrialRecord, epochs: int) -> np.ndarray:
    logits = read_out_of_fold(development.run.out_of_fold_of(trial.number), trial.oof_sha256)
    return np.asarray(log_odds_of(logits[epochs - 1])[development.known])
