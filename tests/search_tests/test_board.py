"""What the driver keeps of a search that was interrupted, and what it removes."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from driving import Driver
from search_studies import MakeRun, make_study
from simulated_workload import FOLDS, PATIENTS, epoch_of

from search.board import LOST, Board
from search.fitness import MOST_UNFIT
from search.report import Report, Unfit
from spaces.errors import RefusedError
from spaces.parameters import Configuration
from spaces.run_files import RunFiles, sha256_of, write_out_of_fold
from spaces.trial_log import TrialLog, TrialRecord, read_trials

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


def test_a_board_keeps_of_each_epoch_all_but_the_loss_terms(make_run: MakeRun) -> None:
    """They are most of its bytes, and a long search has many; the log has them."""
    driver = Driver(make_run(trials=2))
    driver.run()
    logged = [trial.epochs for trial in read_trials(driver.board.run.trials)]
    assert all(epoch.loss for epochs in logged for epoch in epochs)
    light = [[replace(epoch, loss={}) for epoch in epochs] for epochs in logged]
    for board in (driver.board, Board(driver.study, driver.board.run)):
        assert [trial.epochs for trial in board.trials] == light


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


def test_a_checkpoint_that_could_not_be_deleted_goes_at_the_end(
    make_run: MakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = interrupted(make_run(), LOGGED)
    folder = run.checkpoint_folder(0)
    folder.mkdir(parents=True)
    board = Board(make_study(), run)
    monkeypatch.setattr(shutil, "rmtree", lambda *_, **__: None)  # as where storage is away
    board.end(board.trials[0], "stopped", "rung 2")
    monkeypatch.undo()
    assert folder.exists()
    board.tidy()
    assert not folder.exists()


def lose(driver: Driver, times: int = 1, epochs: int = 0) -> None:
    """Let the process of the one running trial die, each time after so many new epochs."""
    for _ in range(times):
        driver.fill()
        [tune_id] = driver.running
        for _ in range(epochs):
            driver.advance(tune_id)
        driver.lose(tune_id)
    driver.fill()


def test_losses_count_only_without_a_new_epoch_in_between(make_run: MakeRun) -> None:
    """A long trial on spot nodes is lost again and again, and gets on."""
    run = make_run(trials=1, scheduler="none", retries=1, epochs=8)
    driver = Driver(run)
    lose(driver, times=3, epochs=2)
    [trial] = driver.board.trials
    assert (trial.state, trial.retries, len(trial.epochs)) == (None, 3, 6)
    lose(driver)
    assert (trial.state, trial.reason) == ("failed", f"{LOST}, 2 of 2")


def test_a_restarted_driver_counts_as_its_predecessor_did(make_run: MakeRun) -> None:
    run = make_run(trials=1, scheduler="none", retries=2, epochs=8)
    lose(Driver(run), times=2, epochs=1)
    [trial] = read_trials(run.trials)
    assert (trial.retries, trial.fruitless) == (2, 1)
    lose(Driver(run))
    [trial] = read_trials(run.trials)
    assert (trial.retries, trial.fruitless) == (3, 2)


def test_a_process_that_can_compute_no_more_is_a_loss_with_its_cause(make_run: MakeRun) -> None:
    """Whether memory ran out inside or the kernel ended the process."""
    run = make_run(trials=1, scheduler="none", retries=1)
    driver = Driver(run, report=lambda t, _: Report(t.number, "n", lost="memory ran out (why)"))
    for _ in range(2):
        driver.fill()
        [tune_id] = driver.running
        driver.advance(tune_id)  # it is told to go on, so that it ends itself
        driver.lose(tune_id)
    assert driver.fill()
    [trial] = read_trials(run.trials)
    assert (trial.state, trial.reason) == ("failed", "memory ran out (why), 2 of 2")
    assert '"reason": "memory ran out (why)", "counts": true' in run.trials.read_text()


OTHER_TORCH = RefusedError("node b", "torch must be 2 as on the driver, got 1", "Mend it")


def unfit(trial: TrialRecord, _: int) -> Report:
    return Report(trial.number, "b", unfit=Unfit(OTHER_TORCH, node="b"))


def test_an_unfit_node_is_avoided_and_its_trial_starts_elsewhere(make_run: MakeRun) -> None:
    """It is not the trial's fault, however often it happens."""
    run = make_run(trials=1, scheduler="none", retries=0)
    driver = Driver(run, report=unfit, nodes=lambda: ["a", "b"])
    for _ in range(2):
        driver.fill()
        [tune_id] = driver.running
        driver.advance(tune_id)
        driver.lose(tune_id)
    driver.fill()
    assert [suggestion["unfit"] for suggestion in driver.given] == [[], ["b"], ["b"]]
    [trial] = read_trials(run.trials)
    assert (trial.state, trial.retries, trial.fruitless) == (None, 2, 0)
    assert '"reason": "its node is unfit", "counts": false' in run.trials.read_text()
    assert driver.board.obstacle is None


@pytest.mark.parametrize("nodes", [[], ["b"]], ids=["own Ray", "the only node"])
def test_a_search_ends_where_no_fit_node_is_left(make_run: MakeRun, nodes: list[str]) -> None:
    driver = Driver(make_run(trials=1, scheduler="none"), report=unfit, nodes=lambda: nodes)
    driver.fill()
    driver.advance(min(driver.running))
    assert driver.running == {}
    assert driver.board.obstacle is OTHER_TORCH
    assert driver.fill()


def test_a_search_ends_when_the_last_fit_node_leaves(make_run: MakeRun) -> None:
    nodes = ["a", "b"]
    driver = Driver(make_run(trials=1, scheduler="none"), report=unfit, nodes=lambda: nodes)
    driver.fill()
    driver.advance(min(driver.running))
    driver.board.require_fit_node()
    assert driver.board.obstacle is None
    nodes.remove("a")
    driver.board.require_fit_node()
    assert driver.board.obstacle is OTHER_TORCH
    driver.board.obstacle = None
    nodes.clear()  # others may come
    driver.board.require_fit_node()
    assert driver.board.obstacle is None


def test_trials_that_return_from_one_unfit_node_without_end_end_the_search(
    make_run: MakeRun,
) -> None:
    run = make_run(trials=1, scheduler="none")
    driver = Driver(run, report=unfit, nodes=lambda: ["a", "b"])
    for _ in range(MOST_UNFIT):
        driver.fill()
        [tune_id] = driver.running
        driver.advance(tune_id)
        driver.lose(tune_id)
    driver.fill()
    driver.advance(min(driver.running))
    assert driver.board.obstacle is OTHER_TORCH
