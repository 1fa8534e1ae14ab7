"""What a trained model says of new polar maps: probability, segment values, and a warning."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.compute as pc

from cohort.reading.csv_rows import read_rows
from cohort.reading.findings import Findings
from cohort.reading.image_paths import locate_images
from cohort.reading.images import UnusableImageError, inspect_images
from cohort.segments import segment_columns
from spaces.csv_files import write_csv
from spaces.errors import InputError
from trainable.familiarity import Familiarity
from trainable.model import ABOUT, load_model

TABLE = ".csv"
UNFAMILIAR = "unlike the development patients: do not rely on this row"
UNKNOWN = "not judged: the model was trained without a measure of familiarity"


@dataclass(frozen=True)
class Request:
    """Whom to predict.

    Attributes:
        labels: what the answer calls each patient: the table's first column, or the file's name.
        images: the files by input, in the order of ``labels``.
    """

    labels: tuple[str, ...]
    images: Mapping[str, tuple[Path, ...]]


def find_model(folder: Path) -> Path:
    """Return the folder of a model, given that or the run directory around it.

    Raises:
        InputError: there is no model.
    """
    for candidate in (folder / "model", folder):
        if (candidate / ABOUT).is_file():
            return candidate
    raise InputError(str(folder), "holds no trained model", "Give a run directory or its model/")


def read_request(maps: Sequence[Path], inputs: Sequence[str]) -> Request:
    """Return whom to predict: image files for a model of one map, else a table of paths.

    Args:
        maps: image files, or one csv table with a column of relative paths for each input.
        inputs: what the model sees, in order.

    Raises:
        InputError: a table for one of the inputs is missing, or images break a rule: all at once.
    """
    if len(maps) == 1 and maps[0].suffix.lower() == TABLE:
        request = _read_table(maps[0], inputs)
    elif len(inputs) > 1:
        raise InputError(
            "MAPS",
            f"the model sees {len(inputs)} maps of a patient: {', '.join(inputs)}",
            f"Give one table (CSV) with these columns of paths instead of {len(maps)} files",
        )
    else:
        request = Request(tuple(path.name for path in maps), {inputs[0]: tuple(maps)})
    _check_images(request)
    return request


def predict(model_folder: Path, request: Request) -> pd.DataFrame:
    """Return one row a patient: probability, distance, warning and segment values.

    A patient's numbers depend on that patient's maps alone. Outputs that got no gradient have no
    column: the probability at lambda = 0, the segment values at lambda = 1.
    """
    model = load_model(model_folder)
    prediction = model.predict(request.images)
    table: dict[str, object] = {"patient": list(request.labels)}
    if model.gives_probability:
        table["probability"] = prediction.probability
    table |= _familiarity(model_folder, prediction.features)
    if prediction.segments is not None:
        names = segment_columns(model.info["segments_prefix"])
        table |= dict(zip(names, prediction.segments.T, strict=True))
    return pd.DataFrame(table)


def write_predictions(path: Path, frame: pd.DataFrame) -> None:
    """Write the answer as csv, whole or not at all; no cell is a formula."""
    write_csv(path, frame)


def _familiarity(folder: Path, features: np.ndarray) -> dict[str, object]:
    """Return the columns ``distance`` (1 at the limit of familiar maps) and ``warning``."""
    known = Familiarity.load(folder)
    if known is None:
        return {"distance": np.nan, "warning": UNKNOWN}
    distance = known.distance(features)
    return {"distance": distance, "warning": np.where(distance > 1, UNFAMILIAR, "")}


def _read_table(path: Path, inputs: Sequence[str]) -> Request:
    rows = read_rows(path)
    missing = [name for name in inputs if name not in rows.names]
    if missing:
        raise InputError(
            path.name,
            f"must have the columns {', '.join(inputs)}, lacks {', '.join(missing)}",
            "Name them as the model's inputs are named",
        )
    findings = Findings()
    images = {}
    for name in inputs:
        located, _ = locate_images(rows.text(name), name, path.parent.resolve(), findings)
        images[name] = located
    if findings.count:
        everyone = np.ones(len(rows.numbers), dtype=bool)
        raise findings.error(path.name, rows.numbers, development=everyone)
    first = rows.names[0]
    labels = rows.text(first).to_pylist() if first not in inputs else None
    if labels is None:
        labels = [f"row {number}" for number in rows.numbers]
    if not pc.count(rows.text(inputs[0])).as_py():
        raise InputError(path.name, "the table holds no row", "Add patients")
    return Request(tuple(labels), images)


def _check_images(request: Request) -> None:
    """Refuse unusable images, all of them in one line."""
    broken = []
    remedies: dict[str, None] = {}
    for files in request.images.values():
        for path, found in zip(files, inspect_images(files), strict=True):
            if isinstance(found, UnusableImageError):
                broken.append(f"{path.name}: {found.rule}")
                remedies[found.remedy] = None
    if broken:
        shown = "; ".join(broken[:10]) + (f"; and {len(broken) - 10} more" if broken[10:] else "")
        raise InputError("MAPS", f"{len(broken)} unusable images: {shown}", ". ".join(remedies))
