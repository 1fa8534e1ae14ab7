"""Where labels mean nothing, the test set must say so, and the search's optimism must show."""

import json
import math
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context

import numpy as np
import pandas as pd
import pytest
from in_process import finish_in_process, search_in_process

import trainable.problem
from cohort.drawing.phantom import draw_phantom
from cohort.split import write_split
from cohort.table import read_cohort
from spaces.run_files import RunFiles
from spaces.study import Study
from trainable.lockstep import cross_validation_folds

RUNS, LEAKY_RUNS = 20, 4
PATIENTS, TEST = 200, 100
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def maps(tmp_path_factory):
    folder = tmp_path_factory.mktemp("maps")
    return draw_phantom(
        folder, patients=PATIENTS, seed=2, size=32, inputs=["reserve"], ceiling=False
    )


def permuted_run(maps, folder, number):
    """A run whose labels were permuted over all patients, before anything was split."""
    table = pd.read_csv(maps)
    labels = np.arange(PATIENTS) % 2
    table["label"] = np.random.default_rng([7, number]).permutation(labels)
    table.to_csv(maps.parent / f"permuted_{number}.csv", index=False)
    study = Study.model_validate(
        {
            "name": f"permuted{number}",
            "seed": number,
            "cohort": {
                "path": str(maps.parent / f"permuted_{number}.csv"),
                "inputs": ["reserve"],
                "target": "label",
                "colour_scale": "fixed",
                "split": {"test": TEST},
            },
            # A linear layer on many features: it would learn any label it is shown.
            "network": {
                "backbone": "efficientnet_lite0",
                "image_size": 32,
                "trainable_layers": 1,
            },
            "space": {
                "augmentation_strength": 0.0,
                "learning_rate": {"low": 1e-5, "high": 0.1, "log": True},
            },
            "training": {"epochs": 5, "batch_size": 16},
            "search": {"trials": 16, "scheduler": "none"},
            "resources": {"device": "cpu"},
            "bank": {"path": str(maps.parent / "banks")},
            "evaluation": {"bootstraps": 200, "attention": False, "seeds": 1},
        }
    )
    run = RunFiles(folder / study.name)
    run.root.mkdir(parents=True)
    run.study.write_text(study.as_yaml())
    cohort = read_cohort(study, run.root, verify_images=False, create_key=True)
    write_split(run.split, cohort.split)
    return run, cohort


def winner_and_test(maps, folder, number):
    """The winner's cross-validated score and its test AUC, of one run."""
    run, cohort = permuted_run(maps, folder, number)
    board = search_in_process(run)
    finish_in_process(run, cohort)
    metrics = json.loads(run.metrics.read_text())
    return board.best().score, metrics["model"]["auc"]["estimate"]


def assert_no_signal(winners, tests):
    """Honest: the test AUC is chance; naive: the winner's score is above it, yet by little."""
    error = tests.std(ddof=1) / math.sqrt(len(tests))
    assert abs(tests.mean() - 0.5) < 3 * error, f"test AUC {tests.mean():.3f} +- {error:.3f}"
    above = (winners.mean() - 0.5) / (winners.std(ddof=1) / math.sqrt(len(winners)))
    assert above > 2, f"the winner's optimism must be visible: {winners.mean():.3f}"
    assert winners.mean() < 0.7, f"the folds leak: a null winner scored {winners.mean():.3f}"


def test_permuted_labels_give_a_test_auc_of_one_half(maps, tmp_path):
    first = winner_and_test(maps, tmp_path, 0)  # fills the bank of all
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        others = pool.map(partial(winner_and_test, maps, tmp_path), range(1, RUNS))
        winners, tests = map(np.array, zip(first, *others, strict=True))
    print(f"test AUC {tests.mean():.3f}, winner's CV {winners.mean():.3f}, {RUNS} runs")
    assert_no_signal(winners, tests)


def test_a_head_that_trains_on_validation_rows_is_caught(maps, tmp_path, monkeypatch):
    def leaky(assignment):
        folds = cross_validation_folds(assignment)
        everyone = np.arange(len(assignment))
        for fold in folds:
            object.__setattr__(fold, "train", everyone)
        return folds

    monkeypatch.setattr(trainable.problem, "cross_validation_folds", leaky)
    leaky_runs = [winner_and_test(maps, tmp_path, number) for number in range(LEAKY_RUNS)]
    with pytest.raises(AssertionError, match="the folds leak"):
        assert_no_signal(*map(np.array, zip(*leaky_runs, strict=True)))
