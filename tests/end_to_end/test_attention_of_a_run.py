"""A judged run has its attention, chosen without a look at outcomes."""

import json

import pytest
from safetensors.numpy import load_file

from analysis.judge.evaluate import evaluate
from analysis.report.page import write_report

from in_process import open_cohort  # isort: skip


def test_attention_covers_the_test_set_and_shows_the_surest(trained) -> None:
    content = json.loads(trained.attention.read_text())
    arrays = load_file(trained.attention.with_suffix(".safetensors"))
    patients = json.loads(trained.metrics.read_text())["n"]
    assert arrays["grad_cam"].shape[:2] == arrays["grad_cam_random"].shape[:2] == (patients, 1)
    assert len(content["shown"]) == len(arrays["maps"]) == len(arrays["black"])
    assert {one["called"] for one in content["shown"]} <= {"negative", "positive"}
    assert -1 <= content["rank_correlation_with_random_head"]["median"] <= 1
    assert arrays["mean"].any()


def test_evaluating_again_computes_and_opens_nothing(trained, monkeypatch) -> None:
    before = trained.attention.read_bytes()
    monkeypatch.setattr("trainable.attention.grad_cam", pytest.fail)
    metrics = evaluate(trained, open_cohort(trained))
    assert metrics.content["openings"] == 1
    assert trained.attention.read_bytes() == before


def test_the_report_shows_it_and_names_the_standard_layout(trained) -> None:
    write_report(trained, open_cohort(trained))
    page = trained.report.read_text()
    assert 'id="attention"' in page
    assert "standard layout" in page
    assert (trained.root / "report" / "attention_segments.csv").is_file()
