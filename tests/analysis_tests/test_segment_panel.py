"""Both tasks of a run judged: out-of-fold and test, in JSON, tables and on the page."""

import dataclasses

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from finished_run import Run, fake_loading
from report_page import edit_metrics, write
from scipy import stats
from sklearn.metrics import r2_score, roc_auc_score

from analysis.judge.evaluate import evaluate
from analysis.judge.judgement import Row
from analysis.judge.segment_values import NOT_TRAINED
from analysis.report.segment_panel import RegionRow, _say
from analysis.statistics.agreement import LOWER_LIMIT, QUANTITIES, SLOPE, UPPER_LIMIT
from cohort.sealed import open_outcomes
from spaces.errors import RefusedError
from spaces.run_files import read_json, read_out_of_fold, write_json
from spaces.trial_log import read_trials


def segments_of(run: Run) -> dict:
    return read_json(run.files.metrics, "metrics")["segments"]


def edit_json(run: Run, path, kind: str, **changes: object) -> None:
    content = read_json(path, kind) | changes
    del content["format"]
    write_json(path, kind, content)


def judge_again(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_loading(run, monkeypatch)
    evaluate(run.files, run.cohort)


def test_the_test_values_are_those_of_the_frozen_predictions(judged: Run) -> None:
    table = pq.read_table(judged.files.predictions).to_pandas()
    predicted = table[[f"segment_{n:02d}" for n in range(1, 18)]].to_numpy()
    outcomes = open_outcomes(
        judged.cohort, judged.study, judged.files.root, run="t", frozen_sha256=""
    )
    known = np.isfinite(outcomes.target)
    truth = outcomes.segments[known]
    mean = segments_of(judged)["test"]["regions"][0]
    expected = r2_score(truth.mean(axis=1), predicted[known].mean(axis=1))
    assert np.isfinite(truth).all()
    assert mean["r_squared"]["estimate"] == pytest.approx(expected)
    lowest = roc_auc_score(outcomes.target[known], -predicted[known].min(axis=1))
    found = segments_of(judged)["test"]["lowest_segment"]
    assert found["auc"]["estimate"] == pytest.approx(lowest)
    logit = read_json(judged.files.metrics, "metrics")["model"]["auc"]
    assert found["logit_auc"] == logit


def test_the_out_of_fold_values_are_those_of_the_fold_models(evaluated: Run) -> None:
    table = pq.read_table(evaluated.files.out_of_fold_segments).to_pandas()
    predicted = table[[f"segment_{n:02d}" for n in range(1, 18)]].to_numpy()
    development = evaluated.cohort.development
    known = np.isfinite(development.target)
    found = segments_of(evaluated)["out_of_fold"]
    error = predicted[known] - development.segments[known]
    for region in found["regions"][4:]:
        column = error[:, region["segments"][0] - 1]
        there = np.isfinite(column)
        assert region["n"] == there.sum()
        assert region["bias"]["estimate"] == pytest.approx(column[there].mean())
    expected = roc_auc_score(development.target[known], -predicted[known].min(axis=1))
    assert found["lowest_segment"]["auc"]["estimate"] == pytest.approx(expected)
    pooled = read_json(evaluated.files.metrics, "metrics")["development"]["pooled_auc"]
    assert found["lowest_segment"]["logit_auc"]["estimate"] == pytest.approx(pooled)
    assert (found["n"], found["bootstraps"]) == (known.sum(), 200)


def test_winner_default_and_lambda_one_are_compared_out_of_fold(evaluated: Run) -> None:
    best = read_json(evaluated.files.best, "best")
    compared = read_json(evaluated.files.metrics, "metrics")["references"]
    trials = read_trials(evaluated.files.trials)
    target = evaluated.cohort.development.target
    known = np.isfinite(target)

    def pooled(number: int, epoch: int) -> float:
        logits = read_out_of_fold(evaluated.files.out_of_fold_of(number))[epoch - 1]
        return roc_auc_score(target[known], (logits[:, 1] - logits[:, 0])[known])

    def folds(number: int, epoch: int) -> np.ndarray:
        return np.mean([its.auc for its in trials[number].epochs[epoch - 3 : epoch]], axis=0)

    winner = (best["trial"], best["epochs"])
    assert compared["winner"]["score"] == pytest.approx(best["score"])
    assert compared["winner"]["auc"]["estimate"] == pytest.approx(pooled(*winner))
    [default] = compared["references"]
    assert (default["name"], default["trial"], default["is_winner"]) == ("default", 0, False)
    other = (0, trials[0].best_epoch)
    assert default["auc"]["estimate"] == pytest.approx(pooled(*other))
    assert default["score"] == pytest.approx(trials[0].score)
    expected = pooled(*winner) - pooled(*other)
    assert default["auc_difference"]["estimate"] == pytest.approx(expected)
    gaps = folds(*winner) - folds(*other)
    error = gaps.std(ddof=1) * np.sqrt(1 / 5 + 1 / 4)
    interval = default["score_difference"]["intervals"]["corrected_t"]
    assert (interval["low"], interval["high"]) == pytest.approx(
        stats.t.interval(0.95, 4, gaps.mean(), error)
    )


@pytest.mark.usefixtures("no_figures")
def test_a_reference_that_won_failed_or_was_stopped_is_said_to(judged: Run) -> None:
    lines = judged.files.trials.read_text()
    for number, source in ((2, "default"), (6, "single_task")):
        begin = lines.index(f'"asked", "number": {number},')
        end = lines.index("\n", begin)
        asked = lines[begin:end].replace('"source": "tpe"', f'"source": "{source}"')
        lines = lines[:begin] + asked + lines[end:]
    judged.files.trials.write_text(lines.replace('"source": "default"', '"source": "tpe"', 1))
    edit_metrics(judged, references=None)
    text = write(judged)
    assert "Default configuration" in text
    assert "is the winner" in text
    assert "failed: loss is not finite" in text
    table = pd.read_csv(judged.files.root / "report" / "references.csv")
    shown = table.groupby("what")["quantity"].unique().map(sorted).to_dict()
    assert shown == {"winner": ["auc", "score"], "default configuration": ["auc", "score"]}


@pytest.mark.usefixtures("no_figures")
def test_a_winner_at_lambda_one_has_no_segment_values_and_says_so(
    judged: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    configuration = read_json(judged.files.best, "best")["configuration"] | {"lambda": 1.0}
    edit_json(judged, judged.files.best, "best", configuration=configuration)
    judge_again(judged, monkeypatch)
    assert segments_of(judged) == {"skipped": NOT_TRAINED}
    text = write(judged)
    assert "Segment values are not judged: lambda = 1" in text
    assert "The lowest predicted segment" not in text
    assert not list(judged.files.root.glob("report/agreement*"))


def test_altered_out_of_fold_values_are_refused(judged: Run) -> None:
    path = judged.files.out_of_fold_segments
    pq.write_table(pq.read_table(path).slice(0, 5), path)
    with pytest.raises(RefusedError, match=r"out_of_fold_segments\.parquet: its digest differs"):
        write(judged)


def test_page_tables_and_json_hold_the_same_numbers(reported: Run) -> None:
    judged, text = segments_of(reported), reported.files.report.read_text()
    table = pd.read_csv(reported.files.root / "report" / "agreement.csv")
    assert len(table) == 2 * 21 * len(QUANTITIES)
    assert set(table["origin"]) == {"test/metrics.json", "model/out_of_fold_segments.parquet"}
    for group, name in (("test", "test"), ("out_of_fold", "out-of-fold")):
        for region in judged[group]["regions"]:
            rows = table[(table["region"] == region["region"]) & (table["patients"] == name)]
            for row in rows.itertuples():
                estimate = region[row.quantity]
                interval = estimate["intervals"]["percentile"]
                expected = (estimate["estimate"], interval["low"], interval["high"])
                assert (row.estimate, row.low, row.high) == pytest.approx(expected)
                assert row.n == region["n"]
    mean = judged["test"]["regions"][0]
    assert f"was off by {mean['mean_absolute_error']['estimate']:.2f} on average" in text
    csv = pd.read_csv(reported.files.test / "metrics.csv")
    assert {"mean_bias", "LAD_r_squared", "segment_17_slope"} <= set(csv["metric"])
    assert {"lowest_segment", "model - lowest_segment"} <= set(csv["classifier"])
    points = pd.read_csv(reported.files.bland_altman)
    assert len(points) == mean["n"]


@pytest.mark.usefixtures("no_figures")
def test_before_the_test_set_is_opened_development_alone_is_shown(judged: Run) -> None:
    expected = segments_of(judged)["out_of_fold"]
    judged.files.metrics.unlink()
    judged.files.bland_altman.unlink()
    text = write(judged)
    table = pd.read_csv(judged.files.root / "report" / "agreement.csv")
    assert set(table["patients"]) == {"out-of-fold"}
    assert table["estimate"][0] == pytest.approx(
        expected["regions"][0]["mean_absolute_error"]["estimate"]
    )
    assert "agreement_test.svg" not in text


@pytest.mark.usefixtures("no_figures")
def test_a_fixed_study_has_nothing_to_be_compared_with(
    judged: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    fixed = judged.files.best_study.read_text()
    judged.files.study.write_text(fixed)
    edit_metrics(judged, references=None)
    text = write(dataclasses.replace(judged))
    assert "The winner beside" not in text
    assert not (judged.files.root / "report" / "references.csv").exists()


@pytest.mark.parametrize(
    ("limits", "slope", "said"),
    [
        ((-0.5, 0.4), (-0.1, 0.1), "between 0.50 below and 0.40 above the measured value."),
        ((0.1, 0.6), (-0.1, 0.1), "between 0.10 above and 0.60 above the measured value."),
        ((-0.5, 0.4), (-0.4, -0.2), "too wide in the middle and too narrow at the ends."),
    ],
)
def test_limits_of_agreement_are_said_by_their_side(
    reported: Run, limits: tuple[float, float], slope: tuple[float, float], said: str
) -> None:
    def row(value: float, low: float = 0.0, high: float = 0.0) -> Row:
        span = {"percentile": {"low": low, "high": high, "degenerate": False}}
        return Row("mean", "test", value, span, 40, "x")

    values = dict.fromkeys(QUANTITIES, row(0.2))
    values |= {LOWER_LIMIT: row(limits[0]), UPPER_LIMIT: row(limits[1])}
    values |= {SLOPE: row(sum(slope) / 2, *slope)}
    text = _say(reported.study, RegionRow("test", 40, values), "test patients")
    assert text.endswith(said)
    assert ("too wide in the middle" in text) == (slope[1] < 0)
