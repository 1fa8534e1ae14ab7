"""In another cohort the model is asked all that it was asked on its own test set."""

import shutil
from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from finished_run import Run, draw_with_traits
from other_cohort import Both, both_in, paint
from report_page import Page, edit_metrics, write
from sklearn.metrics import roc_auc_score

from analysis.judge.coverage import coverage_sentence
from analysis.judge.freeze import read_predictions
from analysis.statistics.metrics import log_odds_of
from cohort.segments import segment_columns
from spaces.run_files import read_json

SVG = '<svg role="img" aria-labelledby="x"></svg>'
MFR = segment_columns("mfr")


@pytest.fixture(scope="module")
def judge(scrutinised: Run, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Both]:
    """Judge a run with age, sex and rest flow on 120 patients whose table was changed."""

    def judge_on(change: Callable[[pd.DataFrame], pd.DataFrame]) -> Both:
        folder = tmp_path_factory.mktemp("elsewhere")
        shutil.copytree(scrutinised.csv.parent.parent, folder, dirs_exist_ok=True)
        paint(folder / "cohort" / "cohort.csv", 1)
        table = draw_with_traits(folder / "other").rename(folder / "other" / "centre_b.csv")
        paint(table, 2)
        with pytest.MonkeyPatch.context() as patch:
            both = both_in(folder, scrutinised, patch)
            both.edit(lambda frame: change(frame.assign(patient_id=range(len(frame)))))
            both.judge()
        return both

    return judge_on


@pytest.fixture(scope="module")
def judged(judge: Callable[..., Both]) -> Both:
    return judge(lambda frame: frame)


@pytest.fixture(scope="module")
def page(judged: Both) -> str:
    """The external section of the report; one interval of either cohort cannot be relied on."""
    with pytest.MonkeyPatch.context() as patch:
        for room in ("search_figures", "figures"):
            patch.setattr(f"analysis.report.{room}.svg_of", lambda *_: SVG)
        own = read_json(judged.run.files.metrics, "metrics")
        own["model"]["auc"]["unreliable"] = "doubt of its own"
        edit_metrics(judged.run, model=own["model"])
        text = write(judged.run)
    assert Page(text).open == []
    return text[text.index('<h2 id="external">') : text.index('<h2 id="search">')]


def read(both: Both) -> tuple[dict, pd.DataFrame, np.ndarray]:
    """Return what was measured, and table and log odds of the patients with a label."""
    table = pd.read_csv(both.table)
    known = table[MFR].notna().all(axis=1) | (table[MFR].min(axis=1) < 2)
    logits, _ = read_predictions(both.folder / "predictions.parquet")
    metrics = read_json(both.folder / "metrics.json", "metrics")
    assert metrics["n"] == known.sum()
    return metrics, table[known], log_odds_of(logits)[known]


def test_every_simple_predictor_is_judged_as_it_was_frozen(judged: Both) -> None:
    metrics, table, _ = read(judged)
    frozen = read_json(judged.run.files.test / "simple_predictors.json", "simple-predictors")
    found = metrics["simple_predictors"]
    assert found.keys() == frozen["predictors"].keys()
    assert found["lowest_segment"]["auc"]["estimate"] == 1
    positive = table[MFR].min(axis=1) < 2
    mean = table[MFR].mean(axis=1)
    expected = roc_auc_score(positive, -mean)
    assert found["mean_mfr"]["auc"]["estimate"] == pytest.approx(expected)
    model = frozen["predictors"]["age_sex"]["model"]
    values = np.stack([table["age"], table["sex"] == "male"], axis=1)
    score = (values - model["means"]) / model["sds"] @ model["coefficients"]
    expected = roc_auc_score(positive, score)
    assert found["age_sex"]["auc"]["estimate"] == pytest.approx(expected)
    assert found["age_sex"]["thresholds"]["youden"]["threshold"] == model["youden"]


def test_subgroups_are_those_of_the_runs_own_cohort(judged: Both) -> None:
    metrics, table, log_odds = read(judged)
    frozen = read_json(judged.run.files.test / "simple_predictors.json", "simple-predictors")
    cut = frozen["traits"]["age"]["cut"]
    positive = (table[MFR].min(axis=1) < 2).to_numpy()
    members = {
        "sex": [table["sex"] == "female", table["sex"] == "male"],
        "age": [table["age"] < cut, table["age"] >= cut],
    }
    found = {its["trait"]: its for its in metrics["subgroups"]["test"]}
    assert found.keys() == members.keys()
    for trait, groups in members.items():
        aucs = [roc_auc_score(positive[inside], log_odds[inside]) for inside in groups]
        said = found[trait]["groups"]
        assert [its["auc"]["estimate"] for its in said] == pytest.approx(aucs)
        assert [its["n"] for its in said] == [inside.sum() for inside in groups]
        assert found[trait]["difference"]["estimate"] == pytest.approx(aucs[0] - aucs[1])
        interval = found[trait]["difference"]["intervals"]["percentile"]
        assert interval["low"] < aucs[0] - aucs[1] < interval["high"]
    assert metrics["decision"]["range"] == [0.2, 0.6]


def test_the_section_says_what_intervals_cover_and_marks_what_cannot_be_relied_on(
    judged: Both, page: str
) -> None:
    metrics, _, _ = read(judged)
    n, auc = metrics["n"], metrics["model"]["auc"]["estimate"]
    said = coverage_sentence(n, metrics["positives"] / n, auc, confidence=0.95)
    assert said in page
    row = page[page.index("<th>AUC, model</th>") :]
    assert "† doubt of its own" in row[: row.index("</tr>")]
    assert "“Degenerate” marks an interval that collapsed to a point" in page


def test_the_section_has_both_tables_and_their_files(judged: Both, page: str) -> None:
    metrics, _, _ = read(judged)
    for said in (
        f"centre_b, n = {metrics['n']}",
        "lowest measured segment (mfr, any)",
        "reading task",
        "age and sex",
        "centre_b: subgroups",
        "sex female",
        "difference, first minus second",
    ):
        assert said in page, said
    assert "Not judged" not in page
    report = judged.run.files.root / "report"
    predictors = pd.read_csv(report / "external_performance.csv")
    assert set(predictors["cohort"]) == {"centre_b"}
    assert set(predictors["origin"]) == {"external/centre_b/metrics.json"}
    assert predictors["n"].max() <= metrics["n"]
    groups = pd.read_csv(report / "external_subgroups.csv")
    assert set(groups["patients"]) == {"centre_b"}
    own = pd.read_csv(report / "performance.csv")
    assert set(own["origin"]) == {"test/metrics.json"}


def test_what_a_cohort_has_no_columns_for_is_left_out_and_named(
    judge: Callable[..., Both], no_figures: None
) -> None:
    def without(frame: pd.DataFrame) -> pd.DataFrame:
        frame["sex"] = frame["sex"].map({"male": "M", "female": "W"})
        return frame.drop(columns=["age", *segment_columns("rest_mbf")])

    both = judge(without)
    metrics = read_json(both.folder / "metrics.json", "metrics")
    assert metrics["subgroups"]["test"] == []
    assert set(metrics["simple_predictors"]) == {"lowest_segment", "mean_mfr"}
    said = write(both.run)
    said = said[said.index("Not judged, as the columns are missing or coded otherwise") :]
    said = said[: said.index("</p>")]
    for name in ("rest alone", "mean of the 17 segments (rest_mbf)", "age and sex", "by sex"):
        assert name in said, name
    assert not (both.run.files.root / "report" / "external_subgroups.csv").exists()


def test_counts_below_five_are_not_given(judge: Callable[..., Both], no_figures: None) -> None:
    def nearly_all_men(frame: pd.DataFrame) -> pd.DataFrame:
        return frame.assign(sex=["female"] * 4 + ["male"] * (len(frame) - 4))

    both = judge(nearly_all_men)
    metrics = read_json(both.folder / "metrics.json", "metrics")
    [sex] = [its for its in metrics["subgroups"]["test"] if its["trait"] == "sex"]
    assert [group["n"] for group in sex["groups"]] == [None, None]
    assert sex["reason"] == "a group has fewer than 10 patients of a class"
    said = write(both.run)
    assert "no AUC: fewer than 10 of a class (counts not shown)" in said
