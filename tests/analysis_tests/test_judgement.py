"""The rows behind the report: n, denominator, interval and origin of every number."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
from finished_run import Run
from scipy import stats
from sklearn.metrics import confusion_matrix, roc_auc_score

from analysis.judge.calls import (
    call_rows,
    describe_thresholds,
    fraction_of,
    one_sided,
    side_by_side,
)
from analysis.judge.coverage import comparison_sentence, coverage_sentence, say_coverage
from analysis.judge.judgement import auc_rows, difference_rows, judge_out_of_fold
from analysis.report.panels import read_chosen
from analysis.statistics.metrics import log_odds_of
from spaces.run_files import read_json

COUNTS = {"tp": 9, "fp": 2, "tn": 3, "fn": 1}


def judge(run: Run) -> tuple[dict[str, Any], dict[str, Any], Any]:
    metrics, best = (read_json(run.files.metrics, "metrics"), read_json(run.files.best, "best"))
    return metrics, best, judge_out_of_fold(*read_chosen(run.files, run.cohort, best), 0.95)


@pytest.mark.parametrize(
    ("metric", "fraction"),
    [
        ("accuracy", (12, 15)),
        ("balanced_accuracy", (None, 15)),
        ("sensitivity", (9, 10)),
        ("specificity", (3, 5)),
        ("ppv", (9, 11)),
        ("npv", (3, 4)),
    ],
)
def test_every_proportion_has_its_own_denominator(
    metric: str, fraction: tuple[int | None, int]
) -> None:
    assert fraction_of(metric, COUNTS) == fraction


def test_proportions_have_exact_intervals_of_their_counts(evaluated: Run) -> None:
    metrics, _, _ = judge(evaluated)
    for key in ("half", "youden"):
        for row in call_rows(metrics["model"], key, 0.95):
            assert row.origin == "test/metrics.json"
            if row.count is None:
                assert row.label == "balanced accuracy"
                assert list(row.intervals) == ["percentile"]
                continue
            assert row.estimate == pytest.approx(row.count / row.n)
            interval = row.intervals["clopper_pearson"]
            # The beta quantiles of the textbook, independent of the exact test's code.
            low = stats.beta.ppf(0.025, row.count, row.n - row.count + 1) if row.count else 0.0
            high = (
                stats.beta.ppf(0.975, row.count + 1, row.n - row.count) if row.n > row.count else 1
            )
            assert (interval["low"], interval["high"]) == pytest.approx((low, high))


def test_a_proportion_of_nobody_is_undefined(evaluated: Run) -> None:
    metrics, _, _ = judge(evaluated)
    calls = metrics["model"]["thresholds"]["half"]
    calls["counts"] = {"tp": 20, "fp": 20, "tn": 0, "fn": 0}
    calls["npv"]["estimate"] = None
    npv = call_rows(metrics["model"], "half", 0.95)[-1]
    assert (npv.estimate, npv.count, npv.n) == (None, 0, 0)
    assert npv.intervals["clopper_pearson"]["low"] is None


def test_one_side_is_recognised() -> None:
    assert one_sided(COUNTS) == ""
    assert one_sided({"tp": 3, "fp": 2, "tn": 0, "fn": 0}) == "positive"
    assert one_sided({"tp": 0, "fp": 0, "tn": 2, "fn": 3}) == "negative"


def test_out_of_fold_is_what_scikit_learn_says(evaluated: Run) -> None:
    _, best, development = judge(evaluated)
    positive, logits = read_chosen(evaluated.files, evaluated.cohort, best)
    log_odds = log_odds_of(logits)
    assert development.auc == pytest.approx(roc_auc_score(positive, log_odds))
    assert development.interval["low"] < development.auc < development.interval["high"]
    called = 1 / (1 + np.exp(-log_odds)) >= development.thresholds["youden"]
    tn, fp, fn, tp = confusion_matrix(positive, called).ravel()
    assert development.counts["youden"] == {"tp": tp, "fp": fp, "tn": tn, "fn": fn}
    assert (development.n, development.positives) == (len(positive), positive.sum())


def test_aucs_name_patients_and_origin(evaluated: Run) -> None:
    metrics, _, development = judge(evaluated)
    rows = auc_rows(metrics, development)
    assert [row.patients for row in rows] == ["test"] * 3 + ["out-of-fold"]
    assert [row.n for row in rows] == [metrics["n"]] * 3 + [development.n]
    assert rows[1].label == "logistic regression, L2"
    assert all(row.origin for row in rows)


def test_the_difference_out_of_fold_has_a_corrected_t_interval(evaluated: Run) -> None:
    metrics, best, _ = judge(evaluated)
    baselines = read_json(evaluated.files.test / "baselines.json", "baselines")
    rows = difference_rows(metrics, best, baselines, 0.95)
    assert [row.patients for row in rows] == ["test"] * 2 + ["out-of-fold"] * 2
    assert rows[0].label == rows[2].label == "logistic regression, L2"
    its = np.array(best["fold_auc"]) - baselines["models"]["logistic_l2"]["fold_auc"]
    scale = its.std(ddof=1) * np.sqrt(1 / 5 + 1 / 4)
    expected = stats.t.interval(0.95, 4, loc=its.mean(), scale=scale)
    interval = rows[2].intervals["corrected_t"]
    assert (interval["low"], interval["high"]) == pytest.approx(expected)


def test_the_primary_difference_is_told_with_its_error_at_the_mean_auc(evaluated: Run) -> None:
    metrics, _, _ = judge(evaluated)
    metrics |= {"n": 93, "positives": 14}
    metrics["model"]["auc"]["estimate"] = 0.7
    metrics["baselines"]["logistic_l2"]["auc"]["estimate"] = 0.91
    metrics["baselines"]["logistic_unpenalised"]["auc"]["estimate"] = 0.5
    intervals, difference = say_coverage(metrics)
    assert intervals == coverage_sentence(93, 14 / 93, 0.7, confidence=0.95)
    assert difference == comparison_sentence(93, 14 / 93, 0.805, confidence=0.95)
    assert difference != comparison_sentence(93, 14 / 93, 0.7, confidence=0.95)
    metrics["differences"] = {}
    assert say_coverage(metrics) == [intervals]


def test_without_segments_there_is_no_difference(evaluated: Run) -> None:
    metrics, best, _ = judge(evaluated)
    metrics |= {"baselines": {"skipped": "none"}, "differences": {}}
    del metrics["primary_comparison"]
    assert difference_rows(metrics, best, {"skipped": "none"}, 0.95) == []
    assert len(auc_rows(metrics, None)) == 1


def test_development_and_test_stand_side_by_side(evaluated: Run) -> None:
    metrics, _, development = judge(evaluated)
    pairs = side_by_side(metrics, development, 0.95)
    assert len(pairs) == 5
    for _, before, after in pairs:
        assert before is not None
        assert after is not None
        assert (before.patients, after.patients) == ("out-of-fold", "test")
    assert side_by_side(None, development, 0.95) == side_by_side(metrics, None, 0.95) == []


def test_thresholds_that_print_alike_are_told_apart(evaluated: Run) -> None:
    metrics, _, development = judge(evaluated)
    metrics["model"]["thresholds"]["youden"]["threshold"] = 0.4999
    said = [what for what, *_ in side_by_side(metrics, development, 0.95)]
    assert said[1:] == [
        f"{metric} at {name}"
        for name in ("0.50", "0.50 (Youden)")
        for metric in ("sensitivity", "specificity")
    ]
    sentences = describe_thresholds(metrics, development)
    assert [text.split(":")[0] for text in sentences] == ["At 0.50", "At 0.50 (Youden)"]


def test_tables_beside_the_report_have_whole_counts_and_origins(reported: Run) -> None:
    folder = reported.files.root / "report"
    for name in ("aucs", "differences", "calls", "out_of_fold_and_test"):
        table = pd.read_csv(folder / f"{name}.csv", dtype=str)
        assert table["origin"].notna().all()
        assert table["n"].str.fullmatch(r"\d+").all()
        assert table["positives"].dropna().str.fullmatch(r"\d+").all()
    calls = pd.read_csv(folder / "calls.csv")
    assert set(calls["classifier"]) >= {"model", "logistic regression, unpenalised"}
    assert len(calls) == 3 * 2 * (5 * 2 + 1)
