"""SPECTF Heart (UCI no. 96): 267 real patients as a cohort of drawn polar maps.

Source: Kurgan et al., Artif Intell Med 2001;23:149-69 (doi:10.1016/S0933-3657(01)00082-3); UCI
states CC BY 4.0. It publishes 22 regional counts, not images: the maps are drawn from them.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pandas as pd
from PIL import Image

from cohort.drawing.polar_map import draw_segments
from cohort.segments import SEGMENTS, segment_columns
from spaces.csv_files import write_csv
from spaces.errors import InputError

REGIONS = 22
HIGHEST_COUNT = 100
IMAGE_SIZE = 228
# The published files, their rows, and the split that they stand for.
FILES = MappingProxyType({"SPECTF.train": (80, "development"), "SPECTF.test": (187, "test")})
# INFERRED, not documented: which of the 22 regions (from 1) is which segment (from 1) follows from
# correlations between regions at rest. Identical for rest and stress; two regions are averaged.
REGIONS_OF_SEGMENT: Mapping[int, tuple[int, ...]] = MappingProxyType(
    {
        1: (10,),
        2: (14,),
        3: (14,),
        4: (13,),
        5: (12,),
        6: (11,),
        7: (5,),
        8: (9,),
        9: (9,),
        10: (8,),
        11: (7,),
        12: (6,),
        13: (1,),
        14: (4,),
        15: (3,),
        16: (2,),
        17: (15, 20),
    }
)
_REMEDY = "Give the folder with SPECTF.train and SPECTF.test as UCI publishes them"


def import_spectf(source: Path, folder: Path) -> Path:
    """Return the table of a cohort made from the two files that UCI publishes.

    Writes ``cohort.csv`` with the columns patient_id, stress and rest (paths of drawn 228 x 228 RGB
    maps, fixed colour range 0 to 100), diagnosis (1 = abnormal), uci_split (development | test),
    rest_counts_01..17, stress_counts_01..17 (relative counts, 0 to 100) and ratio_01..17
    (stress / rest). The 22 regions are mapped to 17 segments by ``REGIONS_OF_SEGMENT``, an inferred
    geometry.

    Args:
        source: the folder that holds ``SPECTF.train`` and ``SPECTF.test``.
        folder: where the cohort is written; made if missing.

    Raises:
        InputError: a file is missing or is not what UCI publishes.
    """
    rows = {name: _read_counts(source / name, expected) for name, (expected, _) in FILES.items()}
    counts = np.concatenate(list(rows.values()))
    ids = [f"spectf_{number:03d}" for number in range(len(counts))]
    rest, stress = _segments(counts[:, 1::2]), _segments(counts[:, 2::2])
    (folder / "images").mkdir(parents=True, exist_ok=True)
    columns: dict[str, object] = {"patient_id": ids}
    for name, segments in (("stress", stress), ("rest", rest)):
        columns[name] = _write_maps(folder, name, ids, segments)
    columns["diagnosis"] = counts[:, 0].astype(int)
    columns["uci_split"] = [split for name, (_, split) in FILES.items() for _ in rows[name]]
    table = pd.concat(
        [
            pd.DataFrame(columns),
            pd.DataFrame(rest, columns=segment_columns("rest_counts")),
            pd.DataFrame(stress, columns=segment_columns("stress_counts")),
            pd.DataFrame(stress / rest, columns=segment_columns("ratio")),
        ],
        axis=1,
    )
    path = folder / "cohort.csv"
    write_csv(path, table, float_format="%.6g")
    return path


def _read_counts(path: Path, rows: int) -> np.ndarray:
    """Return diagnosis and 44 counts of every row, float64 (rows, 45)."""
    if not path.is_file():
        raise InputError(str(path), "no such file", _REMEDY)
    try:
        table = pd.read_csv(path, header=None, dtype=np.float64)
    except (ValueError, OSError) as error:
        reason = str(error).strip().splitlines()[0]
        raise InputError(str(path), f"cannot be read as numbers ({reason})", _REMEDY) from None
    counts = table.to_numpy()
    columns = 1 + 2 * REGIONS
    if counts.shape[1] != columns:
        raise InputError(str(path), f"must have {columns} columns, got {counts.shape[1]}", _REMEDY)
    if len(counts) != rows:
        raise InputError(str(path), f"must have {rows} rows, got {len(counts)}", _REMEDY)
    if not np.isin(counts[:, 0], (0, 1)).all():
        row = int(np.argmin(np.isin(counts[:, 0], (0, 1)))) + 1
        problem = f"diagnosis must be 0 or 1, got {counts[row - 1, 0]:g}"
        raise InputError(f"{path} row {row}", problem, _REMEDY)
    _check_range(path, counts[:, 1:])
    return np.asarray(counts)


def _check_range(path: Path, counts: np.ndarray) -> None:
    # A count of 0 would leave stress / rest undefined; the lowest published one is 3.
    valid = (counts > 0) & (counts <= HIGHEST_COUNT)
    if not valid.all():
        row, column = np.argwhere(~valid)[0]
        where = f"{path} row {row + 1} column {column + 2}"
        problem = f"a count must lie in 1..{HIGHEST_COUNT}, got {counts[row, column]:g}"
        raise InputError(where, problem, _REMEDY)


def _segments(regions: np.ndarray) -> np.ndarray:
    """Return the counts of 17 segments, (n, 17), from those of 22 regions, (n, 22)."""
    numbered = (REGIONS_OF_SEGMENT[number] for number in range(1, SEGMENTS + 1))
    return np.column_stack(
        [regions[:, [region - 1 for region in merged]].mean(axis=1) for merged in numbered]
    )


def _write_maps(folder: Path, name: str, ids: list[str], segments: np.ndarray) -> list[str]:
    """Write one PNG a patient; return their paths relative to ``folder``."""
    paths = [f"images/{patient}_{name}.png" for patient in ids]
    for path, values in zip(paths, segments, strict=True):
        image = draw_segments(values[None], IMAGE_SIZE, HIGHEST_COUNT)[0]
        Image.fromarray(image).save(folder / path, compress_level=1)
    return paths
