"""The numbers behind the figures: calibration, learning curves, tables of trials."""

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from finished_run import Run
from scipy.optimize import minimize

from analysis.judge.answer import maps_of, number
from analysis.report.panels import read_chosen
from analysis.statistics.bootstrap import auc_of
from analysis.statistics.curves import (
    calibrate,
    ending_table,
    learning_curves,
    strength_table,
    trial_table,
    why_no_slope,
)
from spaces.csv_files import write_csv
from spaces.trial_log import read_trials


def test_numbers_are_printed_with_a_true_minus_and_no_negative_zero() -> None:
    assert [number(-0.126), number(-0.001), number(None)] == ["\N{MINUS SIGN}0.13", "0.00", "n/a"]


@pytest.mark.parametrize(
    ("inputs", "said"),
    [
        (["reserve"], "reserve maps"),
        (["MFR map"], "MFR maps"),
        (["rest_polar_map", "stress"], "rest and stress maps"),
        (["heatmap"], "heatmap maps"),
        (["map"], "polar maps"),
        (["rest", "map"], "rest maps"),
    ],
)
def test_inputs_are_said_without_the_same_word_twice(inputs: list[str], said: str) -> None:
    assert maps_of(inputs) == said


def draw_risks(n: int = 4000) -> tuple[np.ndarray, np.ndarray]:
    """Return outcomes, and log odds whose truth is (log odds + 1) / 2."""
    generator = np.random.default_rng(0)
    truth = generator.normal(0, 1.5, n)
    return generator.random(n) < 1 / (1 + np.exp(-truth)), 2 * truth - 1


def as_logits(log_odds: np.ndarray) -> np.ndarray:
    return np.stack([np.zeros(len(log_odds)), log_odds], axis=1)


def most_likely(
    positive: np.ndarray, linear: Callable[[np.ndarray], np.ndarray], parameters: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return the maximum of the likelihood and its standard errors, both by differences."""

    def cost(at: np.ndarray) -> float:
        return float(np.logaddexp(0, np.where(positive, -linear(at), linear(at))).sum())

    best = minimize(cost, np.zeros(parameters), method="Nelder-Mead", tol=1e-10).x
    step, unit = 1e-3, np.eye(parameters)
    curvature = np.empty((parameters, parameters))
    for i, one in enumerate(step * unit):
        for j, other in enumerate(step * unit):
            ends = cost(best + one + other) + cost(best - one - other)
            ends -= cost(best + one - other) + cost(best - one + other)
            curvature[i, j] = ends / (4 * step**2)
    return best, np.sqrt(np.diag(np.linalg.inv(curvature)))


def test_the_slope_and_calibration_in_the_large_are_those_of_the_likelihood() -> None:
    positive, log_odds = draw_risks(500)
    found = calibrate(positive, as_logits(log_odds), 0.95)
    (free, slope), (_, slope_error) = most_likely(positive, lambda at: at[0] + at[1] * log_odds, 2)
    (large,), (large_error,) = most_likely(positive, lambda at: at[0] + log_odds, 1)
    for its, value, error in (
        (found.slope, slope, slope_error),
        (found.in_the_large, large, large_error),
    ):
        assert its.estimate == pytest.approx(value, abs=1e-4)
        ends = (value - 1.959964 * error, value + 1.959964 * error)
        assert (its.interval.low, its.interval.high) == pytest.approx(ends, abs=1e-3)
    assert abs(large - free) > 0.2  # the intercept beside a free slope is another quantity
    assert found.bins["n"].sum() == 500
    assert found.bins["positives"].sum() == positive.sum()


def test_in_the_large_is_how_far_all_risks_are_off() -> None:
    positive, log_odds = draw_risks()
    truth = (log_odds + 1) / 2
    for shift in (-1.0, 0.0, 2.0):
        found = calibrate(positive, as_logits(truth - shift), 0.95).in_the_large
        assert found.estimate == pytest.approx(shift, abs=0.08)
        assert found.interval.low < shift < found.interval.high


@pytest.mark.parametrize(
    ("positive", "log_odds", "why"),
    [
        ([0, 0, 1, 1], [-2.0, -1.0, 1.0, 2.0], "separated completely"),
        ([0, 0, 1, 1], [2.0, 1.0, -1.0, -2.0], "separated completely"),
        ([0, 0, 1, 1], [-2.0, 0.5, 0.5, 2.0], "separated completely"),  # but for a tie
        ([0, 0, 1, 1], [0.5] * 4, "the same"),
        ([0, 1, 0, 1], [-2.0, -1.0, 1.0, 2.0], None),
    ],
)
def test_a_slope_needs_classes_that_overlap(
    positive: list[int], log_odds: list[float], why: str | None
) -> None:
    outcome, logits = np.repeat(np.array(positive) == 1, 20), np.repeat(log_odds, 20)
    reason, found = why_no_slope(outcome, logits), calibrate(outcome, as_logits(logits), 0.95)
    assert (reason is None) == (why is None) == found.slope.interval.is_defined
    assert why is None or why in reason
    assert found.in_the_large.interval.is_defined


def test_certain_predictions_have_no_calibration_in_the_large() -> None:
    positive = np.arange(40) < 20
    found = calibrate(positive, as_logits(np.where(positive, 300.0, -300.0)), 0.95)
    assert not found.in_the_large.interval.is_defined


def test_the_calibration_interval_is_as_wide_as_slopes_scatter() -> None:
    generator = np.random.default_rng(0)
    slopes, widths = [], []
    for _ in range(100):
        logit = generator.normal(0, 1, 300)
        positive = generator.random(300) < 1 / (1 + np.exp(-logit))
        found = calibrate(positive, as_logits(logit), 0.95).slope
        slopes.append(found.estimate)
        widths.append(found.interval.high - found.interval.low)
    assert np.mean(widths) / (2 * 1.96) == pytest.approx(np.std(slopes), rel=0.25)


def test_tables_behind_the_figures_hold_the_log(run: Run) -> None:
    trials = read_trials(run.files.trials)
    table = trial_table(trials)
    assert list(table["trial"]) == [trial.number for trial in trials]
    scores = pd.Series([t.score if t.is_complete else np.nan for t in trials]).cummax().ffill()
    np.testing.assert_allclose(table["best_so_far"], scores)
    chosen = {"trial": 2, "epochs": 5, "oof_sha256": trials[2].oof_sha256}
    positive, logits = read_chosen(run.files, run.cohort, chosen)
    assert auc_of(positive, logits[:, 1]) == pytest.approx(trials[2].epochs[4].mean_auc, abs=0.05)
    assert trials[2].epochs[5].mean_auc < trials[2].epochs[4].mean_auc - 0.2
    curves = learning_curves(trials[2])
    np.testing.assert_allclose(curves["mean"], curves.filter(like="fold_").mean(axis=1))
    assert list(curves["epoch"]) == [1, 2, 3, 4, 5, 6]


def test_strengths_count_all_trials_and_average_the_complete_ones(run: Run) -> None:
    trials = read_trials(run.files.trials)
    table = strength_table(trial_table(trials)).set_index("augmentation_strength")
    assert table["asked"].to_dict() == {0.0: 1, 0.25: 1, 0.5: 2, 0.75: 2, 1.0: 1}
    assert table["complete"].to_dict() == {0.0: 1, 0.25: 1, 0.5: 2, 0.75: 0, 1.0: 0}
    scores = [trials[0].score or 0, trials[1].score or 0]
    assert table.loc[0.5, "mean_score"] == pytest.approx(np.mean(scores))
    assert np.isnan(table.loc[0.75, "mean_score"])


def test_endings_are_counted_by_what_stands_before_the_colon() -> None:
    trials = pd.DataFrame(
        {
            "state": ["stopped", "stopped", "complete", "failed"],
            "reason": ["rung 3: score 0.61", "rung 3: score 0.55", "all epochs", ""],
        }
    )
    found = ending_table(trials).to_dict("records")
    assert found[0] == {"state": "stopped", "reason": "rung 3", "trials": 2}
    assert {"state": "failed", "reason": "unknown", "trials": 1} in found


def test_no_cell_of_a_table_is_a_formula(tmp_path) -> None:
    risky = ["=1+1", "+1", "-1+2", "@sum", " =1", "\t=1", "safe - text", None]
    frame = pd.DataFrame({"=name": risky, "value": [-1.5] * len(risky)})
    write_csv(tmp_path / "t.csv", frame)
    read = pd.read_csv(tmp_path / "t.csv")
    assert list(read.columns) == ["'=name", "value"]
    assert list(read["'=name"][:6]) == [f"'{cell}" for cell in risky[:6]]
    assert read["'=name"][6] == "safe - text"
    assert read["'=name"].isna()[7]
    assert (read["value"] == -1.5).all()
