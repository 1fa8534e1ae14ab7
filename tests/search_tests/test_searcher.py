from __future__ import annotations

import dataclasses
import math
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import optuna
import pytest
from driving import Driver, report_of
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from optuna.distributions import CategoricalDistribution, FloatDistribution
from optuna.trial import TrialState
from search_studies import MakeRun, make_study
from simulated_workload import value_of

from search.report import Report
from search.searcher import StudySearcher, distributions, sampler_of
from spaces.parameters import Configuration, Space
from spaces.run_files import RunFiles
from spaces.sections import SearchSection
from spaces.study import read_study
from spaces.trial_log import TrialRecord, read_trials

TOLD = {
    "complete": TrialState.COMPLETE,
    "stopped": TrialState.PRUNED,
    "failed": TrialState.FAIL,
}


def assert_told_as_logged(searcher: StudySearcher, trials: list[TrialRecord]) -> None:
    assert len(searcher.study.trials) == len(trials)
    for told, logged in zip(searcher.study.trials, trials, strict=True):
        assert told.state == TOLD[str(logged.state)]
        assert told.value == logged.score
        assert told.params == {
            name: value
            for name, value in logged.configuration.as_dict().items()
            if name in told.params
        }


def failing(number: int) -> Callable[[TrialRecord, int], Report]:
    def report(trial: TrialRecord, epochs: int) -> Report:
        if trial.number == number and trial.epochs:
            return Report(trial.number, "here", failed="non-finite loss at epoch 2")
        return report_of(trial, epochs)

    return report


@pytest.mark.parametrize(
    ("order", "sampler"),
    [
        ("reproducible", "tpe"),
        ("asynchronous", "tpe"),
        ("asynchronous", "random"),
        pytest.param("reproducible", "gp", marks=pytest.mark.slow),
        pytest.param("asynchronous", "gp", marks=pytest.mark.slow),
    ],
)
def test_optuna_is_told_what_the_log_says(make_run: MakeRun, order: str, sampler: str) -> None:
    run = make_run(trials=12, order=order, sampler=sampler)
    driver = Driver(run, slots=3, report=failing(2))
    driver.run()
    trials = read_trials(run.trials)
    assert {trial.state for trial in trials} == {"complete", "stopped", "failed"}
    assert [trial.number for trial in trials] == list(range(12))
    assert trials[2].score is None
    assert trials[2].reason == "non-finite loss at epoch 2"
    assert_told_as_logged(driver.searcher, trials)


def test_first_configurations_come_first_and_lie_in_the_space(make_run: MakeRun) -> None:
    run = make_run(trials=4)
    Driver(run).run()
    trials = read_trials(run.trials)
    assert [trial.source for trial in trials] == ["default", "single_task", "sampler", "sampler"]
    assert trials[0].configuration == Configuration(0.5, 1e-3, 1e-2, 0.5)
    assert trials[1].configuration == Configuration(1.0, 1e-3, 1e-2, 0.5)


def test_a_fixed_parameter_is_in_every_configuration(make_run: MakeRun) -> None:
    space = {"lambda": 0.7, "weight_decay": 1.25e-4}
    run = make_run(trials=6, space=space)
    driver = Driver(run)
    driver.run()
    for trial in read_trials(run.trials):
        assert trial.configuration.lambda_ == 0.7
        assert trial.configuration.weight_decay == 1.25e-4
    assert set(driver.searcher.study.trials[-1].params) == {
        "learning_rate",
        "augmentation_strength",
    }


def test_a_fully_fixed_space_is_one_trial(make_run: MakeRun) -> None:
    values = {
        "lambda": 0.1 + 0.2,
        "learning_rate": 1 / 3e3,
        "weight_decay": 1 / 7e5,
        "augmentation_strength": 0.3,
    }
    run = make_run(trials=20, space=values)
    driver = Driver(run, slots=2)
    driver.run()
    (trial,) = read_trials(run.trials)
    assert trial.configuration.as_dict() == values
    assert_told_as_logged(driver.searcher, [trial])


def test_grids_keep_their_order_if_they_are_even() -> None:
    even = Space.model_validate({"augmentation_strength": {"choices": [0.0, 0.25, 0.5]}})
    assert distributions(even)["augmentation_strength"] == FloatDistribution(0.0, 0.5, step=0.25)
    uneven = Space.model_validate({"augmentation_strength": {"choices": [0.0, 0.1, 1.0]}})
    assert distributions(uneven)["augmentation_strength"] == CategoricalDistribution(
        (0.0, 0.1, 1.0)
    )


def test_every_proposal_is_a_choice_of_the_grid(make_run: MakeRun) -> None:
    run = make_run(trials=24, sampler="random")
    Driver(run).run()
    strengths = {t.configuration.augmentation_strength for t in read_trials(run.trials)}
    assert strengths == {0.0, 0.25, 0.5, 0.75, 1.0}


def test_samplers_of_different_numbers_and_seeds_differ() -> None:
    def draw(seed: int, number: int) -> float:
        study = optuna.create_study(sampler=sampler_of(SearchSection(), seed, number))
        return study.ask().suggest_float("lambda", 0, 1)

    assert len({draw(0, 0), draw(0, 1), draw(1, 0)}) == 3
    assert draw(3, 4) == draw(3, 4)


@pytest.fixture(autouse=True)
def _fast_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.fsync", lambda descriptor: None)


def outcome(run: RunFiles) -> list[tuple[object, ...]]:
    return [
        (t.number, t.configuration, t.source, t.state, t.reason, t.score, t.best_epoch, t.epochs)
        for t in read_trials(run.trials)
    ]


@settings(
    max_examples=8,
    phases=[Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(slots=st.integers(1, 6), seed=st.integers(0, 2**16), cut=st.integers(1, 50))
def test_reproducible_order_knows_neither_slots_nor_timing_nor_interruption(
    slots: int, seed: int, cut: int
) -> None:
    generator = np.random.default_rng(seed)
    study = make_study(trials=14)
    with tempfile.TemporaryDirectory() as folder:
        plain, disturbed = RunFiles(Path(folder, "plain")), RunFiles(Path(folder, "disturbed"))
        Driver(plain, study=study).run()
        Driver(disturbed, slots, study=study).run(generator, events=cut)
        Driver(disturbed, max(1, slots - 1), study=study).run(generator)
        assert outcome(disturbed) == outcome(plain)


def test_asynchronous_order_fills_all_slots_and_reproducible_at_most_a_generation(
    make_run: MakeRun,
) -> None:
    most = {}
    for order in ("asynchronous", "reproducible"):
        driver = Driver(make_run(order, trials=12, order=order), slots=6)
        driver.run()
        most[order] = driver.most_running
    assert most == {"asynchronous": 6, "reproducible": 4}


def test_a_lost_trial_starts_again_and_fails_after_all_retries(make_run: MakeRun) -> None:
    run = make_run(trials=2, retries=2, scheduler="none")
    driver = Driver(run)
    for start in range(3):
        assert not driver.fill()
        (tune_id,) = driver.running
        driver.advance(tune_id) if start == 0 else None
        driver.lose(tune_id)
    driver.run()
    lost, other = read_trials(run.trials)
    assert (lost.state, lost.retries, len(lost.epochs)) == ("failed", 2, 1)
    assert lost.reason.startswith("lost: its process or node died")
    assert other.state == "complete"
    assert_told_as_logged(driver.searcher, [lost, other])


def test_a_retried_trial_repeats_epochs_without_a_second_line(make_run: MakeRun) -> None:
    def from_the_start(trial: TrialRecord, epochs: int) -> Report:
        if not trial.retries:
            return report_of(trial, epochs)
        repeated.append(0)
        shorter = dataclasses.replace(trial, epochs=trial.epochs[: len(repeated) - 1])
        return report_of(shorter, epochs)

    repeated: list[int] = []
    run = make_run(trials=1, space={"lambda": 0.3}, scheduler="none")
    driver = Driver(run, report=from_the_start)
    driver.fill()
    (tune_id,) = driver.running
    driver.advance(tune_id)
    driver.advance(tune_id)
    driver.lose(tune_id)
    driver.run()
    (trial,) = read_trials(run.trials)
    assert len(repeated) == 6
    assert (trial.state, trial.retries, len(trial.epochs)) == ("complete", 1, 6)
    assert run.trials.read_text().count('"event": "epoch"') == 6


class DeafSearcher(StudySearcher):
    """A searcher whose tell is cut: trials end, and Optuna never hears of it."""

    def tell(self) -> None:
        for number in [n for n in self._asked if self._is_ready(n)]:
            self._asked.pop(number)


SEEDS = 20
TRIALS = 32


@pytest.fixture
def best_of(tmp_path: Path) -> Callable[..., np.ndarray]:
    """The best value that each of the seeds finds."""

    def best(name: str, searcher: type[StudySearcher] = StudySearcher, **search: str) -> np.ndarray:
        found = []
        for seed in range(SEEDS):
            run = RunFiles(tmp_path / f"{name}-{seed}")
            study = make_study(epochs=1, trials=TRIALS, seed=seed, **search)
            driver = Driver(run, searcher=searcher, study=study)
            driver.run()
            found.append(max(value_of(trial.configuration) for trial in driver.board.trials))
        return np.array(found)

    return best


def test_the_search_beats_random_search_and_a_deaf_one_does_not(
    best_of: Callable[..., np.ndarray],
) -> None:
    random = best_of("random", sampler="random")
    ours = best_of("ours")
    deaf = best_of("deaf", DeafSearcher)
    assert np.median(ours) > np.median(random) + 0.02
    assert not np.median(deaf) > np.median(random) + 0.02


def test_a_snapshot_of_tune_costs_nothing(make_run: MakeRun) -> None:
    from ray import cloudpickle

    driver = Driver(make_run())
    driver.run()
    assert isinstance(cloudpickle.loads(cloudpickle.dumps(driver.board)), str)
    assert read_study(driver.board.run.study).search.trials == 8
    assert math.isfinite(driver.board.best().score)


def test_checkpoints_of_trials_that_ended_before_the_driver_died_are_deleted(
    make_run: MakeRun,
) -> None:
    """It died between the line of the log and the deletion."""
    run = make_run(trials=4, generation=4)
    driver = Driver(run, slots=2)
    driver.run(events=7)
    ended = [trial.number for trial in driver.board.trials if trial.state]
    others = [trial.number for trial in driver.board.trials if not trial.state]
    assert ended
    assert others
    for number in ended + others:
        run.checkpoint_folder(number).mkdir(parents=True)
    Driver(run)
    assert not any(run.checkpoint_folder(number).exists() for number in ended)
    assert all(run.checkpoint_folder(number).exists() for number in others)
