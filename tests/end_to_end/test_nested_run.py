"""A whole search inside each outer fold, through the command: one prediction for every patient."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import yaml
from patience import PATIENCE
from small_runs import PATIENTS, small_study

from spaces import errors

pytestmark = pytest.mark.slow


def run(folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "polartune", "nested", "study.yaml"],
        cwd=folder,
        env={**os.environ, "COLUMNS": "80"},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


def test_every_patient_is_predicted_once_and_no_opening_is_an_earlier_look(
    phantom: Path, tmp_path: Path
) -> None:
    table = shutil.copytree(phantom.parent, tmp_path / "cohort") / phantom.name
    for ledger in table.parent.glob("*.openings.*"):
        ledger.unlink()
    content = small_study(
        table,
        **{
            "cohort.split": {"outer_folds": 3, "folds": 3, "stratify": True},
            "training.epochs": 2,
            "search.trials": 2,
            "evaluation": {"bootstraps": 200, "attention": False, "seeds": 1},
        },
    )
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(content))
    result = run(tmp_path)
    assert result.returncode == errors.DONE, result.stderr
    root = tmp_path / "runs" / "small-nested"
    found = json.loads((root / "nested.json").read_text())
    assert found["n"] == PATIENTS == sum(row["n"] for row in found["outer_folds"])
    frame = pd.read_parquet(root / "predictions.parquet")
    assert frame["patient"].is_unique
    assert len(frame) == PATIENTS
    for fold in range(3):
        metrics = json.loads((root / f"outer{fold + 1}" / "test" / "metrics.json").read_text())
        assert not metrics["exploratory"]
        assert metrics["model"]["auc"]["estimate"] == pytest.approx(
            found["outer_folds"][fold]["auc"]
        )
    said = " ".join(result.stdout.split())
    assert f"Each of {PATIENTS} patients" in said
    assert (root / "nested.html").is_file()
    before = (root / "nested.json").read_bytes()
    assert run(tmp_path).returncode == errors.DONE
    assert (root / "nested.json").read_bytes() == before
