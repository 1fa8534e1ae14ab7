from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import pytest
from driving import Driver, report_of
from search_studies import MakeRun
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams import metadata

from search.board import Board
from search.report import Report
from search.tensorboard import Curves
from spaces.parameters import Space
from spaces.trial_log import LOSSES, TrialRecord, read_trials


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("curves")


@pytest.fixture
def trials(make_run: MakeRun) -> tuple[Path, list[TrialRecord]]:
    """A search whose trial 1 fails, interrupted once; its folder of curves and its log."""

    def report(trial: TrialRecord, epochs: int) -> Report:
        if trial.number == 1 and trial.epochs:
            return Report(1, "here", failed="non-finite loss at epoch 2")
        return report_of(trial, epochs)

    run = make_run(trials=6)
    for events in (20, None):
        driver = Driver(run, report=report)
        curves = Curves(run.tensorboard, driver.study.space, read_trials(run.trials))
        driver.board._observers = [curves]
        assert isinstance(driver.board, Board)
        driver.run(events=events)
        curves.close()
    return run.tensorboard, read_trials(run.trials)


def read_back(folder: Path) -> EventAccumulator:
    accumulator = EventAccumulator(str(folder), size_guidance={"scalars": 0, "tensors": 0})
    accumulator.Reload()
    return accumulator


def test_every_curve_reads_back(trials: tuple[Path, list[TrialRecord]]) -> None:
    folder, logged = trials
    assert len(logged) == 6
    for trial in logged:
        found = read_back(folder / f"trial_{trial.number:04d}")
        expected = {"mean/metric/auc", "mean/metric/score", "mean/metric/pooled_auc"}
        expected |= {f"mean/loss/{name}" for name in LOSSES}
        expected |= {f"fold{fold}/metric/auc" for fold in range(1, 6)}
        expected |= {f"fold{fold}/loss/{name}" for fold in range(1, 6) for name in LOSSES}
        assert set(found.Tags()["scalars"]) == expected
        curve = found.Scalars("mean/metric/score")
        assert [event.step for event in curve] == [epoch.epoch for epoch in trial.epochs]
        for event, epoch in zip(curve, trial.epochs, strict=True):
            assert event.value == pytest.approx(epoch.score)
        for event, epoch in zip(found.Scalars("fold4/metric/auc"), trial.epochs, strict=True):
            assert event.value == pytest.approx(epoch.auc[3])


def test_best_so_far_never_falls_and_ends_at_the_best(
    trials: tuple[Path, list[TrialRecord]],
) -> None:
    folder, logged = trials
    curve = [event.value for event in read_back(folder / "study").Scalars("best/metric/score")]
    assert curve == sorted(curve)
    best = max(trial.score for trial in logged if trial.is_complete and trial.score)
    assert curve[-1] == pytest.approx(best)


def test_hparams_carry_the_names_of_the_study_file(
    trials: tuple[Path, list[TrialRecord]],
) -> None:
    folder, logged = trials
    for trial in logged:
        found = read_back(folder / f"trial_{trial.number:04d}")
        contents = found.PluginTagToContent("hparams")
        start = metadata.parse_session_start_info_plugin_data(
            contents[metadata.SESSION_START_INFO_TAG]
        )
        values = {name: value.number_value for name, value in start.hparams.items()}
        assert start.hparams["state"].string_value == trial.state
        assert values | trial.configuration.as_dict() == values
        end = metadata.parse_session_end_info_plugin_data(contents[metadata.SESSION_END_INFO_TAG])
        assert (end.status == 2) is (trial.state == "failed")
    study = read_back(folder / "study").PluginTagToContent("hparams")
    experiment = metadata.parse_experiment_plugin_data(study[metadata.EXPERIMENT_TAG])
    names = {info.name for info in experiment.hparam_infos}
    assert names == {
        "lambda",
        "learning_rate",
        "weight_decay",
        "augmentation_strength",
        "state",
    }
    assert [m.name.tag for m in experiment.metric_infos] == ["mean/metric/score"]


def test_the_driver_needs_neither_torch_nor_tensorboardx() -> None:
    code = "import sys, search.run; print(sorted({'torch', 'tensorboardX'} & set(sys.modules)))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_storage_that_goes_for_a_while_costs_no_curve(
    trials: tuple[Path, list[TrialRecord]], tmp_path: Path
) -> None:
    trial = next(its for its in trials[1] if len(its.epochs) > 1)
    run, away = tmp_path / "storage", tmp_path / "away"
    curves = Curves(run / "tensorboard", Space())
    curves.reported(trial, trial.epochs[0])
    run.rename(away)
    back = threading.Timer(1.0, away.rename, [run])
    back.start()
    for epoch in trial.epochs[1:]:
        curves.reported(trial, epoch)
    back.join()
    curves.ended(trial)
    curves.close()
    found = read_back(run / "tensorboard" / f"trial_{trial.number:04d}")
    steps = [event.step for event in found.Scalars("mean/metric/score")]
    assert steps == [epoch.epoch for epoch in trial.epochs]
