"""The segment values that are judged are those that the search validated."""

import numpy as np
import pandas as pd
import pytest
from in_process import FIXED, finish_in_process, open_cohort, run_here, search_in_process

from analysis.choose.choice import LOGITS_NOT_TRAINED
from analysis.choose.fold_segments import DIGEST, read_out_of_fold_segments
from analysis.choose.retrain import retrain
from analysis.choose.select import select
from analysis.report.page import write_report
from analysis.use.model_card import describe_model
from analysis.use.predict import predict, read_request
from cohort.split import read_split
from cohort.table import read_cohort
from spaces.run_files import read_json
from spaces.study import read_study
from spaces.trial_log import read_trials


@pytest.mark.parametrize("lambda_", [0.5, 1.0])
def test_out_of_fold_values_have_the_error_that_the_trial_logged(make_run, lambda_):
    run = make_run(space={"lambda": lambda_, "augmentation_strength": 0.0})
    study, split = read_study(run.study), read_split(run.split)
    measured = read_cohort(study, run.root, split=split, verify_images=False).development.segments
    search_in_process(run)
    select(run)
    digest = retrain(run, run_here, "cpu")[DIGEST]
    if lambda_ == 1:
        assert digest is None
        assert_no_segments_are_promised(run)
        return
    predicted = read_out_of_fold_segments(run.out_of_fold_segments, digest)
    best = read_json(run.best, "best")
    logged = read_trials(run.trials)[best["trial"]].epochs[best["epochs"] - 1]
    for fold, expected in enumerate(logged.loss["validation_regression"]):
        of_fold = split.folds == fold
        deviation = measured[~of_fold].std(axis=0)
        errors = (predicted[of_fold] - measured[of_fold]) / deviation
        assert np.mean(errors**2) == pytest.approx(expected, rel=1e-4)


@pytest.mark.slow
def test_a_run_at_lambda_0_promises_nothing_but_segments(make_run, monkeypatch):
    """From the search to the card; attention would explain logits that nobody trained."""
    run = make_run(**FIXED | {"space": FIXED["space"] | {"lambda": 0.0}})
    monkeypatch.setattr("analysis.judge.freeze.attend", pytest.fail)
    search_in_process(run)
    judged = finish_in_process(run, open_cohort(run))
    assert judged.content["model"] == {"skipped": LOGITS_NOT_TRAINED}
    assert "the model does not predict impaired any" in judged.sentence
    mean = judged.content["segments"]["test"]["regions"][0]
    assert mean["mean_absolute_error"]["estimate"] > 0
    write_report(run, open_cohort(run))
    assert f"Not judged: {LOGITS_NOT_TRAINED}." in run.report.read_text()
    card = describe_model(run)
    assert "No probability: it was trained with lambda = 0" in card
    assert "SD over folds" not in card
    assert "| AUC, model |" not in card
    assert "| AUC, logistic regression, L2 |" in card


def assert_no_segments_are_promised(run):
    """The segment outputs got no gradient: no file describes them, nobody is given them."""
    model = read_json(run.model / "model.json", "model")
    keys = ("segment_mean", "segment_sd", "segments_prefix")
    assert [model[key] for key in keys] == [None] * 3
    table = run.root / read_study(run.study).cohort.path
    files = [table.parent / name for name in pd.read_csv(table)["reserve"][:2]]
    said = predict(run.model, read_request(files, ["reserve"]))
    assert list(said) == ["patient", "probability", "distance", "warning"]
    card = describe_model(run)
    assert "No segment values: it was trained with lambda = 1" in card
    assert "mfr_01" not in card
