"""The main job on the 267 real patients of SPECTF Heart, with settings that take half a minute."""

import json
from pathlib import Path

import pytest
import yaml

import polartune
from cohort.drawing.spectf import import_spectf

STUDIES = Path(__file__).resolve().parents[2] / "studies"
pytestmark = pytest.mark.slow


@pytest.mark.parametrize(("name", "patients"), [("spectf", (187, 80)), ("spectf_uci", (80, 187))])
def test_spectf_gives_a_test_auc_beside_both_regressions(spectf_files, tmp_path, name, patients):
    table = import_spectf(spectf_files, tmp_path / "cohort")
    study = yaml.safe_load((STUDIES / f"{name}.yaml").read_text())
    study["cohort"]["path"] = str(table)
    study["network"]["image_size"] = 64
    study["training"]["epochs"] = 6
    study["search"]["trials"] = 4
    study["space"] = {"augmentation_strength": {"choices": [0.0, 0.5]}}
    study["augmentation"] = {"views": 2}
    study["resources"] = {"device": "cpu"}
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(study))
    result = polartune.run(tmp_path / "study.yaml", out=tmp_path / "runs")
    run = tmp_path / "runs" / name
    metrics = json.loads((run / "test" / "metrics.json").read_text())
    assert (metrics["development"]["n"], metrics["n"]) == patients
    assert metrics["openings"] == 1
    low, high = result.interval
    assert 0.5 < low < result.auc < high <= 1
    assert set(metrics["baselines"]) == {"logistic_l2", "logistic_unpenalised"}
    replay = json.loads((run / "model" / "model.json").read_text())["replay"]
    assert replay["bit_equal"], replay["largest_difference"]
    assert "diagnosis" in (run / "report.html").read_text()
