"""What the other trainings of the chosen configuration say of the test patients.

The fold models, on whose predictions the threshold was found, and trainings with other seeds.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from analysis.statistics.metrics import log_odds_of
from spaces.errors import RefusedError
from spaces.run_files import RunFiles, check_format, read_json, replacing
from spaces.study import Study

if TYPE_CHECKING:
    from trainable.model import Model

SEEDS, FOLDS = "seeds.parquet", "folds.parquet"


def repeated(run: RunFiles) -> dict[Path, str]:
    """Return the trainings with other seeds that did not diverge: their files and digests."""
    seeds = read_json(run.model / "model.json", "model").get("seeds", {})
    return {run.seeds / name: digest for name, digest in sorted(seeds.items()) if digest}


def fold_models(run: RunFiles) -> dict[Path, str]:
    """Return the files of the fold models and their digests, by the number of the fold."""
    folds = read_json(run.model / "model.json", "model")["folds"]
    found = {run.model / "folds" / name: digest for name, digest in folds.items()}
    return dict(sorted(found.items(), key=lambda item: int(item[0].stem)))


def results_of(run: RunFiles) -> list[Path]:
    """Return the files that ``predict_others`` writes for this run."""
    seeds = [run.test / SEEDS] if repeated(run) else []
    return [*seeds, run.test / FOLDS]


def predict_others(
    run: RunFiles, study: Study, patients: Sequence[str], images: Mapping[str, Sequence[Path]]
) -> list[Path]:
    """Write the log odds of the test patients from each other training; return the files.

    Args:
        run: with model/.
        study: the study as run.
        patients: keyed hashes.
        images: their polar maps by input, in that order.

    Raises:
        RefusedError: the folds have trunks of their own, and the run that those come from has
            changed or gone.
    """
    from trainable.model import load_model

    model, folds = load_model(run.model), fold_models(run)
    alone = {path: sha256 for path, sha256 in folds.items() if not model.shares_trunk_with(path)}
    shared = {path: sha256 for path, sha256 in folds.items() if path not in alone}
    together = repeated(run) | shared
    logits = dict(zip(together, model.predict_heads(images, together), strict=True))
    for path, sha256 in alone.items():
        own = _with_trunk_of(model, run, study, path.name)
        [logits[path]] = own.predict_heads(images, {path: sha256})
    results = results_of(run)
    for path in results:
        heads = repeated(run) if path.name == SEEDS else folds
        _write(path, patients, {head: log_odds_of(logits[head]) for head in heads})
    return results


def read_others(path: Path) -> np.ndarray:
    """Return the log odds that ``predict_others`` wrote, (patients, trainings).

    Raises:
        RefusedError: another version wrote the file.
    """
    table = pq.read_table(path)
    metadata = table.schema.metadata or {}
    check_format(path, metadata.get(b"format", b"").decode(), path.stem)
    frame: pd.DataFrame = table.to_pandas()
    return frame.drop(columns="patient").to_numpy(dtype=np.float64)


def _with_trunk_of(model: Model, run: RunFiles, study: Study, name: str) -> Model:
    """Return the model with the layers that this fold's first step trained."""
    assert study.transfer is not None  # nothing else gives a fold a trunk of its own
    first = RunFiles(run.root / study.transfer.run)
    about = read_json(first.model / "model.json", "model")
    if about["sha256"] != model.info["first_step_sha256"]:
        raise RefusedError(
            str(first.root), "is not the run that the fold models start from", "Restore it"
        )
    return model.with_head(first.model / "folds" / name, about["folds"][name])


def _write(path: Path, patients: Iterable[str], log_odds: Mapping[Path, np.ndarray]) -> None:
    columns: dict[str, Any] = {"patient": list(patients)}
    kind = path.stem
    columns |= {f"{kind.removesuffix('s')}_{head.stem}": its for head, its in log_odds.items()}
    table = pa.table(columns).replace_schema_metadata({"format": f"polartune/{kind}/1"})
    with replacing(path) as partial:
        pq.write_table(table, partial)
