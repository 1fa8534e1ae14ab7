"""Nothing that is decided before the test set is opened depends on any value of a test patient.

Two cohorts differ in their test patients alone: outcomes, segments, covariates and images of the
second are noise. A whole search, choice, training and freezing must give the same bytes for both.
"""

import shutil

import numpy as np
import pandas as pd
import pytest
import torch
from in_process import finish_in_process, search_in_process
from PIL import Image
from small_runs import prepare_run

import analysis.judge.freeze
import trainable.lockstep
import trainable.problem
from cohort.patient_key import hash_ids, read_key
from cohort.reading.full_table import hashes_of, read_full_table
from cohort.reading.images import read_images
from cohort.split import read_split
from cohort.table import read_cohort
from spaces.run_files import read_json, sha256_of
from spaces.study import read_study
from trainable.loss import Scale
from trainable.network import prepare

PREFIXES = ("mfr", "rest_mbf", "stress_mbf")
KEPT = {".safetensors", ".parquet"}
SEGMENTS = [f"{prefix}_{n:02d}" for prefix in PREFIXES for n in range(1, 18)]
STUDY = {
    "cohort.split": {"test": 20},
    "space": {"augmentation_strength": 0.0, "learning_rate": {"low": 1e-4, "high": 1e-1}},
    # What seeds and attention add comes after the opening, or is decided like the model itself.
    "evaluation": {"bootstraps": 100, "attention": False, "seeds": 2},
}


def with_noise(table, split, folder):
    """A copy of the cohort in which every value of the test patients is noise."""
    shutil.copytree(table.parent, folder)
    noisy, generator = folder / table.name, np.random.default_rng(5)
    rows = pd.read_csv(noisy, dtype={"patient_id": str})
    tested = np.isin(hash_ids(read_key(table), rows["patient_id"]), split.test)
    lowest = generator.uniform(1.0, 3.0, tested.sum())  # so that both classes remain
    for column in SEGMENTS:
        rows.loc[tested, column] = lowest + generator.uniform(0.0, 1.0, tested.sum())
    for column in ("sex", "diabetes", "hypertension", "smoking", "dyslipidaemia"):
        rows.loc[tested, column] = generator.integers(0, 2, tested.sum())
    rows.loc[tested, "age"] = generator.uniform(20, 90, tested.sum())
    rows.to_csv(noisy, index=False)
    for name in ("rest", "stress", "reserve"):
        for image in rows.loc[tested, name]:
            pixels = generator.integers(0, 256, (32, 32, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / image)
    return noisy


def decided(run):
    """Everything that is fixed before the test set is opened, files by their digest."""
    fixed = [run.best, *run.out_of_fold.iterdir(), run.test / "baselines.json"]
    fixed += [path for path in run.model.rglob("*") if path.suffix in KEPT]
    study = read_study(run.best_study).model_dump()
    study["cohort"].pop("path")  # where the cohort lies is no decision
    frozen = read_json(run.frozen, "frozen")
    return {
        "best.yaml": study,
        "thresholds": frozen["thresholds"],
        "development": frozen["development"],
        **{path.relative_to(run.root).as_posix(): sha256_of(path) for path in fixed},
    }


def differences(one, other):
    """Names of what two runs decided differently."""
    return {name for name in one.keys() | other.keys() if one.get(name) != other.get(name)}


def finish(run):
    study = read_study(run.study)
    cohort = read_cohort(study, run.root, split=read_split(run.split), verify_images=False)
    search_in_process(run)
    finish_in_process(run, cohort)
    return decided(run)


@pytest.fixture
def both(phantom, tmp_path):
    """Runs of the cohort and of its copy with noise."""
    original = prepare_run(tmp_path, phantom, "original", **STUDY)
    noisy = with_noise(phantom, read_split(original.split), tmp_path / "noisy")
    return original, prepare_run(tmp_path, noisy, "changed", **STUDY)


def test_the_noise_reaches_every_value_of_test_patients_and_no_other(both):
    tables, splits = [], []
    for run in both:
        study = read_study(run.study)
        tables.append(read_full_table(study, run.root, verify_images=True))
        splits.append(read_split(run.split))
    assert splits[0].sha256 == splits[1].sha256
    tested = np.isin(hashes_of(tables[0], splits[0]), splits[0].test)
    assert tested.sum() == 20
    before, after = (table.everyone for table in tables)
    assert ((before.segments != after.segments).all(axis=1) == tested).all()
    assert (before.target[~tested] == after.target[~tested]).all()
    assert (before.target[tested] != after.target[tested]).any()
    digests = [[fact.digest for fact in table.image_facts["reserve"]] for table in tables]
    assert (np.array(digests[0]) != np.array(digests[1])).tolist() == tested.tolist()


@pytest.mark.slow
def test_noise_in_the_test_set_changes_nothing_that_is_decided(both):
    original, changed = both
    found = finish(original)
    decided = {"best.json", "oof/0.parquet", "model/model.safetensors"}
    assert decided | {"model/out_of_fold_segments.parquet"} <= found.keys()
    assert differences(found, finish(changed)) == set()


def scale_of_everyone(monkeypatch):
    """Leak 1: segments are standardised with the values of all patients, test included."""
    honest = Scale.of

    def leaky(run):
        table = read_full_table(read_study(run.study), run.root, verify_images=False)
        everyone = honest(table.everyone.segments)
        monkeypatch.setattr(trainable.lockstep.Scale, "of", lambda segments: everyone)

    return leaky


def statistics_of_every_map(monkeypatch):
    """Leak 2: the trunk's input is centred on the maps of all patients, test included."""

    def leaky(run):
        table = read_full_table(read_study(run.study), run.root, verify_images=False)
        maps = read_images(table.everyone.images["reserve"], 32)
        centre = torch.from_numpy(maps.mean(axis=(0, 2, 3), dtype=np.float32)).view(1, 3, 1, 1)
        monkeypatch.setattr(
            "trainable.features.prepare", lambda pixels, name: prepare(pixels, name) - centre / 128
        )
        trainable.problem.open_problem.cache_clear()

    return leaky


def threshold_of_everyone(monkeypatch):
    """Leak 3: the threshold is chosen on development and test outcomes together."""
    honest = analysis.judge.freeze.youden_threshold

    def leaky(run):
        table = read_full_table(read_study(run.study), run.root, verify_images=False)
        shift = table.everyone.target.mean()

        def threshold(positive, probability):
            return honest(positive, probability) * shift

        monkeypatch.setattr(analysis.judge.freeze, "youden_threshold", threshold)

    return leaky


@pytest.mark.slow
@pytest.mark.parametrize(
    ("variant", "told_by"),
    [
        (scale_of_everyone, {"oof/0.parquet", "best.json"}),
        (statistics_of_every_map, {"oof/0.parquet", "model/folds/0.safetensors"}),
        (threshold_of_everyone, {"thresholds"}),
    ],
)
def test_a_leaky_variant_is_caught(both, monkeypatch, variant, told_by):
    leak = variant(monkeypatch)
    results = []
    for run in both:
        leak(run)
        shutil.rmtree(run.root.parent / "banks", ignore_errors=True)
        results.append(finish(run))
    assert differences(*results) >= told_by
