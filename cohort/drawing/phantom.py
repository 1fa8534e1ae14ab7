"""Phantom cohorts: polar maps drawn from an invented population whose truth is known.

Segment values are measured on the drawn field, as software for real scans does, so a patient whose
flow reserve is impaired is one whose drawn map says so.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pandas as pd
from PIL import Image

from cohort.drawing.fields import fields_of
from cohort.drawing.polar_map import HIGHEST, SMALLEST, canvas
from cohort.drawing.population import Population, populate
from cohort.drawing.truth import write_truth
from cohort.segments import segment_columns
from spaces.csv_files import write_csv
from spaces.errors import InputError, nearest

INPUTS = tuple(HIGHEST)
COLUMNS = MappingProxyType({"rest": "rest_mbf", "stress": "stress_mbf", "reserve": "mfr"})
SEEDS = 2**31
_CALIBRATION_SEED = SEEDS  # no cohort can have it


@dataclass(frozen=True)
class Phantoms:
    """n phantom patients in memory.

    Attributes:
        images: by input, uint8 (n, 3, size, size) RGB.
        segments: by input (always rest, stress and reserve), float64 (n, 17); flow in ml/g/min,
            the reserve its ratio.
        traits: by name, (n,); see ``cohort.drawing.population.Population``.
    """

    images: Mapping[str, np.ndarray]
    segments: Mapping[str, np.ndarray]
    traits: Mapping[str, np.ndarray]


def draw_patients(
    numbers: Sequence[int], *, seed: int, size: int = 228, inputs: Sequence[str] = INPUTS
) -> Phantoms:
    """Return the phantoms of the given numbers, in memory.

    Patient i depends on (seed, i) alone: not on who else is drawn, nor on ``inputs``; ``size``
    changes only how densely the same field is sampled.

    Args:
        numbers: patient numbers, from 0; one at least.
        seed: of the cohort.
        size: side of the maps in pixels; the paper's are 228.
        inputs: the maps to colour, of rest, stress and reserve.
    """
    disc = canvas(size)
    images = {name: np.empty((len(numbers), 3, size, size), np.uint8) for name in inputs}
    segments: dict[str, list[np.ndarray]] = {name: [] for name in INPUTS}
    traits = []
    for row, number in enumerate(numbers):
        patient, fields = _draw_patient(number, seed, size)
        traits.append(patient.traits)
        for name in INPUTS:
            segments[name].append(disc.segment_means(fields[name]))
        for name in inputs:
            images[name][row] = disc.paint(fields[name], HIGHEST[name])[0].transpose(2, 0, 1)
    return Phantoms(
        images=images,
        segments={name: np.concatenate(rows) for name, rows in segments.items()},
        traits={name: np.concatenate([one[name] for one in traits]) for name in traits[0]},
    )


def draw_phantom(
    folder: Path,
    *,
    patients: int = 944,
    seed: int = 0,
    size: int = 228,
    inputs: Sequence[str] = INPUTS,
    ceiling: bool = True,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Return the table of a phantom cohort written to ``folder``, with its truth beside it.

    Writes ``images/<patient>_<input>.png`` (RGB), ``truth.json`` (see
    ``cohort.drawing.truth``) and, last, ``cohort.csv`` with the columns
    patient_id, one path for each input, the traits, and the segment values rest_mbf_01..17,
    stress_mbf_01..17 (ml/g/min) and mfr_01..17 (their ratio), all three whatever ``inputs``.

    Args:
        folder: where the cohort is written; made if missing.
        patients: how many; the paper has 944.
        seed: of the cohort, below 2**31.
        size: side of the maps in pixels.
        inputs: the maps to draw, of rest, stress and reserve.
        ceiling: whether truth.json gets the measured reference AUCs of the drawn inputs (about a
            minute), or only what holds by definition.
        progress: called with (patients drawn, patients) after each.

    Raises:
        InputError: an argument lies outside its range.
    """
    _check_request(patients, seed, size, inputs)
    (folder / "images").mkdir(parents=True, exist_ok=True)
    rows = []
    for number in range(patients):
        phantom = draw_patients([number], seed=seed, size=size, inputs=inputs)
        rows.append(_write_phantom(folder, f"phantom_{number:04d}", phantom))
        if progress is not None:
            progress(number + 1, patients)
    table = pd.DataFrame(rows)
    write_truth(folder / "truth.json", table, inputs=inputs, ceiling=ceiling)
    path = folder / "cohort.csv"
    write_csv(path, table)
    return path


def calibration_maps(count: int, size: int, input_name: str) -> np.ndarray:
    """Return maps that belong to no cohort, for the batch-norm statistics of random trunks.

    Args:
        count: how many.
        size: side of the maps in pixels.
        input_name: rest, stress or reserve; another name gives reserve maps.

    Returns:
        uint8 (count, 3, size, size), RGB; the same at every call.
    """
    name = input_name if input_name in INPUTS else "reserve"
    seed = _CALIBRATION_SEED
    return draw_patients(range(count), seed=seed, size=size, inputs=(name,)).images[name]


def _draw_patient(number: int, seed: int, size: int) -> tuple[Population, dict[str, np.ndarray]]:
    """Return one patient and the fields of the maps, float32 (1, pixels of the disc)."""
    child = np.random.SeedSequence(seed, spawn_key=(number,))
    generator = np.random.default_rng(child)
    patient = populate(1, generator=generator)
    return patient, fields_of(patient, size, generator=generator)


def _write_phantom(folder: Path, patient: str, phantom: Phantoms) -> dict[str, object]:
    """Write the maps of one phantom; return the row of the table."""
    row: dict[str, object] = {"patient_id": patient}
    for name, images in phantom.images.items():
        row[name] = f"images/{patient}_{name}.png"
        image = Image.fromarray(np.ascontiguousarray(images[0].transpose(1, 2, 0)))
        image.save(folder / str(row[name]), compress_level=1)
    row |= {name: values[0] for name, values in phantom.traits.items()}
    for name, segments in phantom.segments.items():
        columns = segment_columns(COLUMNS[name])
        row |= dict(zip(columns, segments[0].round(4), strict=True))
    return row


def _check_request(patients: int, seed: int, size: int, inputs: Sequence[str]) -> None:
    if patients < 1:
        raise InputError("phantom patients", f"must be at least 1, got {patients}", "Draw some")
    if not 0 <= seed < SEEDS:
        raise InputError("phantom seed", f"must lie in 0..{SEEDS - 1}, got {seed}", "Use another")
    if size < SMALLEST:
        raise InputError("phantom size", f"must be at least {SMALLEST}, got {size}", "Use 228")
    if not inputs:
        raise InputError("phantom inputs", "at least one is needed, got none", "Use reserve")
    for name in inputs:
        if name not in INPUTS:
            raise InputError("phantom inputs", f"unknown input {name}", nearest(name, INPUTS))
