"""What the driver keeps of a search that was interrupted, and what it removes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from search_studies import MakeRun, make_study
from simulated_workload import FOLDS, PATIENTS, epoch_of

from search.board import Board
from spaces.parameters import Configuration
from spaces.run_files import RunFiles, sha256_of, write_out_of_fold
from spaces.trial_log import TrialLog

CONFIGURATION = Configuration(0.25, 1e-3, 1e-3, 0.5)
LOGGED = 2


def interrupted(run: RunFiles, written: int) -> RunFiles:
    """Leave a trial with two logged epochs, and the logits of so many."""
    log = TrialLog(run.trials)
    log.asked(0, CONFIGURATION, "default")
    for epoch in range(1, LOGGED + 1):
        log.epoch(0, epoch_of(CONFIGURATION, epoch, 0.5), "here")
    logits = np.zeros((written, PATIENTS, 2), dtype=np.float32)
    write_out_of_fold(run.out_of_fold_of(0), logits, np.arange(PATIENTS) % FOLDS)
    return run


@pytest.mark.parametrize("written", [1, 2, 3])
def test_logits_count_only_if_they_cover_exactly_the_logged_epochs(
    make_run: MakeRun, written: int
) -> None:
    run = interrupted(make_run(), written)
    [trial] = Board(make_study(), run).waiting
    expected = sha256_of(run.out_of_fold_of(0)) if written == LOGGED else None
    assert trial.oof_sha256 == expected


@pytest.mark.parametrize(
    "damage", [Path.unlink, lambda path: path.write_bytes(path.read_bytes()[:-9])]
)
def test_damaged_logits_of_a_trial_that_has_not_ended_stop_nobody(
    make_run: MakeRun, damage: Callable[[Path], None]
) -> None:
    run = interrupted(make_run(), LOGGED)
    damage(run.out_of_fold_of(0))
    [trial] = Board(make_study(), run).waiting
    assert trial.oof_sha256 is None


def test_a_trial_that_ends_leaves_no_checkpoint(make_run: MakeRun) -> None:
    run = interrupted(make_run(), LOGGED)
    folder = run.checkpoint_folder(0)
    folder.mkdir(parents=True)
    (folder / "00001.safetensors").write_bytes(b"0")
    board = Board(make_study(), run)
    board.end(board.trials[0], "stopped", "rung 2")
    assert not folder.exists()
