"""The winner's luck in simulated searches: what the packaged file says, and how it was made."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from analysis.judge import luck
from analysis.judge.luck import luck_sentence
from benchmarks.optimism import EPOCHS, TRIALS, Cell, draw_search, measure, replicate

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
    cells = (cell(240, 0.15, 0.014), cell(240, 0.5, 0.003), cell(851, 0.5, -0.002))
    monkeypatch.setattr(luck, "read_cells", lambda: cells)


@pytest.mark.usefixtures("simulated")
def test_the_nearest_search_that_promises_no_more_is_quoted() -> None:
    assert "240 patients, 50 %" in luck_sentence(300, 0.4).replace("\N{NO-BREAK SPACE}", " ")
    assert "851 patients" in luck_sentence(900, 0.5)
    assert "240 patients, 15" in luck_sentence(900, 0.08)
    assert luck_sentence(60, 0.5) == ""


@pytest.mark.usefixtures("simulated")
def test_luck_that_is_left_is_told() -> None:
    said = luck_sentence(240, 0.15)
    assert "too high by 0.021, its corrected value by 0.014 (standard error 0.001)" in said
    assert said.endswith("some of the luck is still in it.")
    assert "still" not in luck_sentence(240, 0.5)
    assert "its corrected value too low by 0.002" in luck_sentence(900, 0.5)


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
