"""The run directory: every path in one class, and the ways its files are written and read."""

from __future__ import annotations

import hashlib
import json
import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from spaces.errors import SHOWN, InputError, RefusedError
from spaces.judged_files import JudgedFiles

PARTIAL = ".partial"
"""How the names of unfinished files end; a dot comes first."""
VERSIONS = {"attention": 2, "frozen": 2, "metrics": 2, "nested": 2, "pointing": 2}
"""Of the formats whose content has changed; the others are at 1."""


@dataclass(frozen=True)
class RunFiles:
    """Where everything of one run lies."""

    root: Path

    @property
    def study(self) -> Path:
        """The study as run."""
        return self.root / "study.yaml"

    @property
    def environment(self) -> Path:
        """Versions, and hashes of table, images, split and code."""
        return self.root / "environment.json"

    @property
    def split(self) -> Path:
        """Development, test and folds, by keyed hash of the patient id."""
        return self.root / "split.json"

    @property
    def has_begun(self) -> bool:
        """Whether this is a run, not a folder that holds a study file of its own."""
        return self.study.exists() and self.environment.exists()

    @property
    def network(self) -> Path:
        """Digest of the frozen trunk and the precision of its products, equal in every slot."""
        return self.root / "network.json"

    @property
    def trials(self) -> Path:
        """The append-only event log of the search."""
        return self.root / "trials.jsonl"

    @property
    def out_of_fold(self) -> Path:
        """One parquet file of logits for each trial."""
        return self.root / "oof"

    def out_of_fold_of(self, number: int) -> Path:
        """The out-of-fold logits of one trial."""
        return self.out_of_fold / f"{number}.parquet"

    def checkpoint_folder(self, number: int) -> Path:
        """A trial's checkpoints, gone when it has ended."""
        return self.root / "checkpoints" / str(number)

    @property
    def heartbeats(self) -> Path:
        """Signs of life of the running trials, gone when the search ends."""
        return self.root / "heartbeats"

    def heartbeat_of(self, number: int) -> Path:
        """The sign of life of one trial."""
        return self.heartbeats / f"{number}.json"

    @property
    def tensorboard(self) -> Path:
        """Our event files."""
        return self.root / "tensorboard"

    @property
    def tune(self) -> Path:
        """Ray's own folder; never read back."""
        return self.root / "tune"

    @property
    def optuna_journal(self) -> Path:
        """The study for optuna-dashboard."""
        return self.root / "optuna.log"

    @property
    def best_study(self) -> Path:
        """The chosen configuration as a study file."""
        return self.root / "best.yaml"

    @property
    def best(self) -> Path:
        """The chosen configuration, its evidence and the runners-up, for programs."""
        return self.root / "best.json"

    def ranked_study(self, rank: int) -> Path:
        """The configuration of rank 1 to 5 as a study file."""
        return self.root / "best" / f"{rank}.yaml"

    @property
    def model(self) -> Path:
        """model.safetensors, model.json and folds/."""
        return self.root / "model"

    @property
    def seeds(self) -> Path:
        """What retraining with other random numbers gave: the trained layers, one file a seed."""
        return self.model / "seeds"

    @property
    def out_of_fold_segments(self) -> Path:
        """The segment values that the five fold models gave the patients they never saw."""
        return self.model / "out_of_fold_segments.parquet"

    @property
    def test(self) -> Path:
        """What was frozen before the test set was opened, and the metrics."""
        return self.root / "test"

    @property
    def judged(self) -> JudgedFiles:
        """The judgement on the test set."""
        return JudgedFiles(self.test)

    @property
    def external(self) -> Path:
        """One folder for each other cohort that the model was judged on, by its name."""
        return self.root / "external"

    @property
    def frozen(self) -> Path:
        """The hashes of everything that was fixed before the test set was opened."""
        return self.judged.frozen

    @property
    def predictions(self) -> Path:
        """Test logits and segment values, written before the outcomes are joined."""
        return self.judged.predictions

    @property
    def attention(self) -> Path:
        """Where the model looked; the arrays lie beside it as .safetensors."""
        return self.test / "attention.json"

    @property
    def pointing(self) -> Path:
        """The pointing game on phantoms whose disease lies in one territory."""
        return self.test / "pointing.json"

    @property
    def bland_altman(self) -> Path:
        """Mean predicted against mean measured segment value of each test patient, unnamed."""
        return self.judged.bland_altman

    @property
    def metrics(self) -> Path:
        """Test metrics with intervals."""
        return self.judged.metrics

    @property
    def report(self) -> Path:
        """The report."""
        return self.root / "report.html"

    @property
    def log(self) -> Path:
        """What happened, in words."""
        return self.root / "run.log"

    @property
    def lock(self) -> Path:
        """Held by the one driver."""
        return self.root / ".lock"


def require_run(run: RunFiles) -> None:
    """Make sure that a folder is a run.

    Raises:
        InputError: it is not.
    """
    if run.has_begun:
        return
    remedy = "Give the folder that `polartune run` wrote, runs/NAME"
    if run.study.exists():
        remedy = f"It holds a study: polartune run {run.study}"
    raise InputError(str(run.root), "is no run directory", remedy)


def sha256_of(path: Path) -> str:
    """Return the sha256 of a file's bytes, as hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def replacing(path: Path, *, durable: bool = True, within: Path | None = None) -> Iterator[Path]:
    """Yield a temporary path that becomes ``path``, whole or not at all, if the block succeeds.

    Args:
        path: the file that is replaced or made.
        durable: wait until the disk has it. Without, a power failure may leave a damaged file
            under the name; for what has a checksum and can be made again.
        within: a folder that is there already. Without, one would be made beside storage that is
            away; with it, that is a FileNotFoundError.
    """
    _make(path.parent, within)
    # Containers that share storage have the same process numbers.
    partial = path.with_name(f".{path.name}.{socket.gethostname()}.{os.getpid()}{PARTIAL}")
    try:
        yield partial
        if durable:
            with partial.open("rb") as file:
                os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def _make(folder: Path, within: Path | None) -> None:
    """Make a folder; of those on the way to it, only what lies in ``within``."""
    if within is None:
        folder.mkdir(parents=True, exist_ok=True)
        return
    for name in reversed([folder, *folder.parents]):
        if within in name.parents:
            name.mkdir(exist_ok=True)


def write_text(path: Path, text: str, *, within: Path | None = None) -> None:
    """Write a text file, whole or not at all; ``within`` as in ``replacing``."""
    with replacing(path, within=within) as partial:
        partial.write_text(text, encoding="utf-8")


def write_json(
    path: Path,
    kind: str,
    content: Mapping[str, Any],
    version: int | None = None,
    *,
    within: Path | None = None,
) -> None:
    """Write ``content`` under ``format: polartune/<kind>/<version>``; no NaN or infinity.

    Without a version, here and below, it is that of ``VERSIONS``.
    """
    document = {"format": _format_of(kind, version), **content}
    write_text(path, json.dumps(document, indent=1, allow_nan=False) + "\n", within=within)


def read_json(path: Path, kind: str, version: int | None = None) -> dict[str, Any]:
    """Read a file of ``write_json``.

    Raises:
        InputError: the file is missing, damaged, or of another kind or version.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        problem = f"cannot be read ({error})"
        raise InputError(str(path), problem, "Run the step that writes it") from None
    declared = document.get("format") if isinstance(document, dict) else None
    check_format(path, declared, kind, version)
    return dict(document)


def check_format(path: Path, declared: object, kind: str, version: int | None = None) -> None:
    """Refuse a file that another version wrote, or one of another kind.

    Raises:
        RefusedError: ``declared`` is not ``polartune/<kind>/<version>``.
    """
    expected = _format_of(kind, version)
    if declared != expected:
        raise RefusedError(
            str(path),
            f"format must be {expected}, got {str(declared)[:SHOWN]}",
            "Another version of polartune wrote it: use that version, or run the study again",
        )


def _format_of(kind: str, version: int | None) -> str:
    return f"polartune/{kind}/{version or VERSIONS.get(kind, 1)}"


OUT_OF_FOLD_COLUMNS = ("epoch", "patient", "fold", "logit_negative", "logit_positive")


def write_out_of_fold(
    path: Path, logits: np.ndarray, folds: np.ndarray, *, within: Path | None = None
) -> str:
    """Write the out-of-fold logits of every epoch so far; return the file's sha256.

    Args:
        path: the target, ``oof/<number>.parquet``.
        logits: float32, (epochs, patients, 2); epoch 1 first, patients in development order.
        folds: (patients,) integers, the fold that validated each patient.
        within: as in ``replacing``.
    """
    epochs, patients, _ = logits.shape
    table = pa.table(
        {
            "epoch": np.repeat(np.arange(1, epochs + 1, dtype=np.int16), patients),
            "patient": np.tile(np.arange(patients, dtype=np.int32), epochs),
            "fold": np.tile(folds.astype(np.int8), epochs),
            "logit_negative": logits[:, :, 0].ravel(),
            "logit_positive": logits[:, :, 1].ravel(),
        }
    ).replace_schema_metadata({"format": "polartune/oof/1"})
    with replacing(path, within=within) as partial:
        pq.write_table(table, partial, write_page_checksum=True)
    return sha256_of(path)


def read_out_of_fold(path: Path, sha256: str | None = None) -> np.ndarray:
    """Return the logits that ``write_out_of_fold`` was given, (epochs, patients, 2).

    Raises:
        RefusedError: the file's digest is not ``sha256``, or its format is another.
    """
    try:
        if sha256 is not None and sha256_of(path) != sha256:
            problem = "its digest differs from the one in trials.jsonl"
            raise RefusedError(str(path), problem, "Restore the file")
        table = pq.read_table(path, page_checksum_verification=True)
        metadata = table.schema.metadata or {}
        check_format(path, metadata.get(b"format", b"").decode(errors="replace"), "oof")
        frame: pd.DataFrame = table.to_pandas()
        epochs = int(frame["epoch"].max())
        columns = frame[["logit_negative", "logit_positive"]].to_numpy(dtype=np.float32)
        return columns.reshape(epochs, len(frame) // epochs, 2)
    except (OSError, ValueError, KeyError, ZeroDivisionError, pa.ArrowException):
        raise RefusedError(str(path), "it is missing or damaged", "Restore the file") from None
