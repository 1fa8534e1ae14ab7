from __future__ import annotations

import errno
import json
import math
import os
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from simulated_workload import CrossValidation, Problem, auc_at, notes
from simulated_workload import Report as SimulatedReport

from search.checkpoint import Checkpoint, checkpoints
from search.report import failure
from search.trial import Assignment, Trial
from spaces.errors import InputError, RefusedError
from spaces.parameters import Configuration
from spaces.run_files import RunFiles, read_out_of_fold, write_out_of_fold
from spaces.storage import outlasting
from spaces.trial_log import scores

CONFIGURATION = Configuration(0.25, 1e-3, 1e-3, 0.5)
EPOCHS = 6


@pytest.fixture
def run(tmp_path: Path) -> RunFiles:
    return RunFiles(tmp_path)


class Noting(Problem):
    """One whose notes are lost while the storage is away."""

    def note(self, *about: Any) -> None:
        with suppress(FileNotFoundError):
            super().note(*about)


def trial_of(run: RunFiles, *, history: tuple[float, ...] = (), unsaved: float = -1.0) -> Trial:
    assignment = Assignment(3, CONFIGURATION, history)
    return Trial(Noting(run.root), run, assignment, epochs=EPOCHS, unsaved_seconds=unsaved)


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


def rewritten(old: str, new: str) -> Callable[[Path], None]:
    return lambda path: (path.write_text(path.read_text().replace(old, new)), None)[1]


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("00004.safetensors", lambda path: path.write_bytes(b"{")),
        ("00004.json", Path.unlink),
        ("00004.json", lambda path: path.write_bytes(path.read_bytes()[:-20])),
        ("00004.json", lambda path: path.write_bytes(b"")),
        ("00004.json", lambda path: path.write_bytes(b"\xff" + path.read_bytes())),
        ("00004.json", rewritten("polartune/checkpoint/1", "polartune/checkpoint/3")),
        ("00004.json", rewritten('"sha256"', '"sha257"')),
        ("00004.json", rewritten("{", "[")),
    ],
    ids=["torn", "unsealed", "cut", "empty", "bytes", "format", "name", "json"],
)
def test_a_damaged_checkpoint_is_passed_over(
    run: RunFiles, name: str, damage: Callable[[Path], None]
) -> None:
    history = interrupted(run, 4)
    damage(run.checkpoint_folder(3) / name)
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


def test_damaged_checkpoints_do_not_push_out_new_ones(run: RunFiles) -> None:
    """Else a trial that goes on before them would keep none, and lose more than it may."""
    history = interrupted(run, 5)
    folder = run.checkpoint_folder(3)
    for name in ("00004.json", "00005.json"):
        (folder / name).unlink()
    trial_of(run, history=history).advance()
    assert [one.epoch for one in checkpoints(folder) if one.is_whole()] == [1]


class Timed(Problem):
    """A problem whose every epoch takes so many seconds of a clock that nothing else moves."""

    def __init__(self, root: Path, seconds: float) -> None:
        super().__init__(root)
        self.seconds, self.now = seconds, 0.0

    def cross_validation(self, configuration: Configuration) -> CrossValidation:
        problem = self

        class Slow(CrossValidation):
            def advance(self, beat: Callable[[], None] | None = None) -> SimulatedReport:
                problem.now += problem.seconds
                return super().advance(beat)

        return Slow(self, configuration)


@pytest.mark.parametrize(
    ("seconds", "saved"),
    [(7.0, [8, 16]), (25.0, [2, 4, 6, 8]), (50.0, [1, 2, 3]), (600.0, [1, 2, 3])],
)
def test_no_more_is_lost_than_a_minute_or_one_epoch(
    run: RunFiles, seconds: float, saved: list[int]
) -> None:
    """Killed just before the end of any epoch; and no checkpoint is written that nobody needs."""
    problem, epochs = Timed(run.root, seconds), 20
    assignment = Assignment(3, CONFIGURATION)
    trial = Trial(problem, run, assignment, epochs=epochs, clock=lambda: problem.now)
    newest, found, lost = 0, [], []
    for epoch in range(1, epochs):
        lost.append(seconds * (epoch - newest))
        trial.advance()
        written = [one.epoch for one in checkpoints(run.checkpoint_folder(3))]
        if epoch in written:
            newest = epoch
            found.append(epoch)
    assert max(lost) <= max(60.0, seconds)
    assert found[: len(saved)] == saved


class Mount:
    """Storage that is away until somebody has waited for it."""

    def __init__(self, run: RunFiles, monkeypatch: pytest.MonkeyPatch) -> None:
        self.run, self.away = run, run.root.with_name("away")
        self.waited = 0
        for module in ("search.trial", "search.checkpoint"):
            monkeypatch.setattr(f"{module}.outlasting", partial(outlasting, sleep=self.sleep))

    def sleep(self, _: float) -> None:
        self.waited += 1
        if self.away.exists():
            assert not self.run.root.exists(), "something was made where the storage had been"
            self.mount()

    def unmount(self) -> None:
        self.run.root.rename(self.away)

    def mount(self) -> None:
        self.away.rename(self.run.root)


@pytest.fixture
def mount(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Mount:
    (tmp_path / "run").mkdir()
    return Mount(RunFiles(tmp_path / "run"), monkeypatch)


def test_storage_may_go_between_the_logits_and_the_checkpoint(
    mount: Mount, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write(*arguments: Any, **options: Any) -> str:
        digest = write_out_of_fold(*arguments, **options)
        mount.unmount()
        return digest

    trial = trial_of(mount.run)
    monkeypatch.setattr("search.trial.write_out_of_fold", write)
    trial.advance()
    assert mount.waited == 1
    assert [c.epoch for c in checkpoints(mount.run.checkpoint_folder(3)) if c.is_whole()] == [1]


def test_a_trial_that_starts_again_waits_for_its_checkpoints(mount: Mount) -> None:
    """That nothing is there must not be taken for that nothing was ever there."""
    history = interrupted(mount.run, 4)
    mount.unmount()
    report = trial_of(mount.run, history=history).advance()
    assert mount.waited == 1
    assert report.epoch is not None
    assert report.epoch.epoch == 5


def test_storage_may_go_while_a_trial_looks_for_its_checkpoints(
    mount: Mount, monkeypatch: pytest.MonkeyPatch
) -> None:
    history = interrupted(mount.run, 4)

    def look(folder: Path) -> list[Checkpoint]:
        if not mount.waited:
            mount.unmount()
        return checkpoints(folder)

    monkeypatch.setattr("search.trial.checkpoints", look)
    report = trial_of(mount.run, history=history).advance()
    assert report.epoch is not None
    assert report.epoch.epoch == 5


def test_logits_that_a_server_does_not_hand_out_are_not_damaged(
    mount: Mount, monkeypatch: pytest.MonkeyPatch
) -> None:
    history = interrupted(mount.run, 4)

    def read(path: Path) -> np.ndarray:
        if mount.waited:
            return read_out_of_fold(path)
        stale = OSError(errno.ESTALE, os.strerror(errno.ESTALE))
        raise RefusedError(str(path), "it is missing or damaged", "Restore it") from stale

    monkeypatch.setattr("search.trial.read_out_of_fold", read)
    report = trial_of(mount.run, history=history).advance()
    assert report.epoch is not None
    assert report.epoch.epoch == 5
