"""Nested cross-validation: which studies it is, and what is said of all outer folds together."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from finished_run import Run
from scipy import stats
from sklearn.metrics import accuracy_score, roc_auc_score

from analysis.judge.freeze import read_predictions
from analysis.judge.nested import KIND, PREDICTIONS, RESULT, corrected_t, judge_nested
from analysis.report.nested import nested_answer, write_nested
from analysis.statistics.metrics import log_odds_of
from cohort.sealed import open_outcomes
from polartune.nested import outer_studies
from spaces.errors import InputError
from spaces.run_files import read_json
from spaces.study import Study

CONTENT = {
    "name": "small",
    "cohort": {
        "path": "cohort.csv",
        "inputs": ["reserve"],
        "target": "sex",
        "colour_scale": "fixed",
        "split": {"outer_folds": 3, "folds": 4},
    },
}


def test_each_outer_fold_is_the_same_study_with_another_test_set() -> None:
    study = Study.model_validate(CONTENT)
    found = outer_studies(study)
    assert [its.name for its in found] == ["outer0", "outer1", "outer2"]
    assert [its.cohort.split.outer_fold for its in found] == [0, 1, 2]
    same = {its.model_copy(update={"name": "", "cohort": None}).model_dump_json() for its in found}
    assert len(same) == 1


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"split": {"column": "set"}}, r"cohort\.split\.column: must be left out"),
        ({"split": {"outer_fold": 1}}, r"cohort\.split\.outer_fold: must be left out"),
    ],
)
def test_a_study_that_says_who_is_test_cannot_be_nested(
    changes: dict[str, object], told: str
) -> None:
    study = Study.model_validate(CONTENT | {"cohort": CONTENT["cohort"] | changes})  # type: ignore[operator]
    with pytest.raises(InputError, match=told):
        outer_studies(study)


def test_a_second_step_cannot_be_nested() -> None:
    study = Study.model_validate(CONTENT | {"transfer": {"run": "runs/first"}})
    with pytest.raises(InputError, match="the first step has seen every patient"):
        outer_studies(study)


def test_the_corrected_t_widens_the_plain_one() -> None:
    values = [0.7, 0.75, 0.8, 0.72, 0.83]
    found = corrected_t(values, 0.95)
    plain = stats.t.interval(0.95, 4, np.mean(values), stats.sem(values))
    factor = np.sqrt((1 / 5 + 1 / 4) / (1 / 5))
    half = factor * (plain[1] - plain[0]) / 2
    assert found["estimate"] == pytest.approx(np.mean(values))
    assert found["high"] - found["estimate"] == pytest.approx(min(half, 1 - np.mean(values)))
    assert found["low"] == pytest.approx(np.mean(values) - half)


def test_all_outer_folds_are_judged_together(judged: Run, tmp_path: Path) -> None:
    """The same run twice stands in for two outer folds."""
    members = [(judged.files, judged.cohort)] * 2
    outcomes = open_outcomes(
        judged.cohort, judged.study, judged.files.root, run="n", frozen_sha256="f" * 64
    )
    judge_nested(tmp_path, judged.study, members, [outcomes, outcomes])
    found = read_json(tmp_path / RESULT, KIND)
    log_odds = log_odds_of(read_predictions(judged.files.predictions)[0])
    known = np.isfinite(outcomes.target)
    auc = roc_auc_score(outcomes.target[known], log_odds[known])
    assert [row["auc"] for row in found["outer_folds"]] == pytest.approx([auc, auc])
    assert found["pooled_auc"]["estimate"] == pytest.approx(auc)
    assert found["n"] == 2 * known.sum()
    right = accuracy_score(outcomes.target[known], log_odds[known] >= 0)
    assert found["accuracy"]["estimate"] == pytest.approx(right)
    frame = pq.read_table(tmp_path / PREDICTIONS).to_pandas()
    assert list(frame) == ["patient", "outer_fold", "probability"]
    assert len(frame) == 2 * len(judged.cohort.split.test)
    said = nested_answer(found)
    assert f"Each of {found['n']} patients" in said
    assert f"mean AUC of {auc:.2f} over 2 outer folds" in said
    page = write_nested(tmp_path, judged.study).read_text()
    assert said.split(":")[0] in page
    assert 'href="outer1/report.html"' in page
