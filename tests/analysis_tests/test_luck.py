"""The winner's luck in simulated searches: what the packaged file says, and how it was made."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from analysis.judge import luck
from analysis.judge.luck import luck_sentence
from benchmarks.optimism import EPOCHS, TRIALS, TRUE_AUC, Cell, draw_search, measure, replicate

SMALL = Cell(240, 0.5)


def cell(n: int, prevalence: float, left: float) -> dict[str, Any]:
    return {
        "n": n,
        "prevalence": prevalence,
        "replicates": 500,
        "score": {"bias": 0.021, "standard_error": 0.001},
        "corrected": {"bias": left, "standard_error": 0.001},
    }


@pytest.fixture
def simulated(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = {"trials": 16, "epochs": 10, "true_auc": {"mean": 0.75, "sd": 0.05}}
    cells = (cell(240, 0.15, 0.014), cell(240, 0.5, -0.011), cell(851, 0.5, -0.002))
    content = {"settings": settings, "cells": cells}
    monkeypatch.setattr(luck, "read_simulated", lambda: content)


def said_of(n: int, prevalence: float, trials: int = 16, epochs: int = 10) -> str:
    said = luck_sentence(n, prevalence, trials=trials, epochs=epochs)
    return said.replace("\N{NO-BREAK SPACE}", " ")


@pytest.mark.usefixtures("simulated")
def test_the_nearest_search_that_promises_no_more_is_quoted() -> None:
    assert "over 240 patients, 50 %" in said_of(300, 0.4)
    assert "over 851 patients" in said_of(900, 0.5)
    assert "over 240 patients, 15 %" in said_of(900, 0.08)
    assert said_of(60, 0.5) == ""


@pytest.mark.usefixtures("simulated")
@pytest.mark.parametrize(
    ("trials", "epochs", "is_told"),
    [
        (12, 10, True),
        (25, 16, True),
        (10, 7, True),
        (26, 10, False),
        (9, 10, False),
        (16, 17, False),
        (16, 6, False),
        (200, 10, False),
    ],
)
def test_a_search_much_longer_or_shorter_is_told_nothing(
    trials: int, epochs: int, *, is_told: bool
) -> None:
    assert (said_of(240, 0.5, trials, epochs) != "") is is_told


@pytest.mark.usefixtures("simulated")
def test_what_was_simulated_and_what_is_left_are_told() -> None:
    assert said_of(240, 0.15) == (
        "In 500 simulated searches (16 trials of 10 epochs, true AUCs 0.75 \N{PLUS-MINUS SIGN} "
        "0.05) over 240 patients, 15 % positive, the winner's score was too high by 0.021, its "
        "corrected value too high by 0.014 (standard error 0.001), so part of the optimism remains."
    )
    assert said_of(240, 0.5).endswith(
        "its corrected value too low by 0.011 (standard error 0.001), so it corrects too much."
    )
    assert said_of(900, 0.5).endswith("too low by 0.002 (standard error 0.001).")


def test_the_packaged_file_says_how_it_was_simulated() -> None:
    settings = luck.read_simulated()["settings"]
    assert (settings["trials"], settings["epochs"]) == (TRIALS, EPOCHS)
    assert settings["true_auc"] == TRUE_AUC
    said = said_of(851, 0.5, TRIALS, EPOCHS)
    assert "(16 trials of 10 epochs, true AUCs 0.75" in said


def test_a_simulated_search_stops_trials_at_rungs_and_knows_the_winners_worth() -> None:
    its = draw_search(Cell(4000, 0.5), np.random.default_rng(0))
    lengths = [len(scores) for scores in its["scores"]]
    assert len(lengths) == TRIALS
    assert set(lengths) == {3, 9, EPOCHS} or set(lengths) == {3, EPOCHS}
    assert its["best"] == pytest.approx(its["truth"], abs=0.02)
    shares = [its["positive"][its["folds"] == k].mean() for k in range(5)]
    assert max(shares) - min(shares) < 0.01


def test_the_same_seed_gives_the_same_search() -> None:
    assert replicate(SMALL, 5, (1, 2)) == replicate(SMALL, 5, (1, 2))
    assert replicate(SMALL, 5, (1, 2)) != replicate(SMALL, 5, (1, 3))


@pytest.mark.slow
def test_the_score_flatters_and_its_correction_less_so() -> None:
    found = measure(SMALL, replicates=100, bootstraps=100, seed=5)
    score, corrected = found["score"], found["corrected"]
    assert score["bias"] > 2 * score["standard_error"]
    assert abs(corrected["bias"]) < score["bias"]
