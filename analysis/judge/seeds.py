"""How much chance moves the answer: the same configuration, trained with other random numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from analysis.statistics.bootstrap import auc_of
from analysis.statistics.metrics import log_odds_of
from spaces.run_files import RunFiles, check_format, read_json, replacing

SEEDS = "seeds.parquet"


def repeated(run: RunFiles) -> dict[Path, str]:
    """Return the further trainings that did not diverge: their files and digests."""
    seeds = read_json(run.model / "model.json", "model").get("seeds", {})
    return {run.seeds / name: digest for name, digest in sorted(seeds.items()) if digest}


def predict_again(
    run: RunFiles, patients: Sequence[str], images: Mapping[str, Sequence[Path]]
) -> Path | None:
    """Write the log odds of the test patients from every further training; None if there is none.

    Args:
        run: with model/.
        patients: keyed hashes.
        images: their polar maps by input, in that order.
    """
    heads = repeated(run)
    if not heads:
        return None
    from trainable.model import load_model

    model = load_model(run.model)
    columns: dict[str, Any] = {"patient": list(patients)}
    for path, digest in heads.items():
        logits = model.with_head(path, digest).predict(images).logits
        columns[f"seed_{path.stem}"] = log_odds_of(logits)
    table = pa.table(columns).replace_schema_metadata({"format": "polartune/seeds/1"})
    with replacing(run.test / SEEDS) as partial:
        pq.write_table(table, partial)
    return run.test / SEEDS


def judge_seeds(
    run: RunFiles, positive: np.ndarray, log_odds: np.ndarray, known: np.ndarray
) -> dict[str, Any] | None:
    """Return the test AUCs of all trainings of the chosen configuration.

    Args:
        run: with what ``predict_again`` wrote.
        positive: bool, (n,), the labelled test patients.
        log_odds: (n,), of the model.
        known: bool, (test patients,), which of them have a label.

    Returns:
        ``auc`` (the model's first), ``lowest``, ``highest``, ``sd`` (divisor n - 1) and
        ``diverged``, how many trainings gave nothing; None unless there were several.
    """
    seeds = read_json(run.model / "model.json", "model").get("seeds", {})
    if not seeds:
        return None
    aucs = [auc_of(positive, log_odds)]
    if (run.test / SEEDS).exists():
        table = pq.read_table(run.test / SEEDS)
        metadata = table.schema.metadata or {}
        check_format(run.test / SEEDS, metadata.get(b"format", b"").decode(), "seeds")
        frame = table.to_pandas().drop(columns="patient")
        aucs += [auc_of(positive, frame[name].to_numpy()[known]) for name in frame]
    return {
        "auc": aucs,
        "lowest": min(aucs),
        "highest": max(aucs),
        "sd": float(np.std(aucs, ddof=1)) if len(aucs) > 1 else None,
        "diverged": sum(digest is None for digest in seeds.values()),
    }
