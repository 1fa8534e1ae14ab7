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
from analysis.judge.characteristics import compare_sets
from analysis.judge.external import freeze_external, measure_external
from analysis.judge.freeze import freeze, read_fixed, read_frozen
from analysis.judge.measure import measure
from analysis.judge.metric_tables import MODEL, write_table
from analysis.judge.references import compare_references
from analysis.judge.scrutiny import scrutinise, scrutinise_development
from analysis.judge.seeds import judge_seeds
from analysis.judge.segment_values import (
    OUT_OF_FOLD,
    judge_out_of_fold_segments,
    read_out_of_fold_readings,
)
from analysis.statistics.metrics import log_odds_of
from cohort.patients import Patients
from cohort.sealed import (
    Opening,
    open_outcomes,
    open_outcomes_together,
    openings,
    openings_of_other_splits,
    sealed_images,
)
from cohort.table import Cohort, read_external
from spaces.judged_files import JudgedFiles
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
    judged = _judged(run.judged, digest)
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
        _judged(run.judged, digests[study.name])
        for study, (run, _) in zip(studies, members, strict=True)
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


def evaluate_external(run: RunFiles, own: Cohort, table: Path) -> Metrics:
    """Judge what a finished run froze on another cohort, whose every patient is test.

    Nothing is fitted on it. Predictions are frozen first (external/NAME/frozen.json), then the
    opening is recorded beside that cohort's table; external/NAME/metrics.json is written last.

    Args:
        run: a run that was judged on its own test set.
        own: its cohort.
        table: of the other cohort.

    Raises:
        InputError: the run was not evaluated, or the table breaks a rule.
        RefusedError: frozen files were changed, patients are the run's own, or its results of
            another cohort of this name would be overwritten.
    """
    study, frozen = read_study(run.study), read_frozen(run)
    other, cohort = read_external(study, run.root, table)
    files = JudgedFiles(run.external / cohort.name)
    its = freeze_external(run, files, cohort, sealed_images(cohort, other, run.root))
    digest = sha256_of(files.frozen)
    judged = _judged(files, digest)
    if judged is not None:
        return judged
    outcomes = open_outcomes(cohort, other, run.root, run=study.name, frozen_sha256=digest)
    fixed = read_fixed(run, files, frozen)
    content = {
        "study": study.name,
        "external": cohort.name,
        "origin": f"external cohort {cohort.name}",
        "frozen_sha256": digest,
        **_count_openings(cohort, other, run.root),
        **measure_external(study, fixed, own, outcomes, files),
        "flow": {name: cohort.flow[name] for name in ("collected", "excluded", "included")},
        "warnings": list(cohort.warnings),
        "is_phantom": cohort.is_phantom,
        "unfamiliar": its["unfamiliar"],
    }
    return _write(files, content)


def _judge(
    run: RunFiles, study: Study, cohort: Cohort, frozen: Mapping[str, Any], outcomes: Patients
) -> Metrics:
    """Measure on opened outcomes; write metrics.csv, and metrics.json last."""
    content = {
        "study": study.name,
        "frozen_sha256": sha256_of(run.frozen),
        **_count_openings(cohort, study, run.root),
        **_measure(run, study, cohort, frozen, outcomes),
    }
    return _write(run.judged, content)


def list_openings(run: RunFiles, cohort: Cohort) -> list[Opening]:
    """Return every opening of this test set so far, by whichever run."""
    return openings(cohort, read_study(run.study), run.root)


def list_openings_of_other_splits(run: RunFiles, cohort: Cohort) -> list[Opening]:
    """Return every opening of this cohort's outcomes under another split, by whichever run."""
    return openings_of_other_splits(cohort, read_study(run.study), run.root)


def _measure(
    run: RunFiles, study: Study, cohort: Cohort, frozen: Mapping[str, Any], outcomes: Patients
) -> dict[str, Any]:
    best = read_json(run.best, "best")
    fixed = read_fixed(run, run.judged, frozen)
    content, resamples = measure(study, fixed, outcomes, run.judged)
    known = np.isfinite(outcomes.target)
    if "skipped" not in content["segments"]:
        model = read_json(run.model / "model.json", "model")
        development = read_out_of_fold_readings(run, study, cohort, best, model)
        content["segments"][OUT_OF_FOLD] = judge_out_of_fold_segments(study, development)
    is_trained = "skipped" not in content[MODEL]
    scrutiny = scrutinise(study, fixed, outcomes, resamples)
    for name, out_of_fold in scrutinise_development(run, study, cohort, fixed).items():
        scrutiny[name] = out_of_fold | scrutiny[name]
    return {
        "origin": "sealed test set",
        **content,
        "references": compare_references(run, study, cohort, best, read_trials(run.trials)),
        **scrutiny,
        "threshold_shift": frozen["threshold_shift"] if is_trained else {},
        "seeds": judge_seeds(
            run, outcomes.target[known] == 1, log_odds_of(fixed.logits)[known], known
        )
        if is_trained
        else None,
        "patients": compare_sets(study, cohort.development, outcomes),
        "development": frozen["development"] if is_trained else _counts(frozen["development"]),
    }


def _counts(development: Mapping[str, Any]) -> dict[str, Any]:
    """Return how many development patients there are; nothing that was made of their logits."""
    kept = ("n", "positives", "missing")
    return {name: value if name in kept else None for name, value in development.items()}


def _judged(files: JudgedFiles, digest: str) -> Metrics | None:
    """Return the metrics that were measured on these frozen files, if there are any."""
    if not files.metrics.exists():
        return None
    content = read_json(files.metrics, "metrics")
    return Metrics(content) if content["frozen_sha256"] == digest else None


def _count_openings(cohort: Cohort, study: Study, folder: Path) -> dict[str, Any]:
    opened = len(openings(cohort, study, folder))
    elsewhere = len(openings_of_other_splits(cohort, study, folder))
    return {
        "openings": opened,
        "openings_of_other_splits": elsewhere,
        "exploratory": opened > 1 or elsewhere > 0,
    }


def _write(files: JudgedFiles, content: Mapping[str, Any]) -> Metrics:
    write_table(files.metrics.with_suffix(".csv"), content)
    write_json(files.metrics, "metrics", content)
    return Metrics(content)
