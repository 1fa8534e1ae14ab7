"""Two steps, where the second one's trait is luck: starting from step one must not flatter it.

Step one's configuration was selected on all development folds. If that told the second step
anything of the patients it validates, a trait drawn at random would be cross-validated too well.

What six traits can exclude: on folds of 20 patients their gains scatter by .042, so their mean has
an error of .017, and a mean gain's 95 % upper bound lies 2.02 errors above it. Without any flattery
that bound stays below .06 in 19 of 20 such experiments, (2.02 + 1.64) x .017. So a mean gain of .06
or more is what they exclude; smaller ones they cannot. A noisier experiment has a higher bound.
"""

import json
import math

import numpy as np
import pandas as pd
import pytest
from in_process import finish_in_process, open_cohort, search_in_process
from scipy import stats

from cohort.drawing.phantom import draw_phantom
from cohort.split import write_split
from cohort.table import read_cohort
from spaces.run_files import RunFiles
from spaces.study import Study

TRAITS, PATIENTS, TEST = 6, 200, 100
LEAST_EXCLUDED = 0.06
"""Of what step one's selection may add to the second step's mean cross-validated AUC."""
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def maps(tmp_path_factory):
    """Phantoms with a trait that was permuted over all patients, once for each study."""
    table = draw_phantom(
        tmp_path_factory.mktemp("maps"),
        patients=PATIENTS,
        seed=3,
        size=32,
        inputs=["reserve"],
        ceiling=False,
    )
    frame = pd.read_csv(table)
    for number in range(TRAITS):
        labels = np.random.default_rng([11, number]).permutation(np.arange(PATIENTS) % 2)
        frame[f"trait_{number}"] = labels
    frame.to_csv(table, index=False)
    return table


def searched(maps, folder, name, target, first=None):
    study = Study.model_validate(
        {
            "name": name,
            "cohort": {
                "path": str(maps),
                "inputs": ["reserve"],
                "target": target,
                "derive": {"impaired_any": {"below": 2.0}} if target == "impaired_any" else {},
                "colour_scale": "fixed",
                "split": {"test": TEST},
            },
            "network": {
                "backbone": "efficientnet_lite0",
                "image_size": 32,
                "trainable_layers": 2,
            },
            "space": {"augmentation_strength": 0.0},
            "training": {"epochs": 3, "batch_size": 8},
            "search": {"trials": 8, "scheduler": "none"},
            "resources": {"device": "cpu"},
            "bank": {"path": str(maps.parent / "banks")},
            "evaluation": {"bootstraps": 200, "attention": False, "seeds": 1},
            **({"transfer": {"run": f"../{first}"}} if first else {}),
        }
    )
    run = RunFiles(folder / name)
    run.root.mkdir(parents=True)
    run.study.write_text(study.as_yaml())
    cohort = read_cohort(study, run.root, verify_images=False, create_key=True)
    write_split(run.split, cohort.split)
    return run, search_in_process(run).best().score


def measured(run):
    finish_in_process(run, open_cohort(run))
    return json.loads(run.metrics.read_text())["model"]["auc"]["estimate"]


def test_a_second_step_on_a_random_trait_scores_no_more_than_a_first_one(maps, tmp_path):
    first, _ = searched(maps, tmp_path, "first", "impaired_any")
    measured(first)
    alone, after, tests = [], [], []
    for number in range(TRAITS):
        trait = f"trait_{number}"
        alone.append(searched(maps, tmp_path, f"alone{number}", trait)[1])
        run, score = searched(maps, tmp_path, f"after{number}", trait, first="first")
        after.append(score)
        tests.append(measured(run))
    gained = np.array(after) - np.array(alone)
    error = gained.std(ddof=1) / math.sqrt(TRAITS)
    highest = gained.mean() + stats.t.ppf(0.95, TRAITS - 1) * error
    print(
        f"winner's CV alone {np.mean(alone):.3f}, after step one {np.mean(after):.3f}, "
        f"gained {gained.mean():+.3f} +- {error:.3f}, at most {highest:+.3f}; "
        f"test AUC {np.mean(tests):.3f}"
    )
    assert highest < LEAST_EXCLUDED
    spread = np.std(tests, ddof=1) / math.sqrt(TRAITS)
    assert abs(np.mean(tests) - 0.5) < 3 * spread
