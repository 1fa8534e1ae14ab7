"""The segment values of a run: predicted out-of-fold and on the test set, beside measured ones."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from analysis.choose.choice import why_not_trained
from analysis.choose.fold_segments import DIGEST, read_out_of_fold_segments
from analysis.statistics.agreement import (
    MEAN_ABSOLUTE_ERROR,
    REGIONS,
    judge_lowest,
    judge_regions,
    region_means,
)
from analysis.statistics.bootstrap import Resamples, draw_resamples
from analysis.statistics.metrics import log_odds_of
from cohort.segments import SEGMENTS, indices_of
from cohort.table import Cohort
from spaces.run_files import RunFiles, read_out_of_fold
from spaces.sections import CohortSection
from spaces.study import Study

OUT_OF_FOLD, TEST, LOWEST = "out_of_fold", "test", "lowest_segment"
# Resamples of the development patients, who are many; the test set has the study's own number.
RESAMPLES = 1000
NO_SEGMENTS = "the study regresses no segments"
NOT_TRAINED = "lambda = 1: the segment outputs were not trained"


@dataclass(frozen=True)
class Readings:
    """What a model said of some labelled patients, and what was measured in them.

    Attributes:
        positive: bool, (n,).
        log_odds: (n,), from its two logits; None where those were not trained.
        predicted: (n, 17), in the unit of the columns.
        measured: (n, 17), likewise, nan where missing.
    """

    positive: np.ndarray
    log_odds: np.ndarray | None
    predicted: np.ndarray
    measured: np.ndarray


def why_not_judged(study: Study, best: Mapping[str, Any]) -> str | None:
    """Return why there are no segment values to judge, or None."""
    if study.cohort.segments is None:
        return NO_SEGMENTS
    return NOT_TRAINED if best["configuration"]["lambda"] == 1.0 else None


def asked_segments(section: CohortSection) -> list[int]:
    """Return the 0-based segments whose lowest value is a second classifier of the target.

    They are the target's own where it is derived from the regressed columns, else all 17.
    """
    rule = section.derive.get(section.target)
    if rule is not None and rule.columns == section.segments:
        return indices_of(rule.segments)
    return list(range(SEGMENTS))


def judge_test_segments(study: Study, readings: Readings, resamples: Resamples) -> dict[str, Any]:
    """Return the ``segments`` of metrics.json, but for their out-of-fold part.

    Args:
        study: the study as run.
        readings: of the labelled test patients.
        resamples: of these patients.
    """
    judged = judge(study, readings, resamples)
    singles = [region for region in judged["regions"] if len(region["segments"]) == 1]
    return {
        "columns": study.cohort.segments,
        MEAN_ABSOLUTE_ERROR: [
            {"segment": region["segments"][0], **region[MEAN_ABSOLUTE_ERROR]} for region in singles
        ],
        TEST: judged,
    }


def judge(study: Study, readings: Readings, resamples: Resamples) -> dict[str, Any]:
    """Return ``n``, ``positives``, ``bootstraps``, ``regions`` and ``lowest_segment``."""
    asked = asked_segments(study.cohort)
    lowest = readings.predicted[:, asked].min(axis=1)
    confidence = study.evaluation.confidence
    positive = readings.positive
    return {
        "n": len(positive),
        "positives": int(positive.sum()),
        "bootstraps": len(resamples.counts),
        "regions": judge_regions(readings.predicted, readings.measured, resamples, confidence),
        LOWEST: {
            "segments": [index + 1 for index in asked],
            **judge_lowest(positive, readings.log_odds, lowest, resamples, confidence),
        },
    }


def read_out_of_fold_readings(
    run: RunFiles, study: Study, cohort: Cohort, best: Mapping[str, Any], model: Mapping[str, Any]
) -> Readings | str:
    """Return what the fold models said of the labelled patients they never saw, or why nothing.

    Args:
        run: the run directory.
        study: the study as run.
        cohort: its development patients.
        best: of best.json.
        model: of model.json.

    Raises:
        RefusedError: a file was altered.
    """
    reason = why_not_judged(study, best)
    measured = cohort.development.segments
    if reason is not None or measured is None:
        return reason or NO_SEGMENTS
    predicted = read_out_of_fold_segments(run.out_of_fold_segments, model[DIGEST])
    logits = read_out_of_fold(run.out_of_fold_of(best["trial"]), best["oof_sha256"])
    known = np.isfinite(cohort.development.target)
    return Readings(
        cohort.development.target[known] == 1,
        None if why_not_trained(best) else log_odds_of(logits[best["epochs"] - 1])[known],
        predicted[known],
        measured[known],
    )


def judge_out_of_fold_segments(study: Study, readings: Readings | str) -> dict[str, Any]:
    """Return of development what ``judge`` says, or ``{"skipped": reason}``."""
    if isinstance(readings, str):
        return {"skipped": readings}
    generator = np.random.default_rng(study.seed)
    count = min(RESAMPLES, study.evaluation.bootstraps)
    return judge(study, readings, draw_resamples(readings.positive, count, generator=generator))


def bland_altman(predicted: np.ndarray, measured: np.ndarray) -> pd.DataFrame:
    """Return each patient's ``average`` of predicted and measured mean, and their ``difference``.

    Rounded to .001 and sorted, so that a row cannot be traced by its place to a patient.

    Args:
        predicted: (n, 17).
        measured: (n, 17), nan where missing; patients without any are left out.
    """
    ours, truth = region_means(predicted, measured, REGIONS[0])
    points = pd.DataFrame({"average": (ours + truth) / 2, "difference": ours - truth})
    return points.dropna().round(3).sort_values(["average", "difference"], ignore_index=True)
