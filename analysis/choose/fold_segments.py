"""The file of segment values that the five fold models gave the patients they never saw."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from cohort.segments import segment_columns
from spaces.errors import RefusedError
from spaces.run_files import check_format, replacing, sha256_of

# The key of model.json; null where no segment output was trained.
DIGEST = "out_of_fold_segments_sha256"
SEGMENT_COLUMNS = segment_columns("segment")
FORMAT = "polartune/oof-segments/1"


def write_out_of_fold_segments(path: Path, segments: np.ndarray, folds: np.ndarray) -> str:
    """Write the out-of-fold segment values; return the file's sha256.

    Args:
        path: the target.
        segments: float32, (n, 17), in the unit of the columns, in development order.
        folds: (n,) integers, the fold that left each patient out.
    """
    columns: dict[str, Any] = {
        "patient": np.arange(len(segments), dtype=np.int32),
        "fold": folds.astype(np.int8),
    }
    columns |= dict(zip(SEGMENT_COLUMNS, segments.T, strict=True))
    table = pa.table(columns).replace_schema_metadata({"format": FORMAT})
    with replacing(path) as partial:
        pq.write_table(table, partial)
    return sha256_of(path)


def read_out_of_fold_segments(path: Path, sha256: str) -> np.ndarray:
    """Return the out-of-fold segment values, float32 (n, 17), in development order.

    Raises:
        RefusedError: the file's digest is not ``sha256``, or its format is another.
    """
    if not path.is_file() or sha256_of(path) != sha256:
        raise RefusedError(
            str(path), "its digest differs from the one in model.json", "Restore the file"
        )
    table = pq.read_table(path)
    metadata = table.schema.metadata or {}
    check_format(path, metadata.get(b"format", b"").decode(), "oof-segments")
    frame: pd.DataFrame = table.to_pandas()
    return frame[SEGMENT_COLUMNS].to_numpy(dtype=np.float32)
