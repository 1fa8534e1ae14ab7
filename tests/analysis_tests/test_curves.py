"""The numbers behind the figures: calibration, learning curves, tables of trials."""

import numpy as np
import pandas as pd
import pytest
from finished_run import Run

from analysis.judge.answer import maps_of, number
from analysis.report.panels import read_chosen
from analysis.statistics.bootstrap import auc_of
from analysis.statistics.curves import (
    calibrate,
    ending_table,
    learning_curves,
    strength_table,
    trial_table,
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


def test_calibration_recovers_a_known_distortion() -> None:
    generator = np.random.default_rng(0)
    truth = generator.normal(0, 1.5, 4000)
    positive = generator.random(4000) < 1 / (1 + np.exp(-truth))
    logits = np.stack([np.zeros(4000), 2 * truth - 1], axis=1)
    found = calibrate(positive, logits, 0.95)
    # truth = (logit + 1) / 2
    assert found.slope == pytest.approx(0.5, abs=0.05)
    assert found.intercept == pytest.approx(0.5, abs=0.1)
    assert found.slope_limits[0] < 0.5 < found.slope_limits[1]
    assert found.bins["n"].sum() == 4000
    assert found.bins["positives"].sum() == positive.sum()


def test_the_calibration_interval_is_as_wide_as_slopes_scatter() -> None:
    generator = np.random.default_rng(0)
    slopes, widths = [], []
    for _ in range(100):
        logit = generator.normal(0, 1, 300)
        positive = generator.random(300) < 1 / (1 + np.exp(-logit))
        found = calibrate(positive, np.stack([np.zeros(300), logit], axis=1), 0.95)
        slopes.append(found.slope)
        widths.append(found.slope_limits[1] - found.slope_limits[0])
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
