"""A judged run beside simpler predictors: what is measured, and what the page says of it."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from finished_run import Run
from report_page import Page, edit_metrics, write
from scipy.stats import rankdata
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from analysis.choose.select import select
from analysis.judge.evaluate import evaluate
from analysis.judge.simple_predictors import fit_simple_predictors
from cohort.sealed import open_outcomes
from spaces.run_files import read_json


def test_every_simple_predictor_is_there_and_what_decides_is_a_reading_task(
    scrutinised: Run,
) -> None:
    metrics = read_json(scrutinised.files.metrics, "metrics")
    simple = metrics["simple_predictors"]
    assert set(simple) == {
        "lowest_segment",
        "mean_mfr",
        "mean_rest_mbf",
        "logistic_unpenalised_rest",
        "logistic_l2_rest",
        "age_sex",
    }
    assert simple["lowest_segment"]["auc"]["estimate"] == 1
    assert simple["lowest_segment"]["auc"]["intervals"]["logit_delong"]["degenerate"]
    assert "by definition" in simple["lowest_segment"]["note"]
    assert simple["mean_mfr"]["auc"]["estimate"] > 0.8


def test_the_p_value_is_that_of_the_labels_permuted_over_the_predictions(
    run: Run, model: SimpleNamespace
) -> None:
    model.skill = 0.8  # neither hopeless nor beyond doubt
    select(run.files)
    found = evaluate(run.files, run.cohort).content["permutation_p"]
    outcomes = open_outcomes(run.cohort, run.study, run.files.root, run="t", frozen_sha256="")
    known = np.isfinite(outcomes.target)
    frame = pd.read_parquet(run.files.predictions)[known]
    score = (frame["logit_positive"] - frame["logit_negative"]).to_numpy()
    ranks, positive = rankdata(score), outcomes.target[known] == 1

    def p_of(labels: np.ndarray) -> float:
        """The rank sum is the AUC but for constants; the labels are permuted, not the scores."""
        generator = np.random.default_rng(12)
        sums = [ranks[generator.permutation(labels)].sum() for _ in range(4000)]
        return (1 + np.sum(np.array(sums) >= ranks[labels].sum())) / 4001

    assert found == pytest.approx(p_of(positive), abs=0.025)
    assert 0.03 < found < 0.5
    assert abs(p_of(np.roll(positive, 1)) - found) > 0.1
    assert abs(p_of(~positive) - found) > 0.1


def test_age_and_sex_predict_as_scikit_learn_says(scrutinised: Run) -> None:
    run = scrutinised
    outcomes = open_outcomes(run.cohort, run.study, run.files.root, run="t", frozen_sha256="")
    development = run.cohort.development

    def features(group) -> np.ndarray:
        sex = (group.covariates["sex"] == "male").to_numpy(float)
        return np.stack([group.covariates["age"].to_numpy(float) / 10, sex], axis=1)

    known, there = np.isfinite(development.target), np.isfinite(outcomes.target)
    regression = LogisticRegression(C=np.inf)
    regression.fit(features(development)[known], development.target[known])
    score = regression.decision_function(features(outcomes)[there])
    expected = roc_auc_score(outcomes.target[there], score)
    metrics = read_json(run.files.metrics, "metrics")
    found = metrics["simple_predictors"]["age_sex"]["auc"]["estimate"]
    assert found == pytest.approx(expected, abs=1e-3)


def test_a_stacked_study_has_the_regressions_of_each_input_too(scrutinised: Run) -> None:
    study = scrutinised.study
    stacked = study.model_copy(
        update={"cohort": study.cohort.model_copy(update={"inputs": ["rest", "reserve"]})}
    )
    cohort = scrutinised.cohort
    found = fit_simple_predictors(stacked, cohort.development, cohort.split.folds)["predictors"]
    inputs = {name for name, its in found.items() if its["kind"] == "input"}
    assert inputs == {
        f"logistic_{kind}_{name}" for kind in ("unpenalised", "l2") for name in ("rest", "reserve")
    }
    assert len(found["logistic_l2_rest"]["model"]["coefficients"]) == 17


@pytest.fixture(scope="module")
def page(scrutinised: Run) -> str:
    with pytest.MonkeyPatch.context() as patch:
        for room in ("figures", "search_figures"):
            patch.setattr(f"analysis.report.{room}.svg_of", lambda *_: "<svg></svg>")
        return write(scrutinised)


def test_the_page_has_every_panel_and_its_tables(scrutinised: Run, page: str) -> None:
    for said in ("Beside simpler predictors", "Probabilities and thresholds", "Subgroups"):
        assert f">{said}</h2>" in page
    assert "reading task" in page
    assert "Decision curve" in page
    assert "sex female" in page
    links = Page(page.replace("<svg></svg>", "")).links
    for name in ("performance", "calibration_estimates", "subgroups", "decision"):
        assert f"report/{name}.csv" in links
        assert (scrutinised.files.root / f"report/{name}.csv").is_file()
    frame = pd.read_csv(scrutinised.files.root / "report/performance.csv")
    assert {"AUC", "accuracy", "balanced accuracy", "sensitivity"} <= {*frame["what"]}
    assert frame[["n", "origin", "no_information_rate"]].notna().all().all()
    assert frame["permutation_p"].notna().sum() == 3  # of the model's AUC, once an interval


@pytest.mark.usefixtures("no_figures")
@pytest.mark.parametrize(("low", "bold"), [(0.501, True), (0.5, False)])
def test_bold_asks_for_a_lower_limit_above_chance(judged: Run, low: float, *, bold: bool) -> None:
    model = read_json(judged.files.metrics, "metrics")["model"]
    model["auc"]["intervals"]["logit_delong"]["low"] = low
    edit_metrics(judged, model=model)
    text = write(judged)
    row = text[text.index('class="stacked performance"') :].split("<th>model</th><td>")[1]
    assert row.startswith("<b>") is bold


@pytest.mark.usefixtures("no_figures")
@pytest.mark.parametrize(("rate", "marked"), [(0.1, True), (0.99, False)])
def test_accuracy_is_marked_above_the_no_information_rate_only(
    judged: Run, rate: float, *, marked: bool
) -> None:
    edit_metrics(judged, no_information_rate=rate)
    text = write(judged)
    table = text[text.index('id="predictors"') : text.index("<b>Bold</b>")]
    assert ("‡" in table) is marked
