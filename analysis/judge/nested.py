"""Nested cross-validation: every patient predicted by a model whose whole search never saw them."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from analysis.judge.freeze import read_predictions
from analysis.statistics.bootstrap import (
    auc_of,
    clopper_pearson_interval,
    draw_resamples,
    logit_delong_interval,
    too_few,
)
from analysis.statistics.folds import corrected_t_interval, mean_and_error
from analysis.statistics.metrics import (
    describe_auc,
    log_odds_of,
    no_information_rate,
    probability_of,
)
from cohort.patients import Patients
from cohort.table import Cohort
from spaces.csv_files import write_csv
from spaces.run_files import RunFiles, read_json, replacing, write_json
from spaces.study import Study

RESULT, TABLE, PREDICTIONS = "nested.json", "nested.csv", "predictions.parquet"
KIND = "nested"


def judge_nested(
    root: Path,
    study: Study,
    members: Sequence[tuple[RunFiles, Cohort]],
    outcomes: Sequence[Patients],
) -> None:
    """Write nested.json, nested.csv and predictions.parquet of all outer folds together.

    The mean of the outer AUCs has a corrected t interval, since their development sets overlap; the
    pooled AUC of all patients has DeLong's, and mixes models whose scales differ.

    Args:
        root: the folder of the runs.
        study: what they share.
        members: the run of each outer fold, with its cohort.
        outcomes: its test patients.
    """
    rows, parts = [], []
    judged = zip(members, outcomes, strict=True)
    for number, ((run, cohort), patients) in enumerate(judged, start=1):
        logits, _ = read_predictions(run.predictions)
        known = np.isfinite(patients.target)
        positive, log_odds = patients.target[known] == 1, log_odds_of(logits)
        parts.append((number, cohort.split.test, positive, log_odds, known))
        rows.append(_describe(run, number, positive, log_odds[known], study))
    positive = np.concatenate([part[2] for part in parts])
    log_odds = np.concatenate([part[3][part[4]] for part in parts])
    generator = np.random.default_rng(study.seed)
    resamples = draw_resamples(positive, study.evaluation.bootstraps, generator=generator)
    confidence = study.evaluation.confidence
    right = int(((probability_of(log_odds) >= 0.5) == positive).sum())
    exact = clopper_pearson_interval(right, len(positive), confidence)
    content = {
        "study": study.name,
        "target": study.cohort.target,
        "inputs": list(study.cohort.inputs),
        "n": len(positive),
        "positives": int(positive.sum()),
        "confidence": confidence,
        "outer_folds": rows,
        "mean_auc": corrected_t([row["auc"] for row in rows], confidence),
        "pooled_auc": describe_auc(positive, log_odds, resamples, confidence),
        "accuracy": {"right": right, "estimate": right / len(positive), **exact.as_dict()},
        "no_information_rate": no_information_rate(positive),
    }
    _write_predictions(root / PREDICTIONS, parts)
    write_csv(root / TABLE, pd.DataFrame([_flat(row) for row in rows]))
    write_json(root / RESULT, KIND, content)


def corrected_t(values: Sequence[float], confidence: float) -> dict[str, float | bool]:
    """Return mean, SD and corrected t interval of the AUCs of outer folds, inside [0, 1].

    Equal values give a point, flagged ``degenerate``, which says nothing.
    """
    mean, error = mean_and_error(values)
    interval = corrected_t_interval(mean, error, folds=len(values), confidence=confidence)
    return {
        "estimate": mean,
        "sd": statistics.stdev(values),
        "low": max(0.0, interval.low),
        "high": min(1.0, interval.high),
        "degenerate": interval.is_degenerate,
    }


def _describe(
    run: RunFiles, number: int, positive: np.ndarray, log_odds: np.ndarray, study: Study
) -> dict[str, Any]:
    best = read_json(run.best, "best")
    interval = logit_delong_interval(positive, log_odds, study.evaluation.confidence)
    return {
        "outer_fold": number,
        "n": len(positive),
        "positives": int(positive.sum()),
        "score": best["score"],
        "trial": best["trial"],
        "epochs": best["epochs"],
        "configuration": best["configuration"],
        "auc": auc_of(positive, log_odds),
        "interval": interval.as_dict(),
        "unreliable": too_few(positive),
    }


def _flat(row: dict[str, Any]) -> dict[str, Any]:
    flat = {name: value for name, value in row.items() if name not in {"configuration", "interval"}}
    ends = {f"auc_{end}": row["interval"][end] for end in ("low", "high")}
    return {**flat, **ends, **row["configuration"]}


def _write_predictions(path: Path, parts: Sequence[tuple[Any, ...]]) -> None:
    """Write one row a patient, under the keyed hash and without the outcome."""
    table = pa.table(
        {
            "patient": [patient for _, patients, *_ in parts for patient in patients],
            "outer_fold": np.concatenate(
                [np.full(len(patients), number, dtype=np.int8) for number, patients, *_ in parts]
            ),
            "probability": np.concatenate([probability_of(part[3]) for part in parts]),
        }
    ).replace_schema_metadata({"format": "polartune/nested-predictions/2"})
    with replacing(path) as partial:
        pq.write_table(table, partial)
