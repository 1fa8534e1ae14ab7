from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from driving import Driver, report_of
from hypothesis import given
from hypothesis import strategies as st
from search_studies import MakeRun, make_study
from simulated_workload import value_of

from search.board import Board
from search.report import Report
from search.scheduler import RungScheduler, rivals, rungs, settle, stop_reason
from spaces.parameters import Configuration
from spaces.sections import SearchSection
from spaces.trial_log import Epoch, TrialRecord, read_trials

CONFIGURATION = Configuration(0.5, 1e-3, 1e-3, 0.5)


@pytest.mark.parametrize(
    ("grace", "eta", "epochs", "expected"),
    [
        (3, 3, 20, [3, 9]),
        (3, 3, 9, [3]),
        (3, 3, 3, []),
        (1, 2, 10, [1, 2, 4, 8]),
        (3, 3, 28, [3, 9, 27]),
    ],
)
def test_rungs_lie_below_the_last_epoch(
    grace: int, eta: int, epochs: int, expected: list[int]
) -> None:
    assert rungs(SearchSection(grace=grace, eta=eta), epochs) == expected
    assert rungs(SearchSection(grace=grace, eta=eta, scheduler="none"), epochs) == []


@pytest.mark.parametrize(
    ("score", "others", "eta", "goes_on"),
    [
        (0.1, [], 3, True),  # the first to arrive
        (0.5, [0.5], 3, True),  # a tie with the only other
        (0.499, [0.5], 3, False),
        (0.7, [0.7, 0.7, 0.7], 2, True),  # all tied
        (0.6, [0.5, 0.6, 0.7], 2, True),  # the median itself
        (0.59, [0.5, 0.6, 0.7], 2, False),
        (0.65, [0.5, 0.6, 0.7, 0.8], 2, True),  # between two: the quantile is interpolated
        (0.649, [0.5, 0.6, 0.7, 0.8], 2, False),
        (0.9, [0.5, 0.6, 0.7], 3, True),
        (math.nextafter(0.6, 0), [0.5, 0.6, 0.7], 2, False),
    ],
)
def test_decision(score: float, others: list[float], eta: int, goes_on: bool) -> None:
    assert (stop_reason(score, others, rung=3, eta=eta) == "") is goes_on


def test_a_stop_carries_its_reason() -> None:
    reason = stop_reason(0.71, [0.6, 0.73, 0.75], rung=9, eta=3)
    assert reason == "rung 9: score 0.7100 < cutoff 0.7367 of 3 trials"


def naive_quantile(values: list[float], share: float) -> float:
    """Linear interpolation between order statistics, written out."""
    ordered = sorted(values)
    position = share * (len(ordered) - 1)
    below = math.floor(position)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (position - below)


@given(score=st.floats(0, 1), others=st.lists(st.floats(0, 1), min_size=1), eta=st.integers(2, 5))
def test_decision_equals_a_naive_one(score: float, others: list[float], eta: int) -> None:
    cutoff = naive_quantile(others, 1 - 1 / eta)
    if abs(score - cutoff) > 1e-9:
        assert (stop_reason(score, others, rung=1, eta=eta) != "") is (score < cutoff)


@pytest.mark.parametrize(
    ("number", "expected"),
    [(0, []), (3, []), (4, [0, 1, 2, 3]), (7, [0, 1, 2, 3]), (8, list(range(8)))],
)
def test_reproducible_order_compares_with_earlier_generations(
    number: int, expected: list[int]
) -> None:
    trials = [TrialRecord(n, CONFIGURATION, "sampler") for n in range(12)]
    assert rivals(trials[number], trials, SearchSection(generation=4)) == expected
    everybody = rivals(trials[number], trials, SearchSection(order="asynchronous"))
    assert everybody == [n for n in range(12) if n != number]


def board_with(make_run: MakeRun, scores: list[list[float]], **search: object) -> Board:
    """A board whose trials have the given scores by epoch; all but the last have ended."""
    board = Board(make_study(**search), make_run())
    for values in scores:
        trial = board.ask(CONFIGURATION, "sampler")
        for number, score in enumerate(values, start=1):
            trial.epochs.append(Epoch(number, (score,) * 5, score, {}, score, 1.0))
    return board


def test_only_trials_that_reached_the_rung_count(make_run: MakeRun) -> None:
    scores = [[0.9], [0.9], [0.5, 0.5], [0.6, 0.6], [0.56, 0.56]]
    board = board_with(make_run, scores, grace=2, eta=2)
    assert not settle(board, board.trials[4])
    board.trials[4].epochs[-1] = Epoch(2, (0.5,) * 5, 0.5, {}, 0.54, 1.0)
    assert settle(board, board.trials[4])
    assert board.trials[4].reason == "rung 2: score 0.5400 < cutoff 0.5500 of 2 trials"


def test_no_decision_between_rungs(make_run: MakeRun) -> None:
    board = board_with(make_run, [[0.9] * 3] * 4 + [[0.1] * 3], grace=2, eta=2)
    assert not settle(board, board.trials[4])


def test_the_last_epoch_completes(make_run: MakeRun) -> None:
    board = board_with(make_run, [[0.9] * 6] * 4 + [[0.1] * 6], grace=3, eta=2)
    assert settle(board, board.trials[4])
    assert board.trials[4].state == "complete"


def test_a_nan_ends_its_trial_and_no_other(make_run: MakeRun) -> None:
    def report(trial: TrialRecord, epochs: int) -> Report:
        if trial.number == 1 and len(trial.epochs) == 1:
            return Report(trial.number, "here", failed="non-finite loss at epoch 2")
        return report_of(trial, epochs)

    run = make_run(trials=12, grace=2, eta=2)
    Driver(run, report=report).run()
    trials = read_trials(run.trials)
    assert [trial.number for trial in trials if trial.state == "failed"] == [1]
    assert {trial.state for trial in trials[4:]} == {"complete", "stopped"}
    stops = [trial.reason for trial in trials if trial.state == "stopped"]
    assert all(reason.startswith("rung ") for reason in stops)
    assert any("of 3 trials" in r or "of 7 trials" in r for r in stops)


def test_a_lost_trial_that_repeats_epochs_keeps_what_its_rung_decided(make_run: MakeRun) -> None:
    """It passed when it was first; the better one that came since must not stop it on the way."""
    run = make_run(trials=2, grace=2, eta=2, order="asynchronous", sampler="random")
    driver = Driver(run, slots=2)
    driver.fill()
    worse, better = sorted(
        driver.running, key=lambda at: value_of(driver.board._seats[at].trial.configuration)
    )
    trial = driver.board._seats[worse].trial
    for _ in range(3):
        driver.advance(worse)
    for _ in range(2):
        driver.advance(better)
    first = report_of(dataclasses.replace(trial, epochs=[]), 6)
    answer = driver.scheduler.on_trial_result(
        None, driver.running[worse], {"report": first, "score": first.score}
    )
    assert (answer, trial.state) == ("CONTINUE", None)


def test_the_best_of_many_random_trials_survives(make_run: MakeRun) -> None:
    """Halving is worth having: half of the trials stop, and the winner is not among them."""
    plain = make_run("plain", trials=40, sampler="random", scheduler="none")
    halved = make_run("halved", trials=40, sampler="random", grace=2, eta=3)
    for run in (plain, halved):
        Driver(run).run()
    scores = np.array([trial.score for trial in read_trials(plain.trials)])
    trials = read_trials(halved.trials)
    assert trials[int(scores.argmax())].state == "complete"
    assert sum(trial.state == "stopped" for trial in trials) > 15


def test_a_freed_process_goes_to_a_trial_for_which_none_is_being_started(make_run: MakeRun) -> None:
    """The newest; but one that has waited for a minute waits for a node that may never come."""
    now = [0.0]
    driver = Driver(make_run(trials=8, order="asynchronous"), slots=3)
    driver.scheduler = RungScheduler(driver.board, 3, clock=lambda: now[0])
    driver.fill()
    first, second, third = driver.running.values()
    assert driver.scheduler.choose_trial_to_run(None) is None
    first.status = second.status = "PENDING"
    now[0] = 59.0
    assert driver.scheduler.choose_trial_to_run(None) is second
    third.status = "PENDING"
    assert driver.scheduler.choose_trial_to_run(None) is third
    now[0] = 61.0
    assert driver.scheduler.choose_trial_to_run(None) is first
