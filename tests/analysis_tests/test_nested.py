"""Nested cross-validation: which studies it is, and what is said of all outer folds together."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from finished_run import Run, copy_run
from scipy import stats
from sklearn.metrics import accuracy_score, roc_auc_score

from analysis.judge.nested import KIND, PREDICTIONS, RESULT, corrected_t, judge_nested
from analysis.report.nested import nested_answer, write_nested
from cohort.patients import Patients
from cohort.sealed import open_outcomes
from polartune.nested import outer_studies
from spaces.errors import InputError
from spaces.run_files import read_json, write_json
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
    assert [its.name for its in found] == ["outer1", "outer2", "outer3"]
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


def test_a_fixed_configuration_cannot_be_nested() -> None:
    """It was found on patients of every outer fold."""
    space = {"lambda": 0.5, "learning_rate": 1e-3, "weight_decay": 0.01}
    study = Study.model_validate(CONTENT | {"space": space | {"augmentation_strength": 0.0}})
    with pytest.raises(InputError, match="space: searches nothing"):
        outer_studies(study)


def test_a_study_that_trains_no_logits_cannot_be_nested() -> None:
    study = Study.model_validate(CONTENT | {"space": {"lambda": 0.0}})
    with pytest.raises(InputError, match=r"space.lambda: is 0: the logits"):
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


def test_equal_outer_folds_give_a_point_and_say_so() -> None:
    assert corrected_t([1.0] * 5, 0.95)["degenerate"]
    assert not corrected_t([1.0, 0.9], 0.95)["degenerate"]


@pytest.fixture
def members(evaluated: Run, tmp_path: Path) -> tuple[list[Run], list[Patients]]:
    """Two outer folds: the judged run, and a copy with other predictions and other outcomes."""
    runs = [copy_run(evaluated, tmp_path / name) for name in ("a", "b")]
    outcomes = [
        open_outcomes(run.cohort, run.study, run.files.root, run="n", frozen_sha256="f" * 64)
        for run in runs
    ]
    generator = np.random.default_rng(1)
    target = outcomes[1].target
    target[np.isfinite(target)] = generator.random(np.isfinite(target).sum()) < 0.2
    predictions = runs[1].files.predictions
    frame, table = pd.read_parquet(predictions), pq.read_table(predictions)
    frame["logit_positive"] = 0.7 * np.nan_to_num(target) + generator.normal(-0.3, 1, len(frame))
    changed = pa.table({name: frame[name].to_numpy() for name in frame})
    pq.write_table(changed.replace_schema_metadata(table.schema.metadata), predictions)
    return runs, outcomes


@pytest.fixture
def found(members: tuple[list[Run], list[Patients]], tmp_path: Path) -> dict[str, Any]:
    """What judging both outer folds together wrote to ``tmp_path``."""
    runs, outcomes = members
    judge_nested(tmp_path, runs[0].study, [(run.files, run.cohort) for run in runs], outcomes)
    return dict(read_json(tmp_path / RESULT, KIND))


def test_all_outer_folds_are_judged_together(
    members: tuple[list[Run], list[Patients]], found: dict[str, Any], tmp_path: Path
) -> None:
    runs, outcomes = members
    frames = [pd.read_parquet(run.files.predictions) for run in runs]
    log_odds = [(its["logit_positive"] - its["logit_negative"]).to_numpy() for its in frames]
    known = [np.isfinite(its.target) for its in outcomes]
    labels = [its.target[here] for its, here in zip(outcomes, known, strict=True)]
    scores = [its[here] for its, here in zip(log_odds, known, strict=True)]
    aucs = [roc_auc_score(*pair) for pair in zip(labels, scores, strict=True)]
    assert abs(aucs[0] - aucs[1]) > 0.05, "folds that are alike could be exchanged unseen"
    assert [row["auc"] for row in found["outer_folds"]] == pytest.approx(aucs)
    assert [row["positives"] for row in found["outer_folds"]] == [its.sum() for its in labels]
    few = [its.sum() < 10 for its in labels]
    assert [row["unreliable"] is not None for row in found["outer_folds"]] == few == [False, True]
    together = roc_auc_score(np.concatenate(labels), np.concatenate(scores))
    exchanged = roc_auc_score(np.concatenate(labels[::-1]), np.concatenate(scores))
    assert abs(together - exchanged) > 0.05
    assert found["pooled_auc"]["estimate"] == pytest.approx(together)
    assert found["mean_auc"]["estimate"] == pytest.approx(np.mean(aucs))
    assert found["n"] == sum(map(len, labels))
    assert found["positives"] == np.concatenate(labels).sum()
    right = accuracy_score(np.concatenate(labels), np.concatenate(scores) >= 0)
    assert found["accuracy"]["estimate"] == pytest.approx(right)
    frame = pd.read_parquet(tmp_path / PREDICTIONS)
    assert list(frame) == ["patient", "outer_fold", "probability"]
    assert [row["outer_fold"] for row in found["outer_folds"]] == [1, 2]
    for number, run in enumerate(runs):
        own = frame[frame["outer_fold"] == number + 1]
        assert list(own["patient"]) == list(run.cohort.split.test)
        np.testing.assert_allclose(
            own["probability"], 1 / (1 + np.exp(-log_odds[number])), rtol=1e-5
        )


def test_the_page_says_what_the_intervals_rest_on_and_marks_small_folds(
    members: tuple[list[Run], list[Patients]], found: dict[str, Any], tmp_path: Path
) -> None:
    study = members[0][0].study
    page = write_nested(tmp_path, study).read_text()
    said = nested_answer(found)
    assert f"Each of {found['n']} patients" in said
    assert f"mean AUC of {found['mean_auc']['estimate']:.2f} over 2 outer folds" in said
    assert said.split(":")[0] in page
    assert "The interval of the mean rests on 2 folds only" in page
    assert 'href="outer2/report.html">2<' in page
    reason = found["outer_folds"][1]["unreliable"]
    assert page.count(f"† {reason}") == 1
    assert "Intervals unreliable" not in page
    found["pooled_auc"]["unreliable"] = "9 positive, fewer than 10"
    found["mean_auc"] |= {"low": 1.0, "high": 1.0, "sd": 0.0, "degenerate": True}
    del found["format"]
    write_json(tmp_path / RESULT, KIND, found)
    page = write_nested(tmp_path, study).read_text()
    assert "† Intervals unreliable: 9 positive, fewer than 10." in page
    assert "over 2 outer folds (no usable 95\N{NO-BREAK SPACE}% interval)" in page
