"""On phantoms the truth is known: the system must find what the maps hold."""

from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import numpy as np
import pytest
import yaml

import polartune
from cohort.drawing.phantom import draw_patients, draw_phantom
from trainable.metrics import auc
from trainable.model import load_model

SIZE = 112
FRESH, FRESH_SEED = 5000, 999
SEEDS = (0, 1, 2)  # fixed beforehand; every result is shown
pytestmark = pytest.mark.slow


def draw_part(numbers):
    phantoms = draw_patients(numbers, seed=FRESH_SEED, size=SIZE, inputs=("reserve",))
    return phantoms.images["reserve"], phantoms.segments["reserve"]


@pytest.fixture(scope="module")
def fresh():
    """Maps of 5,000 patients that no study has seen, and whether each is impaired."""
    parts = [range(start, start + 250) for start in range(0, FRESH, 250)]
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        drawn = list(pool.map(draw_part, parts))
    images = np.concatenate([part[0] for part in drawn])
    segments = np.concatenate([part[1] for part in drawn])
    return images, (segments < 2.0).any(axis=1).astype(float)


@pytest.mark.parametrize("seed", SEEDS)
def test_reserve_to_impaired_is_recovered(seed, fresh, tmp_path, capsys):
    table = draw_phantom(
        tmp_path / "cohort", patients=944, seed=seed, size=SIZE, inputs=["reserve"], ceiling=False
    )
    study = {
        "name": f"recovery{seed}",
        "seed": seed,
        "cohort": {
            "path": str(table),
            "inputs": ["reserve"],
            "target": "impaired_any",
            "derive": {"impaired_any": {"below": 2.0}},
            "colour_scale": "fixed",
            "split": {"test": 93, "seed": seed},
        },
        "network": {"backbone": "efficientnet_lite0", "image_size": SIZE},
        "augmentation": {"views": 2},
        "space": {"augmentation_strength": {"choices": [0.0, 0.5]}},
        "training": {"epochs": 8},
        "search": {"trials": 4},
        "resources": {"device": "cpu"},
        "evaluation": {"attention": False, "seeds": 1},
    }
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(study))
    result = polartune.run(tmp_path / "study.yaml", out=tmp_path / "runs")
    model = load_model(tmp_path / "runs" / str(study["name"]) / "model")
    images, impaired = fresh
    predictions = [
        model.predict_pixels([images[at : at + 50]]).probability for at in range(0, FRESH, 50)
    ]
    found = auc(impaired, np.concatenate(predictions))
    recovery = (found - 0.5) / 0.5  # the ceiling is 1: the maps decide who is impaired
    with capsys.disabled():
        print(f"\nseed {seed}: AUC {found:.4f} on {FRESH} fresh phantoms, recovery {recovery:.3f}")
    assert recovery >= 0.90
    assert result is not None
