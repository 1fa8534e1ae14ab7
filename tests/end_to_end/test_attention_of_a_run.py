"""A judged run has its attention, chosen without a look at outcomes."""

import json

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from safetensors.numpy import load_file

from analysis.judge.attention import COVERED, HEADS, RANDOM_HEADS, ROWS, SEGMENT, WITH_SEGMENTS
from analysis.judge.evaluate import evaluate
from analysis.report.page import write_report

from in_process import open_cohort  # isort: skip


@pytest.fixture
def predicted(trained):
    return pq.read_table(trained.predictions).to_pandas()


def read(run):
    return json.loads(run.attention.read_text()), load_file(
        run.attention.with_suffix(".safetensors")
    )


def test_grad_cam_adds_up_to_each_patients_score(trained, predicted) -> None:
    """Over the cells, and up to the bias, it is the log odds that were frozen."""
    _, arrays = read(trained)
    bias = load_file(trained.model / "model.safetensors")["_fc.bias"]
    score = predicted["logit_positive"] - predicted["logit_negative"] - (bias[18] - bias[17])
    cams = arrays["grad_cam"]
    assert cams.shape[:2] == (json.loads(trained.metrics.read_text())["n"], 1)
    assert cams.sum(axis=(1, 2, 3)) == pytest.approx(score.to_numpy(), abs=1e-4)
    assert np.ptp(score) > 1e-3, "the patients must not all look the same to the network"


def test_the_surest_of_each_class_are_shown_with_both_occlusions(trained, predicted) -> None:
    content, arrays = read(trained)
    probability = predicted["probability"].to_numpy()
    expected = {}
    if probability.max() >= 0.5:
        expected["positive"] = (int(probability.argmax()), probability.max())
    if probability.min() <= 0.5:
        expected["negative"] = (int(probability.argmin()), 1 - probability.min())
    found = {one["called"]: (one["row"], one["confidence"]) for one in content["shown"]}
    assert found == {called: pytest.approx(its) for called, its in expected.items()}
    for kind in ("black", "mean"):
        assert len(arrays[kind]) == len(arrays["maps"]) == len(expected)
        assert arrays[kind].any()
    assert not np.allclose(arrays["black"], arrays["mean"])


def test_random_heads_are_compared_on_every_test_patient(trained) -> None:
    content, arrays = read(trained)
    likeness = arrays["likeness"]
    assert likeness.shape == (HEADS, len(arrays["grad_cam"]))
    assert ((likeness >= 0) & (likeness <= 1)).all()
    assert (likeness == 1).all(), "one cell has no ranks, and must not pass for learnt"
    quartiles = [content[RANDOM_HEADS][name] for name in ("low", "median", "high")]
    assert quartiles == pytest.approx(np.percentile(likeness, [25, 50, 75]))


def test_segments_are_covered_by_the_mean_development_map_in_patients_of_either_class(
    trained, predicted
) -> None:
    content, arrays = read(trained)
    rows, called = arrays[ROWS], predicted["probability"].to_numpy() >= 0.5
    expected = [min(COVERED, n) if n >= 5 else 0 for n in (sum(~called), sum(called))]
    assert [sum(~called[rows]), sum(called[rows])] == expected
    assert sum(expected) == content[WITH_SEGMENTS] > 0
    assert arrays[SEGMENT].shape == (len(rows), 1, 17)
    assert (np.abs(arrays[SEGMENT]).max(axis=2) > 0).all()


def test_evaluating_again_computes_and_opens_nothing(trained, monkeypatch) -> None:
    before = trained.attention.read_bytes()
    monkeypatch.setattr("trainable.attention.GradCam", pytest.fail)
    metrics = evaluate(trained, open_cohort(trained))
    assert metrics.content["openings"] == 1
    assert trained.attention.read_bytes() == before


def test_the_report_shows_it_and_names_the_standard_layout(trained) -> None:
    write_report(trained, open_cohort(trained))
    page = trained.report.read_text()
    assert 'id="attention"' in page
    assert "standard layout" in page
    assert "last feature maps (1 x 1)" in page
    assert "these pictures show little of what was learnt" in page
    assert "Segments covered: by how much the score falls" in page
    table = pd.read_csv(trained.root / "report" / "attention_segments.csv")
    _, arrays = read(trained)
    its = table[(table["method"] == "segments covered") & (table["n"] == len(arrays[ROWS]))]
    if len(its):  # all of one class
        assert its["mean"].to_numpy() == pytest.approx(arrays[SEGMENT][:, 0].mean(axis=0))
    assert len(table) % 17 == 0
