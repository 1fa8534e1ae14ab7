"""How much chance moves the answer: AUCs of further trainings, and what is said of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow.parquet as pq
from finished_run import Run
from sklearn.metrics import roc_auc_score

from analysis.judge.seeds import SEEDS, judge_seeds
from analysis.report.honesty import own_up
from spaces.run_files import read_json, sha256_of
from spaces.study import read_study

QUESTION = "Which seeds?"


def said(run: Run, metrics: dict[str, Any]) -> dict[str, str]:
    best, study = read_json(run.files.best, "best"), read_study(run.files.study)
    statements = own_up(study, best, None, metrics, openings=[], elsewhere=[])
    return {statement.question: statement.answer for statement in statements}


def test_every_training_is_judged_on_the_labelled_test_patients(evaluated: Run) -> None:
    metrics = read_json(evaluated.files.metrics, "metrics")
    frame = pq.read_table(evaluated.files.test / SEEDS).to_pandas()
    assert list(frame) == ["patient", "seed_1", "seed_2"]
    assert frame["patient"].tolist() == list(evaluated.cohort.split.test)
    generator = np.random.default_rng(0)
    outcomes = generator.random(len(frame)) < 0.4
    known = generator.random(len(frame)) < 0.8
    model = generator.normal(size=known.sum())
    found = judge_seeds(evaluated.files, outcomes[known], model, known)
    expected = [roc_auc_score(outcomes[known], model)]
    expected += [roc_auc_score(outcomes[known], frame[name][known]) for name in list(frame)[1:]]
    assert found is not None
    np.testing.assert_allclose(found["auc"], expected)
    np.testing.assert_allclose(found["sd"], np.std(expected, ddof=1))
    assert (found["lowest"], found["highest"]) == (min(found["auc"]), max(found["auc"]))
    assert metrics["seeds"]["auc"][0] == metrics["model"]["auc"]["estimate"]
    assert metrics["seeds"]["diverged"] == found["diverged"] == 1


def test_their_predictions_were_frozen_before_the_opening(evaluated: Run) -> None:
    frozen = read_json(evaluated.files.frozen, "frozen")["files"]
    assert frozen[f"test/{SEEDS}"] == sha256_of(evaluated.files.test / SEEDS)
    assert {f"model/seeds/{repeat}.safetensors" for repeat in (1, 2)} <= frozen.keys()


def test_the_spread_is_said_with_how_many_diverged(evaluated: Run) -> None:
    metrics = read_json(evaluated.files.metrics, "metrics")
    text = said(evaluated, metrics)[QUESTION]
    assert "Trained 3 times on the development set" in text
    assert f"from {min(metrics['seeds']['auc']):.2f} to {max(metrics['seeds']['auc']):.2f}" in text
    assert f"(SD {metrics['seeds']['sd']:.3f})" in text
    assert "1 of its further trainings diverged" in text
    metrics["seeds"] = None
    assert "was not measured" in said(evaluated, metrics)[QUESTION]
