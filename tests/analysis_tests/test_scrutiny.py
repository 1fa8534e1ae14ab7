"""Calibration, decisions, thresholds and subgroups, against plain arithmetic."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from finished_run import Run
from scipy import stats
from sklearn.metrics import roc_auc_score

from analysis.judge.calibration import describe_calibration, describe_shift
from analysis.judge.subgroups import judge_subgroups
from analysis.judge.traits import divide, learn_traits, read_sex
from analysis.report.scrutiny_panel import _say_shift
from analysis.statistics.bootstrap import draw_resamples
from analysis.statistics.decision import decision_curve, net_benefit
from spaces.errors import InputError
from spaces.run_files import read_json
from spaces.sections import EvaluationSection
from spaces.study import read_study

GENERATOR = np.random.default_rng(0)
N = 160
POSITIVE = GENERATOR.random(N) < 0.4
SCORE = GENERATOR.normal(size=N) + POSITIVE
HALVES = {"first": np.arange(N) < 80, "second": np.arange(N) >= 80}
RESAMPLES = draw_resamples(POSITIVE, 300, generator=GENERATOR)


def patients(**covariates: list) -> SimpleNamespace:
    return SimpleNamespace(covariates=pd.DataFrame(covariates))


def asking(**settings: str | None) -> SimpleNamespace:
    evaluation = SimpleNamespace(**{"age": "age", "sex": "sex"} | settings)
    return SimpleNamespace(evaluation=evaluation, cohort=SimpleNamespace(target="impaired"))


@pytest.mark.parametrize(
    ("values", "named"),
    [([1.0, 0.0, np.nan, 1.0], ["0", "1"]), (["m", " f", "", "m"], ["f", "m"])],
)
def test_sex_may_be_numbers_or_words(values: list, named: list[str]) -> None:
    group = patients(sex=values)
    traits = learn_traits(asking(), group)
    assert traits == {"sex": {"column": "sex", "values": named}}
    np.testing.assert_array_equal(read_sex(traits, group), [1, 0, np.nan, 1])
    stranger = patients(sex=["x", *values[1:]] if isinstance(values[0], str) else [7.0, 0, 1, 1])
    assert np.isnan(read_sex(traits, stranger)[0])


def test_age_is_halved_at_the_median_of_those_who_were_learnt_from() -> None:
    traits = learn_traits(asking(), patients(age=[40.0, 50, 60, np.nan]))
    groups = divide(traits, patients(age=[49.0, 50, 90, np.nan]))["age"]
    assert [list(members) for members in groups.values()] == [
        [True, False, False, False],
        [False, True, True, False],
    ]
    assert list(groups) == ["age below 50", "age 50 or more"]


def test_the_target_and_absent_or_constant_columns_are_no_traits() -> None:
    assert learn_traits(asking(sex="impaired", age=None), patients(impaired=[0.0, 1.0])) == {}
    assert learn_traits(asking(), patients(age=[60.0, 60.0], sex=["f", "f"])) == {}
    assert learn_traits(asking(), patients(ward=["A", "B"])) == {}


def test_subgroups_have_scikit_learns_aucs_and_a_difference_on_the_same_resamples() -> None:
    [found] = judge_subgroups(POSITIVE, SCORE, {"half": HALVES}, RESAMPLES, 0.9)
    aucs = [roc_auc_score(POSITIVE[members], SCORE[members]) for members in HALVES.values()]
    assert [group["auc"]["estimate"] for group in found["groups"]] == pytest.approx(aucs)
    assert found["difference"]["estimate"] == pytest.approx(aucs[0] - aucs[1])
    drawn = []
    for row in RESAMPLES.indices:
        parts = [row[members[row]] for members in HALVES.values()]
        one, two = (roc_auc_score(POSITIVE[part], SCORE[part]) for part in parts)
        drawn.append(one - two)
    interval = found["difference"]["intervals"]["percentile"]
    assert [interval["low"], interval["high"]] == pytest.approx(np.quantile(drawn, [0.05, 0.95]))
    assert sum(group["n"] for group in found["groups"]) == N
    assert (found["reason"], found["unknown"]) == (None, 0)


@pytest.mark.parametrize(("kept", "counts_shown"), [(9, True), (5, True), (4, False)])
def test_too_small_a_group_has_no_auc_and_below_five_no_count(
    kept: int, *, counts_shown: bool
) -> None:
    small = np.zeros(N, dtype=bool)
    small[np.flatnonzero(POSITIVE)[:kept]] = True
    small[np.flatnonzero(~POSITIVE)[:20]] = True
    groups = {"small": small, "rest": ~small}
    [found] = judge_subgroups(POSITIVE, SCORE, {"size": groups}, RESAMPLES, 0.95)
    assert found["groups"][0]["auc"] is None
    assert found["groups"][1]["auc"] is not None
    assert found["difference"] is None
    assert "fewer than 10" in found["reason"]
    hidden = [found["unknown"], found["groups"][1]["auc"]["n"]]
    hidden += [group[key] for group in found["groups"] for key in ("n", "positives")]
    assert all(value is not None for value in hidden) is counts_shown
    assert counts_shown or all(value is None for value in hidden)


def test_net_benefit_is_that_of_the_paper() -> None:
    positive = np.array([True] * 3 + [False] * 7)
    called = np.array([True, True, False] + [True] * 2 + [False] * 5)
    ones = np.ones((1, 10))
    expected = 2 / 10 - 2 / 10 * 0.2 / 0.8
    assert net_benefit(positive, called, 0.2, ones)[0] == pytest.approx(expected)
    twice = np.where(np.arange(10) == 0, 2.0, 1.0)[None]
    assert net_benefit(positive, called, 0.2, twice)[0] == pytest.approx(3 / 11 - 2 / 11 * 0.25)


def test_a_decision_curve_starts_and_ends_where_it_was_declared() -> None:
    probability = 1 / (1 + np.exp(-SCORE))
    curve = decision_curve(POSITIVE, probability, (0.1, 0.4), RESAMPLES, 0.95)
    assert curve["threshold"].iloc[[0, -1]].tolist() == pytest.approx([0.1, 0.4])
    share = POSITIVE.mean()
    everyone = share - (1 - share) * curve["threshold"] / (1 - curve["threshold"])
    np.testing.assert_allclose(curve["treat_all"], everyone)
    np.testing.assert_allclose(curve["gain"], curve["model"] - np.maximum(everyone, 0))
    assert (curve["low"] <= curve["model"]).all()
    assert (curve["model"] <= curve["high"]).all()


def shift_of(folds: np.ndarray, model: np.ndarray, threshold: float) -> dict[str, Any]:
    settings = EvaluationSection(bootstraps=4000, confidence=0.9)
    generator = np.random.default_rng(0)
    return describe_shift(folds, model, threshold, settings, generator=generator)


def test_the_shift_of_a_threshold_is_between_models_on_the_same_patients() -> None:
    generator = np.random.default_rng(5)
    patients = 2 * generator.normal(size=400)
    folds = patients[:, None] + generator.normal(0.2, 0.5, (400, 3))
    model = patients + generator.normal(0.7, 0.5, 400)
    threshold = 0.3
    shift = shift_of(folds, model, threshold)
    cut = np.log(threshold / (1 - threshold))
    by_folds, called = folds >= cut, model >= cut
    assert shift["folds"] == by_folds.sum(axis=0).tolist()
    assert (shift["n"], shift["model"]) == (400, called.sum())
    apart = called - by_folds.mean(axis=1)
    assert shift["difference"]["estimate"] == pytest.approx(apart.mean())
    paired = stats.ttest_1samp(apart, 0).confidence_interval(0.9)
    interval = shift["difference"]["intervals"]["percentile"]
    assert (interval["low"], interval["high"]) == pytest.approx(tuple(paired), abs=0.003)
    assert interval["low"] > 0
    # Two groups of other patients could not tell: their interval is twice as wide.
    apart_by_chance = 2 * 1.645 * np.sqrt(2 * 0.25 / 400)
    assert interval["high"] - interval["low"] < apart_by_chance / 2
    same = shift["same_share_threshold"]
    assert np.mean(1 / (1 + np.exp(-model)) >= same) == pytest.approx(by_folds.mean(), abs=0.003)


def test_models_that_agree_on_every_patient_have_no_shift() -> None:
    model = np.linspace(-3, 3, 50)
    shift = shift_of(np.stack([model, 1.1 * model], axis=1), model, 0.5)
    assert shift["folds"] == [25, 25]
    assert shift["difference"]["estimate"] == 0
    assert shift["difference"]["intervals"]["percentile"]["degenerate"]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, "call 10 to 14 positive (30 % on average), the final model 15 (38 %), a difference"),
        ({}, "difference of 7.5 percentage points (95 % paired interval -2.5 to 15.0). To call"),
        ({"folds": [12] * 3}, "the 3 fold models call 12 positive (30 % on average)"),
    ],
)
def test_the_shift_is_said_in_percentage_points(changes: dict[str, Any], said: str) -> None:
    interval = {"low": -0.025, "high": 0.15, "degenerate": False}
    difference = {"estimate": 0.075, "intervals": {"percentile": interval}}
    shift = {"threshold": 0.4, "n": 40, "folds": [10, 12, 14], "model": 15} | changes
    shift |= {"difference": difference, "same_share_threshold": 0.45}
    text = _say_shift({"confidence": 0.95, "threshold_shift": shift})
    assert said in text.replace("\N{NO-BREAK SPACE}", " ").replace("\N{MINUS SIGN}", "-")
    interval |= {"low": 0.0, "high": 0.0, "degenerate": True}
    difference["estimate"] = 0.0
    text = _say_shift({"confidence": 0.95, "threshold_shift": shift})
    assert "and no patient is called otherwise. No outcome" in text


def test_the_shift_is_that_of_the_frozen_predictions(evaluated: Run) -> None:
    files = evaluated.files
    shift = read_json(files.metrics, "metrics")["threshold_shift"]
    assert shift == read_json(files.frozen, "frozen")["threshold_shift"]
    folds = pd.read_parquet(files.test / "folds.parquet")
    assert list(folds) == ["patient", *(f"fold_{number}" for number in range(5))]
    assert list(folds["patient"]) == list(evaluated.cohort.split.test)
    cut = np.log(shift["threshold"] / (1 - shift["threshold"]))
    called = pd.read_parquet(files.predictions)
    assert shift["model"] == (called["logit_positive"] - called["logit_negative"] >= cut).sum()
    assert shift["folds"] == [(folds[f"fold_{number}"] >= cut).sum() for number in range(5)]
    assert len(set(shift["folds"])) > 1
    assert shift["n"] == len(folds)


def test_calibration_recovers_the_line_and_is_undefined_where_classes_separate() -> None:
    generator = np.random.default_rng(3)
    true = generator.normal(size=4000)
    positive = generator.random(4000) < 1 / (1 + np.exp(-(0.4 + 0.5 * true)))
    resamples = draw_resamples(positive, 100, generator=generator)
    logits = np.stack([np.zeros(4000), true], axis=1)
    found = describe_calibration(positive, logits, resamples, 0.95)
    slope, large = found["slope"], found["in_the_large"]
    assert slope["estimate"] == pytest.approx(0.5, abs=0.1)
    assert slope["intervals"]["wald"]["low"] < 0.5 < slope["intervals"]["wald"]["high"]
    moved = 1 / (1 + np.exp(-(true + large["estimate"])))
    assert moved.mean() == pytest.approx(positive.mean())
    expected = np.mean((1 / (1 + np.exp(-true)) - positive) ** 2)
    assert found["brier"]["estimate"] == pytest.approx(expected)
    separated = describe_calibration(true > 0, logits, resamples, 0.95)
    assert separated["slope"]["estimate"] is None
    assert "separated" in separated["slope"]["unreliable"]
    assert separated["in_the_large"]["estimate"] is not None


@pytest.mark.parametrize("bounds", ["[0.4, 0.1]", "[0.2, 0.2]", "[0.0, 0.5]", "[0.1]"])
def test_a_decision_range_must_be_two_rising_probabilities(run: Run, bounds: str) -> None:
    text = run.files.study.read_text()
    asked = text.replace("{bootstraps", f"{{decision_range: {bounds}, bootstraps")
    run.files.study.write_text(asked)
    with pytest.raises(InputError, match="decision_range"):
        read_study(run.files.study)
