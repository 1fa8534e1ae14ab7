"""The metrics as tables for spreadsheets: metrics.csv and roc.csv."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.metrics import roc_curve

from analysis.judge.segment_values import LOWEST, TEST
from analysis.statistics.agreement import QUANTITIES
from analysis.statistics.metrics import PROPORTIONS, Estimate
from spaces.csv_files import write_csv

MODEL = "model"
ROC = "roc.csv"


def write_table(path: Path, metrics: Mapping[str, Any]) -> None:
    """Write one row for each estimate and interval method of metrics.json."""
    rows = [
        {
            "classifier": classifier,
            "metric": metric,
            "threshold": threshold,
            "estimate": estimate["estimate"],
            "method": method,
            **interval,
            "confidence": metrics["confidence"],
            "n": estimate["n"],
            "positives": metrics["positives"],
            "origin": metrics["origin"],
            "unreliable": estimate.get("unreliable"),
        }
        for classifier, metric, threshold, estimate in _estimates(metrics)
        for method, interval in estimate["intervals"].items()
    ]
    write_csv(path, pd.DataFrame(rows))


def write_roc(path: Path, positive: np.ndarray, log_odds: Mapping[str, np.ndarray]) -> None:
    """Write the ROC curve of each classifier, if there is any; aggregated rates, no patient."""
    curves = [roc_points(positive, its).assign(classifier=name) for name, its in log_odds.items()]
    if curves:
        write_csv(path, pd.concat(curves))


def roc_points(positive: np.ndarray, score: np.ndarray) -> pd.DataFrame:
    """Return ``false_positive_rate`` and ``true_positive_rate``, from (0, 0) to (1, 1)."""
    false_rate, true_rate, _ = roc_curve(positive, score)
    return pd.DataFrame({"false_positive_rate": false_rate, "true_positive_rate": true_rate})


def _estimates(
    metrics: Mapping[str, Any],
) -> Iterator[tuple[str, str, float | None, Estimate | Mapping[str, Any]]]:
    """Yield (classifier, metric, threshold, estimate) of everything in metrics.json."""
    classifiers = {} if "skipped" in metrics[MODEL] else {MODEL: metrics[MODEL]}
    if "skipped" not in metrics["baselines"]:
        classifiers |= metrics["baselines"]
    for name, described in classifiers.items():
        yield name, "auc", None, described["auc"]
        yield name, "brier", None, described["brier"]
        for calls in described["thresholds"].values():
            for metric in PROPORTIONS:
                yield name, metric, calls["threshold"], calls[metric]
    for name, estimate in metrics["differences"].items():
        yield f"{MODEL} - {name}", "auc", None, estimate
    judged = metrics["segments"].get(TEST)
    if judged is None:
        return
    for region in judged["regions"]:
        for quantity in QUANTITIES:
            yield MODEL, f"{region['region']}_{quantity}", None, region[quantity]
    yield LOWEST, "auc", None, judged[LOWEST]["auc"]
    if "difference" in judged[LOWEST]:
        yield f"{MODEL} - {LOWEST}", "auc", None, judged[LOWEST]["difference"]
