"""The one look at the test set: freeze everything, join the sealed outcomes, measure.

This is the only module that imports ``cohort.sealed``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from analysis.judge.answer import answer
from analysis.judge.baselines import L2, concatenate_segments, predict_baseline
from analysis.judge.characteristics import compare_sets
from analysis.judge.freeze import BASELINES, freeze, read_predictions
from analysis.judge.metric_tables import MODEL, ROC, write_roc, write_table
from analysis.judge.references import compare_references
from analysis.judge.scrutiny import scrutinise
from analysis.judge.seeds import judge_seeds
from analysis.judge.segment_values import (
    NO_SEGMENTS,
    OUT_OF_FOLD,
    Readings,
    bland_altman,
    judge_out_of_fold_segments,
    judge_test_segments,
    read_out_of_fold_readings,
    why_not_judged,
)
from analysis.statistics.bootstrap import Resamples, draw_resamples
from analysis.statistics.chance import permutation_p
from analysis.statistics.metrics import (
    HALF,
    YOUDEN,
    compare_aucs,
    describe_classifier,
    log_odds_of,
    no_information_rate,
)
from cohort.patients import Patients
from cohort.sealed import (
    Opening,
    open_outcomes,
    open_outcomes_together,
    openings,
    openings_of_other_splits,
    sealed_images,
)
from cohort.table import Cohort
from spaces.csv_files import write_csv
from spaces.errors import InputError
from spaces.run_files import RunFiles, read_json, sha256_of, write_json
from spaces.study import Study, read_study
from spaces.trial_log import read_trials


@dataclass(frozen=True)
class Metrics:
    """The content of metrics.json."""

    content: Mapping[str, Any]

    @property
    def sentence(self) -> str:
        """The answer in one sentence."""
        return answer(self.content)


def evaluate(run: RunFiles, cohort: Cohort) -> Metrics:
    """Judge the retrained model on the sealed test set, once.

    First everything is frozen (test/frozen.json); then the outcomes are joined and the opening is
    recorded beside the cohort; test/metrics.json and metrics.csv are written last. If they exist
    for the same frozen files nothing is opened again. The result is exploratory when outcomes of
    this cohort were opened before, of this test set or under another split.

    Raises:
        InputError: a step before this one is missing, or the labelled test patients are of one
            class.
        RefusedError: a test prediction is not finite; nothing is opened then.
    """
    study = read_study(run.study)
    frozen = freeze(run, study, cohort, sealed_images(cohort, study, run.root))
    digest = sha256_of(run.frozen)
    judged = _judged(run, digest)
    if judged is not None:
        return judged
    outcomes = open_outcomes(cohort, study, run.root, run=study.name, frozen_sha256=digest)
    return _judge(run, study, cohort, frozen, outcomes)


def evaluate_together(
    members: Sequence[tuple[RunFiles, Cohort]],
    *,
    name: str,
    frozen_file: Path,
    progress: Callable[[str, int], None] = lambda _what, _done: None,
    summarise: Callable[[Sequence[Patients]], None] | None = None,
) -> list[Metrics]:
    """Judge the models of several studies, opened at the same time.

    First everything of every study is frozen and listed in ``frozen_file``; then the outcomes of
    all are joined. Nothing is opened again if all were judged.

    Args:
        members: the runs with their cohorts; all of one table, and of one split, unless they are
            summarised together.
        name: names them together in the ledger.
        frozen_file: where the digests of their frozen files are listed.
        progress: called with ``freeze`` or ``judge`` and the number of studies done.
        summarise: judges all of them together, whatever their splits; called with the test
            patients of each before the studies are judged one by one.

    Raises:
        InputError, RefusedError: as ``evaluate``.
    """
    studies = [read_study(run.study) for run, _ in members]
    frozen, digests = [], {}
    for done, (study, (run, cohort)) in enumerate(zip(studies, members, strict=True), 1):
        frozen.append(freeze(run, study, cohort, sealed_images(cohort, study, run.root)))
        digests[study.name] = sha256_of(run.frozen)
        progress("freeze", done)
    write_json(frozen_file, "campaign-frozen", {"studies": digests})
    judged = [
        _judged(run, digests[study.name]) for study, (run, _) in zip(studies, members, strict=True)
    ]
    found = [one for one in judged if one is not None]
    if len(found) == len(members):
        return found
    outcomes = open_outcomes_together(
        [(cohort, study) for study, (_, cohort) in zip(studies, members, strict=True)],
        [run.root for run, _ in members],
        run=name,
        frozen_sha256=sha256_of(frozen_file),
        one_split=summarise is None,
    )
    if summarise is not None:
        summarise(outcomes)
    found = []
    for study, (run, cohort), its_frozen, its_outcomes in zip(
        studies, members, frozen, outcomes, strict=True
    ):
        found.append(_judge(run, study, cohort, its_frozen, its_outcomes))
        progress("judge", len(found))
    return found


def _judged(run: RunFiles, digest: str) -> Metrics | None:
    """Return the metrics of a run that were measured on these frozen files, if there are any."""
    if not run.metrics.exists():
        return None
    content = read_json(run.metrics, "metrics")
    return Metrics(content) if content["frozen_sha256"] == digest else None


def _judge(
    run: RunFiles, study: Study, cohort: Cohort, frozen: Mapping[str, Any], outcomes: Patients
) -> Metrics:
    """Measure on opened outcomes; write metrics.csv, and metrics.json last."""
    opened = len(openings(cohort, study, run.root))
    elsewhere = len(openings_of_other_splits(cohort, study, run.root))
    content = {
        "study": study.name,
        "frozen_sha256": sha256_of(run.frozen),
        "openings": opened,
        "openings_of_other_splits": elsewhere,
        "exploratory": opened > 1 or elsewhere > 0,
        **_measure(run, study, cohort, frozen, outcomes),
    }
    write_table(run.metrics.with_suffix(".csv"), content)
    write_json(run.metrics, "metrics", content)
    return Metrics(content)


def list_openings(run: RunFiles, cohort: Cohort) -> list[Opening]:
    """Return every opening of this test set so far, by whichever run."""
    return openings(cohort, read_study(run.study), run.root)


def list_openings_of_other_splits(run: RunFiles, cohort: Cohort) -> list[Opening]:
    """Return every opening of this cohort's outcomes under another split, by whichever run."""
    return openings_of_other_splits(cohort, read_study(run.study), run.root)


def _measure(
    run: RunFiles, study: Study, cohort: Cohort, frozen: Mapping[str, Any], outcomes: Patients
) -> dict[str, Any]:
    known = np.isfinite(outcomes.target)
    positive = outcomes.target[known] == 1
    if positive.all() or not positive.any():
        raise InputError(
            "test set", f"all {len(positive)} labelled patients are of one class", "Split anew"
        )
    settings = study.evaluation
    generator = np.random.default_rng(study.seed)
    resamples = draw_resamples(positive, settings.bootstraps, generator=generator)
    logits, segments = read_predictions(run.predictions)
    model = log_odds_of(logits)[known]
    described = describe_classifier(
        positive, model, frozen["thresholds"], resamples, settings.confidence
    )
    baselines = read_json(run.test / BASELINES, "baselines")
    log_odds = {MODEL: model, **_predict_baselines(baselines, outcomes)}
    write_roc(run.test / ROC, positive, log_odds)
    return {
        "target": study.cohort.target,
        "inputs": list(study.cohort.inputs),
        "origin": "sealed test set",
        "n": len(positive),
        "positives": int(positive.sum()),
        "missing": int((~known).sum()),
        "no_information_rate": no_information_rate(positive),
        "confidence": settings.confidence,
        "bootstraps": settings.bootstraps,
        "redrawn": resamples.redrawn,
        "seed": study.seed,
        "permutation_p": permutation_p(positive, model, generator=generator),
        MODEL: described,
        **_compare_with_baselines(baselines, positive, log_odds, resamples, settings.confidence),
        "segments": _measure_segments(
            run, study, cohort, _readings(outcomes, known, model, segments), resamples
        ),
        "references": compare_references(
            run, study, cohort, read_json(run.best, "best"), read_trials(run.trials)
        ),
        **scrutinise(run, study, cohort, outcomes=outcomes, logits=logits, resamples=resamples),
        "threshold_shift": frozen["threshold_shift"],
        "seeds": judge_seeds(run, positive, model, known),
        "patients": compare_sets(study, cohort.development, outcomes),
        "development": frozen["development"],
    }


def _predict_baselines(baselines: Mapping[str, Any], outcomes: Patients) -> dict[str, np.ndarray]:
    """Return the labelled patients' log odds from each frozen regression, if there are any."""
    if "skipped" in baselines:
        return {}
    known = np.isfinite(outcomes.target)
    features = concatenate_segments(outcomes.baseline_segments, baselines["inputs"])[known]
    return {name: predict_baseline(model, features) for name, model in baselines["models"].items()}


def _compare_with_baselines(
    baselines: Mapping[str, Any],
    positive: np.ndarray,
    log_odds: Mapping[str, np.ndarray],
    resamples: Resamples,
    confidence: float,
) -> dict[str, Any]:
    """Return the frozen regressions' metrics and the model's AUC minus theirs."""
    if "skipped" in baselines:
        return {"baselines": {"skipped": baselines["skipped"]}, "differences": {}}
    measured, differences = {}, {}
    for name, description in baselines["models"].items():
        its, thresholds = log_odds[name], {HALF: 0.5, YOUDEN: description[YOUDEN]}
        measured[name] = describe_classifier(positive, its, thresholds, resamples, confidence)
        differences[name] = compare_aucs(positive, log_odds[MODEL], its, resamples, confidence)
    return {"baselines": measured, "differences": differences, "primary_comparison": L2}


def _measure_segments(
    run: RunFiles, study: Study, cohort: Cohort, test: Readings | None, resamples: Resamples
) -> dict[str, Any]:
    """Return the errors of the predicted segment values, test and out-of-fold, or why not."""
    best = read_json(run.best, "best")
    reason = why_not_judged(study, best)
    if reason is not None or test is None:
        return {"skipped": reason or NO_SEGMENTS}
    write_csv(run.bland_altman, bland_altman(test.predicted, test.measured))
    model = read_json(run.model / "model.json", "model")
    development = read_out_of_fold_readings(run, study, cohort, best, model)
    return {
        **judge_test_segments(study, test, resamples),
        OUT_OF_FOLD: judge_out_of_fold_segments(study, development),
    }


def _readings(
    outcomes: Patients, known: np.ndarray, log_odds: np.ndarray, predicted: np.ndarray | None
) -> Readings | None:
    """Return the labelled patients' predicted and measured segments; None without either."""
    if outcomes.segments is None or predicted is None:
        return None
    positive = outcomes.target[known] == 1
    return Readings(positive, log_odds, predicted[known], outcomes.segments[known])
