"""How much is computed, counted: images through the trunk, images decoded, bank files opened."""

import os
from collections import Counter
from pathlib import Path

import pytest

from cohort.reading import images
from spaces.bank_files import ABOUT, read_banks
from spaces.parameters import Configuration
from trainable import bank
from trainable.cut import Trunk
from trainable.problem import fill_part, missing_parts, open_problem

DEVELOPMENT = 48  # of 60 small phantoms, 12 are the test set; a multiple of the trunk's batch
STRENGTHS, VIEWS = (0.0, 1.0), 2
# One split whatever the target: the bank belongs to the development patients.
SPLIT = {"cohort.split": {"test": 12, "stratify": False}}
OTHER_TARGET = {"cohort.derive": {"impaired_any": {"below": 2.2}}}


@pytest.fixture
def work(monkeypatch):
    """Counts of what is done from now on."""
    done = Counter()
    forward, read, safe_open = Trunk.forward, images.read_image, bank.safe_open

    def counted_forward(self, image):
        done["through the trunk"] += len(image)
        return forward(self, image)

    def counted_read(*arguments, **options):
        done["decoded"] += 1
        return read(*arguments, **options)

    def counted_open(path, **options):
        done["opened"] += 1
        return safe_open(path, **options)

    monkeypatch.setattr(Trunk, "forward", counted_forward)
    monkeypatch.setattr(images, "read_image", counted_read)
    monkeypatch.setattr(bank, "safe_open", counted_open)
    open_problem.cache_clear()
    yield done
    open_problem.cache_clear()


def fill(run):
    """Fill what is missing, in a process that opens the run anew; return the parts."""
    open_problem.cache_clear()
    parts = missing_parts(str(run.root), "cpu")
    for part in parts:
        fill_part(str(run.root), "cpu", part)
    return parts


def train(run, epochs=2, configurations=2):
    """Train some trials, and the model of the whole development set."""
    problem = open_problem(str(run.root), "cpu")
    for number in range(configurations):
        configuration = Configuration(
            lambda_=0.5,
            learning_rate=10.0 ** -(3 + number),
            weight_decay=1e-2,
            augmentation_strength=STRENGTHS[number % 2],
        )
        for training in (problem.cross_validation, problem.development_training):
            folds = training(configuration)
            for _ in range(epochs):
                folds.advance()


def test_each_view_of_each_development_patient_passes_the_trunk_once(make_run, work):
    run = make_run()
    parts = fill(run)
    views = 1 + VIEWS  # the plain image, and two views at the one other strength
    assert sum(part.images for part in parts) == DEVELOPMENT * views
    # The size of one image's features is measured on a blank one, in a batch of four.
    assert work["through the trunk"] == DEVELOPMENT * views + 4
    assert work["decoded"] == DEVELOPMENT * len(STRENGTHS), "views share a decoded image"


def test_filling_does_not_wait_for_the_disk(make_run, monkeypatch):
    """A checksum guards the parts; a slow disk would cost more than the trunk."""
    synced, fsync = [], os.fsync

    def noted(descriptor):
        synced.append(Path(f"/proc/self/fd/{descriptor}").readlink().name)
        fsync(descriptor)

    run = make_run()
    monkeypatch.setattr(os, "fsync", noted)
    open_problem.cache_clear()
    assert fill(run)
    assert synced, "the small files are still waited for"
    assert not [name for name in synced if ".safetensors" in name]
    open_problem.cache_clear()


def test_trials_and_the_final_model_read_the_bank_alone(make_run, work):
    run = make_run()
    fill(run)
    work.clear()
    train(run)
    assert work["through the trunk"] == work["decoded"] == 0


def test_a_second_target_on_the_same_maps_computes_nothing(make_run, work):
    fill(make_run("one", **SPLIT))
    work.clear()
    other = make_run("two", **SPLIT, **OTHER_TARGET)
    assert fill(other) == []
    train(other)
    assert work["through the trunk"] == work["decoded"] == 0


def test_a_resumed_run_computes_no_feature_again(make_run, work):
    run = make_run()
    fill(run)
    train(run)
    work.clear()
    assert fill(run) == []
    train(run)
    assert work["through the trunk"] == work["decoded"] == 0


def test_an_interrupted_fill_goes_on_where_it_was(make_run, work, monkeypatch):
    monkeypatch.setattr(bank, "PATIENTS_A_FILE", 16)
    run = make_run()
    first, *others = missing_parts(str(run.root), "cpu")
    fill_part(str(run.root), "cpu", first)
    work.clear()
    assert fill(run) == others
    missing = sum(part.images for part in others)
    assert work["through the trunk"] == missing + 4 == DEVELOPMENT * 3 - 16 + 4


def test_another_run_that_looks_before_a_part_is_sealed_leaves_it(make_run, monkeypatch):
    """Both have the same maps; the first has its tensors in place, but not yet their digest."""
    run, looks = make_run(), []
    open_problem.cache_clear()
    parts = missing_parts(str(run.root), "cpu")
    write = bank.write_json

    def look_first(path, kind, *content):
        if kind == "bank-part":
            looks.append(len(missing_parts(str(run.root), "cpu")))
        write(path, kind, *content)

    monkeypatch.setattr(bank, "write_json", look_first)
    for part in parts:
        fill_part(str(run.root), "cpu", part)
    assert looks == [len(parts) - at for at in range(len(parts))]
    train(run, epochs=1)
    open_problem.cache_clear()


def test_a_process_opens_each_bank_file_once(make_run, work, monkeypatch):
    monkeypatch.setattr(bank, "PATIENTS_A_FILE", 16)
    run = make_run()
    fill(run)
    work.clear()
    train(run, epochs=3, configurations=4)
    assert work["opened"] == len(STRENGTHS) * DEVELOPMENT // 16


@pytest.mark.slow
def test_without_a_bank_each_image_is_decoded_once_in_a_process(make_run, work):
    run = make_run("off", **{"bank.mode": "off"})
    train(run, epochs=2)
    assert work["decoded"] == DEVELOPMENT


def test_a_filled_bank_describes_itself_and_reading_it_marks_its_use(make_run, work, monkeypatch):
    monkeypatch.setattr(bank, "PATIENTS_A_FILE", 16)
    run = make_run()
    first, *_ = missing_parts(str(run.root), "cpu")
    fill_part(str(run.root), "cpu", first)
    root = run.root.parent / "banks"
    [partial] = read_banks(root)
    assert (partial.input, partial.strength, partial.views) == ("reserve", 0.0, 1)
    assert partial.state == "1 of 3"
    fill(run)
    for folder in read_banks(root):
        os.utime(folder.path / ABOUT, (1, 1))
    train(run, epochs=1, configurations=2)
    banks = {one.strength: one for one in read_banks(root)}
    assert [banks[strength].views for strength in STRENGTHS] == [1, VIEWS]
    assert {one.state for one in banks.values()} == {"whole"}
    assert all(one.last_use > 1 for one in banks.values())
