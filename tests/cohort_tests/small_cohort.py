"""A cohort small enough to write anew in every test."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from cohort.segments import segment_columns
from spaces.study import Study

SIDE = 16


def study(**cohort: Any) -> Study:
    """A study of ``cohort.csv`` beside it; keywords replace entries of its cohort section."""
    section = {
        "path": "cohort.csv",
        "inputs": ["rest"],
        "target": "sex",
        "colour_scale": "fixed",
        "split": {"test": 8, "folds": 3},
    }
    return Study.model_validate({"name": "small", "cohort": section | cohort})


def table(patients: int = 40, *, inputs: Sequence[str] = ("rest",), seed: int = 0) -> pd.DataFrame:
    """A valid table; ids hold the word SECRET so that any leak can be found."""
    generator = np.random.default_rng(seed)
    ids = [f"SECRET{number:03d}" for number in range(patients)]
    columns: dict[str, Any] = {"patient_id": ids}
    for name in inputs:
        columns[name] = [f"images/{identity}_{name}.png" for identity in ids]
    rest = generator.uniform(0.6, 1.4, (patients, 17))
    mfr = generator.uniform(1.5, 4.0, (patients, 17))
    values = {"rest_mbf": rest, "stress_mbf": rest * mfr, "mfr": mfr}
    for prefix, matrix in values.items():
        columns |= dict(zip(segment_columns(prefix), matrix.T, strict=True))
    columns["sex"] = generator.permutation(np.arange(patients) % 2)
    columns["age"] = generator.normal(66, 10, patients).round(1)
    columns["centre"] = generator.choice(["north", "south"], patients)
    return pd.DataFrame(columns).astype(object)


def write(folder: Path, frame: pd.DataFrame, *, inputs: Sequence[str] = ("rest",)) -> Path:
    """Write the table and one distinct disc of noise a patient and input; return the folder."""
    (folder / "images").mkdir(parents=True, exist_ok=True)
    frame.to_csv(folder / "cohort.csv", index=False)
    axis = np.linspace(-1, 1, SIDE)
    disc = np.hypot(axis[:, None], axis)[:, :, None] < 1
    for number, name in enumerate(inputs):
        for at, path in enumerate(frame[name]):
            noise = np.random.default_rng([number, at]).integers(0, 256, (SIDE, SIDE, 3))
            Image.fromarray((noise * disc).astype(np.uint8)).save(folder / path)
    return folder


def write_without_images(folder: Path, frame: pd.DataFrame) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    frame.to_csv(folder / "cohort.csv", index=False)
    return folder


def row_of(frame: pd.DataFrame, identity: str) -> int:
    return list(frame["patient_id"]).index(identity)


def contents(patients: Any) -> Mapping[str, Any]:
    """Everything a ``Patients`` holds, comparable with ==."""
    return {
        "ids": patients.ids,
        "images": dict(patients.images),
        "target": patients.target.tobytes(),
        "segments": None if patients.segments is None else patients.segments.tobytes(),
        "baseline": {name: v.tobytes() for name, v in patients.baseline_segments.items()},
        "covariates": patients.covariates.to_csv(),
    }
