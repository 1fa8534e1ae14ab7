"""A cohort of another centre, and a run that is judged on it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from finished_run import Run, draw_cohort, fake_loading
from PIL import Image

from analysis.judge.evaluate import Metrics, evaluate_external

PATIENTS = 60


def paint(table: Path, seed: int) -> None:
    """Give every patient a picture of noise instead of an empty file."""
    generator = np.random.default_rng(seed)
    for name in pd.read_csv(table)["reserve"]:
        pixels = generator.integers(0, 256, (16, 16, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(table.parent / name)


def draw_other(folder: Path) -> Path:
    """Write another centre's cohort: 60 patients, one excluded, one without a label."""
    drawn = draw_cohort(folder)
    frame = pd.read_csv(drawn).head(PATIENTS)
    frame["patient_id"] = [f"hidden{number}" for number in range(PATIENTS)]
    frame["exclusion_reason"] = ["moved"] + [""] * (PATIENTS - 1)
    drawn.unlink()
    table = folder / "centre_b.csv"
    frame.to_csv(table, index=False)
    paint(table, 2)
    return table


@dataclasses.dataclass
class Both:
    """A judged run and another cohort."""

    run: Run
    table: Path

    @property
    def folder(self) -> Path:
        return self.run.files.external / "centre_b"

    @property
    def ledger(self) -> Path:
        return self.table.with_suffix(".openings.jsonl")

    def edit(self, change: Callable[[pd.DataFrame], pd.DataFrame | None]) -> None:
        frame = pd.read_csv(self.table, dtype=str, keep_default_na=False)
        changed = change(frame)
        (frame if changed is None else changed).to_csv(self.table, index=False)

    def judge(self) -> Metrics:
        return evaluate_external(self.run.files, self.run.cohort, self.table)


def both_in(folder: Path, evaluated: Run, patch: pytest.MonkeyPatch) -> Both:
    files = type(evaluated.files)(folder / "run")
    cohort = dataclasses.replace(evaluated.cohort, folder=folder / "cohort")
    run = Run(files, evaluated.study, cohort, folder / "cohort" / "cohort.csv")
    table = folder / "other" / "centre_b.csv"
    fake_loading(dataclasses.replace(run, csv=table), patch)
    return Both(run, table)
