"""How the model judged patients, out-of-fold and on the test set, as rows with n and interval."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from analysis.judge.baselines import LABELS
from analysis.statistics.bootstrap import (
    LOGIT_DELONG,
    auc_of,
    logit_delong_interval,
)
from analysis.statistics.folds import CORRECTED_T, corrected_t_interval, paired_difference
from analysis.statistics.metrics import (
    HALF,
    YOUDEN,
    log_odds_of,
    probability_of,
    youden_threshold,
)

TEST = "test/metrics.json"
OUT_OF_FOLD = "oof/"
MODEL_LABEL = "model"


@dataclass(frozen=True)
class Row:
    """One number that the report shows.

    Attributes:
        label: what was judged.
        patients: ``test`` or ``out-of-fold``.
        estimate: None if it is undefined.
        intervals: ``{"low", "high", "degenerate"}`` by method.
        n: patients (of a proportion: its denominator).
        origin: the file that it comes from.
        positives: of the n; None where that is no question.
        count: numerator of a proportion; None otherwise.
        unreliable: why the intervals cannot be relied on, or None.
    """

    label: str
    patients: str
    estimate: float | None
    intervals: Mapping[str, Mapping[str, Any]]
    n: int
    origin: str
    positives: int | None = None
    count: int | None = None
    unreliable: str | None = None

    def records(self) -> list[dict[str, Any]]:
        """Return one record for each interval, for a table."""
        fixed = {
            "what": self.label,
            "patients": self.patients,
            "estimate": self.estimate,
            "count": self.count,
            "n": self.n,
            "positives": self.positives,
        }
        ends = {"origin": self.origin, "unreliable": self.unreliable}
        every = self.intervals.items() or [("", {"low": None, "high": None})]
        return [
            fixed | {"method": method, "low": its["low"], "high": its["high"]} | ends
            for method, its in every
        ]


@dataclass(frozen=True)
class OutOfFold:
    """The chosen trial's predictions of development patients whom their fold model never saw.

    Attributes:
        n: labelled development patients.
        positives: of them.
        auc: of the pooled predictions.
        interval: of that AUC, logit-DeLong.
        thresholds: .5, and where sensitivity + specificity is largest.
        counts: ``tp``, ``fp``, ``tn``, ``fn`` at each threshold.
    """

    n: int
    positives: int
    auc: float
    interval: Mapping[str, Any]
    thresholds: Mapping[str, float]
    counts: Mapping[str, Mapping[str, int]] = field(default_factory=dict)


def judge_out_of_fold(positive: np.ndarray, logits: np.ndarray, confidence: float) -> OutOfFold:
    """Return what the pooled out-of-fold predictions are worth.

    Args:
        positive: bool, (n,).
        logits: (n, 2).
        confidence: of the interval.
    """
    log_odds = log_odds_of(logits)
    probability = probability_of(log_odds)
    thresholds = {HALF: 0.5, YOUDEN: youden_threshold(positive, probability)}
    counts = {}
    for name, threshold in thresholds.items():
        called = probability >= threshold
        cells = (positive & called, ~positive & called, ~positive & ~called, positive & ~called)
        counts[name] = dict(
            zip(("tp", "fp", "tn", "fn"), (int(c.sum()) for c in cells), strict=True)
        )
    return OutOfFold(
        n=len(positive),
        positives=int(positive.sum()),
        auc=auc_of(positive, log_odds),
        interval=logit_delong_interval(positive, log_odds, confidence).as_dict(),
        thresholds=thresholds,
        counts=counts,
    )


def label_of(classifier: str) -> str:
    """Return how a classifier of metrics.json is called in the report."""
    return LABELS.get(classifier, classifier)


def classifiers_of(metrics: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    """Return the model and the regressions that it is compared with, the primary one first.

    Without the model where its logits were not trained.
    """
    found: list[tuple[str, Mapping[str, Any]]] = []
    if "skipped" not in metrics["model"]:
        found.append((MODEL_LABEL, metrics["model"]))
    if "skipped" in metrics["baselines"]:
        return found
    primary = metrics["primary_comparison"]
    names = sorted(metrics["baselines"], key=lambda name: name != primary)
    return found + [(label_of(name), metrics["baselines"][name]) for name in names]


def auc_rows(metrics: Mapping[str, Any] | None, development: OutOfFold | None) -> list[Row]:
    """Return the AUCs: each classifier on the test set, the model out-of-fold."""
    rows = []
    for name, described in classifiers_of(metrics) if metrics else []:
        rows.append(_row(name, described["auc"], positives=metrics["positives"]))  # type: ignore[index]
    if development is not None:
        said, span = "model, pooled predictions", {LOGIT_DELONG: development.interval}
        n, positives = development.n, development.positives
        origin = f"{OUT_OF_FOLD}, chosen trial"
        rows.append(Row(said, "out-of-fold", development.auc, span, n, origin, positives))
    return rows


def difference_rows(
    metrics: Mapping[str, Any] | None,
    best: Mapping[str, Any] | None,
    baselines: Mapping[str, Any] | None,
    confidence: float,
) -> list[Row]:
    """Return the model's AUC minus each regression's, on the same patients.

    On development it is the mean over the same folds; its interval is Student's, with Nadeau and
    Bengio's standard error.

    Args:
        metrics: of metrics.json.
        best: of best.json.
        baselines: of test/baselines.json.
        confidence: of the interval over the folds.
    """
    rows = []
    if metrics:
        primary = metrics["primary_comparison"] if metrics["differences"] else None
        for name in sorted(metrics["differences"], key=lambda name: name != primary):
            difference = metrics["differences"][name]
            rows.append(_row(label_of(name), difference, positives=metrics["positives"]))
    models = (baselines or {}).get("models", {}) if best else {}
    for name, described in sorted(models.items()):  # "logistic_l2", the primary one, comes first
        ours, its = best["fold_auc"], described["fold_auc"]  # type: ignore[index]
        mean, error = paired_difference(ours, its)
        interval = corrected_t_interval(mean, error, folds=len(its), confidence=confidence)
        span = {CORRECTED_T: interval.as_dict()}
        origin = f"best.json and test/baselines.json, {len(its)} folds"
        row = Row(label_of(name), "out-of-fold", mean, span, described["n"], origin)
        rows.append(row)
    return rows


def _row(label: str, estimate: Mapping[str, Any], *, positives: int) -> Row:
    return Row(
        label,
        "test",
        estimate["estimate"],
        estimate["intervals"],
        estimate["n"],
        TEST,
        positives,
        unreliable=estimate.get("unreliable"),
    )


def frame_of(records: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """Return records of rows as a table whose counts are whole numbers."""
    frame = pd.DataFrame(records)
    counts = [name for name in ("count", "n", "positives") if name in frame]
    return frame.astype(dict.fromkeys(counts, "Int64"))
