from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from simulated_workload import Problem, auc_at, notes

from search.trial import Assignment, Trial, failure
from spaces.errors import InputError, RefusedError
from spaces.parameters import Configuration
from spaces.run_files import RunFiles, read_out_of_fold
from spaces.trial_log import scores

CONFIGURATION = Configuration(0.25, 1e-3, 1e-3, 0.5)
EPOCHS = 6


@pytest.fixture
def run(tmp_path: Path) -> RunFiles:
    return RunFiles(tmp_path)


def trial_of(run: RunFiles, *, history: tuple[float, ...] = (), unsaved: float = -1.0) -> Trial:
    assignment = Assignment(3, CONFIGURATION, history)
    return Trial(Problem(run.root), run, assignment, epochs=EPOCHS, unsaved_seconds=unsaved)


def mean_auc(epoch: int) -> float:
    auc = auc_at(CONFIGURATION, epoch)
    return math.fsum(auc) / len(auc)


def test_logits_are_on_disk_before_the_report(run: RunFiles) -> None:
    trial = trial_of(run)
    for epoch in range(1, EPOCHS + 1):
        report = trial.advance()
        logits = read_out_of_fold(run.out_of_fold_of(3), report.oof_sha256)
        assert [int(value) for value in logits[:, 0, 0]] == list(range(1, epoch + 1))


def test_the_score_is_the_one_of_the_log(run: RunFiles) -> None:
    trial = trial_of(run)
    found = [trial.advance().score for _ in range(EPOCHS)]
    assert found == scores([mean_auc(epoch) for epoch in range(1, EPOCHS + 1)], EPOCHS)


def test_two_checkpoints_are_kept_and_none_after_the_last_epoch(run: RunFiles) -> None:
    trial = trial_of(run)
    for _ in range(EPOCHS):
        trial.advance()
    names = sorted(path.name for path in run.checkpoint_folder(3).iterdir())
    assert names == [
        "00004.json",
        "00004.safetensors",
        "00005.json",
        "00005.safetensors",
    ]


def test_no_checkpoint_while_little_would_be_lost(run: RunFiles) -> None:
    trial = trial_of(run, unsaved=60.0)
    for _ in range(EPOCHS):
        trial.advance()
    assert not run.checkpoint_folder(3).exists()


def interrupted(run: RunFiles, epochs: int) -> tuple[float, ...]:
    trial = trial_of(run)
    for _ in range(epochs):
        trial.advance()
    return tuple(mean_auc(epoch) for epoch in range(1, epochs + 1))


def test_a_retried_trial_goes_on_from_its_newest_checkpoint(run: RunFiles) -> None:
    history = interrupted(run, 4)
    trial = trial_of(run, history=history)
    assert [note["epoch"] for note in notes(run.root, "restored")] == [4]
    report = trial.advance()
    assert report.epoch is not None
    assert report.epoch.epoch == 5
    assert report.score == scores([mean_auc(e) for e in range(1, 6)], EPOCHS)[-1]
    logits = read_out_of_fold(run.out_of_fold_of(3), report.oof_sha256)
    assert [int(value) for value in logits[:, 0, 0]] == [1, 2, 3, 4, 5]


def test_a_checkpoint_that_the_log_does_not_cover_is_left_alone(run: RunFiles) -> None:
    history = interrupted(run, 4)[:3]
    report = trial_of(run, history=history).advance()
    assert report.epoch is not None
    assert report.epoch.epoch == 4


@pytest.mark.parametrize("damage", ["torn", "unsealed"])
def test_a_damaged_checkpoint_is_passed_over(run: RunFiles, damage: str) -> None:
    history = interrupted(run, 4)
    folder = run.checkpoint_folder(3)
    if damage == "torn":
        (folder / "00004.safetensors").write_bytes(b"{")
    else:
        (folder / "00004.json").unlink()
    report = trial_of(run, history=history).advance()
    assert [note["epoch"] for note in notes(run.root, "restored")] == [3]
    logits = read_out_of_fold(run.out_of_fold_of(3), report.oof_sha256)
    assert [int(value) for value in logits[:, 0, 0]] == [1, 2, 3, 4]


def flip(path: Path) -> None:
    """Change one bit of the values, as a bad disk does; a bit of the statistics is no matter."""
    whole = path.read_bytes()
    for at in range(len(whole)):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        try:
            read_out_of_fold(path)
        except RefusedError:
            return


@pytest.mark.parametrize(
    "damage",
    [Path.unlink, lambda path: path.write_bytes(path.read_bytes()[:-9]), flip],
    ids=["gone", "truncated", "flipped"],
)
def test_without_whole_logits_a_retried_trial_starts_afresh(
    run: RunFiles, damage: Callable[[Path], None]
) -> None:
    history = interrupted(run, 4)
    damage(run.out_of_fold_of(3))
    report = trial_of(run, history=history).advance()
    assert report.epoch is not None
    assert report.epoch.epoch == 1


def test_a_non_finite_loss_is_a_failure_with_the_epoch(run: RunFiles) -> None:
    (run.root / "faults.json").write_text(json.dumps([{"lambda": [0, 1], "nan": True}]))
    trial = trial_of(run)
    trial.advance()
    report = trial.advance()
    assert report.failed == "non-finite loss at epoch 2"
    assert math.isnan(report.score)
    assert len(read_out_of_fold(run.out_of_fold_of(3), report.oof_sha256)) == 1


def test_a_failure_names_the_error_and_keeps_the_traceback() -> None:
    def read() -> None:
        raise InputError("cohort.csv row 7 rest", "the image is gone", "Put it back")

    with pytest.raises(InputError) as caught:
        read()
    report = failure(3, caught.value)
    assert report.failed == ("InputError: cohort.csv row 7 rest: the image is gone. Put it back.")
    assert "test_trial.py" in report.traceback
    assert np.isnan(report.score)
