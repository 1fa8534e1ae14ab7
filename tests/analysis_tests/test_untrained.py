"""At lambda = 0 the logits got no gradient: nothing that is made of them is a result."""

import json
from pathlib import Path

import pandas as pd
import pytest
from finished_run import Run, add_model, copy_run, fake_loading
from report_page import Page, write
from rich.console import Console

from analysis.choose.choice import LOGITS_NOT_TRAINED
from analysis.choose.select import select
from analysis.judge.answer import answer
from analysis.judge.evaluate import evaluate
from analysis.report.findings import read_findings
from analysis.show.compare import compare, show_comparison
from analysis.show.result import read_result, show_result
from analysis.show.status import show_status
from spaces.run_files import read_json, write_json

SVG = '<svg role="img" aria-labelledby="x"></svg>'
REASON = "lambda = 0: the logits were not trained"


@pytest.fixture(scope="module")
def untrained(searched: Run, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A judged run whose chosen configuration has lambda = 0. Read only."""
    run = copy_run(searched, tmp_path_factory.mktemp("untrained"))
    with pytest.MonkeyPatch.context() as patch:
        add_model(run)
        fake_loading(run, patch)
        patch.setattr("analysis.judge.freeze.attend", pytest.fail)
        patch.setattr("analysis.judge.freeze.play", pytest.fail)
        select(run.files)
        choose_zero(run)
        evaluate(run.files, run.cohort)
    return run


def choose_zero(run: Run) -> None:
    best = read_json(run.files.best, "best")
    del best["format"]
    best["configuration"]["lambda"] = 0.0
    write_json(run.files.best, "best", best)


@pytest.fixture(scope="module")
def page(untrained: Run) -> str:
    with pytest.MonkeyPatch.context() as patch:
        for room in ("search_figures", "figures"):
            patch.setattr(f"analysis.report.{room}.svg_of", lambda *_: SVG)
        return write(untrained)


def test_metrics_have_the_regressions_and_the_segments_but_nothing_of_the_logits(
    untrained: Run,
) -> None:
    metrics = read_json(untrained.files.metrics, "metrics")
    assert metrics["model"] == {"skipped": REASON}
    assert (metrics["permutation_p"], metrics["seeds"]) == (None, None)
    assert (metrics["differences"], metrics["threshold_shift"]) == ({}, {})
    assert metrics["references"] == {"skipped": REASON}
    assert not {"calibration", "subgroups", "decision"} & set(metrics)
    development = metrics["development"]
    assert {name for name, value in development.items() if value is not None} == {
        *("n", "positives", "missing")
    }
    assert 0.5 < metrics["baselines"]["logistic_l2"]["auc"]["estimate"] <= 1
    for group in ("test", "out_of_fold"):
        lowest = metrics["segments"][group]["lowest_segment"]
        assert set(lowest) == {"segments", "auc"}
    table = pd.read_csv(untrained.files.metrics.with_suffix(".csv"))
    of_model = table[table["classifier"].str.contains("model")]
    assert not of_model["metric"].isin(["auc", "brier", "accuracy"]).any()
    assert of_model["metric"].str.contains("r_squared").any(), "its segment values are judged"
    curves = pd.read_csv(untrained.files.test / "roc.csv")
    assert set(curves["classifier"]) == {"logistic_l2", "logistic_unpenalised"}


def test_the_answer_is_that_there_is_none(untrained: Run) -> None:
    said = answer(read_json(untrained.files.metrics, "metrics"))
    assert f"the model does not predict impaired from reserve maps ({REASON})" in said
    assert "logistic regression on the segment values reached" in said
    assert said.endswith(").")
    assert "AUC of" not in said


def test_the_report_judges_the_segments_alone(untrained: Run, page: str) -> None:
    shown = Page(page)
    assert shown.open == []
    assert not {"calls", "probabilities", "subgroups", "attention", "test-aucs"} & set(shown.ids)
    assert {"discrimination", "predictors", "segments", "honesty"} <= set(shown.ids)
    internal = {link.removeprefix("#") for link in shown.links if link.startswith("#")}
    assert internal <= set(shown.ids)
    for said in (
        f"Not judged: {REASON}.",
        f"That it tells the classes apart: {REASON}.",
        "not trained (lambda = 0)",
        "lowest predicted segment",
        f"there is no AUC ({REASON})",
    ):
        assert said in page, said
    assert "the model's logits" not in page
    assert read_findings(untrained.files, untrained.cohort).flags().count(REASON) == 1
    report = untrained.files.root / "report"
    for name in ("aucs", "calls", "differences", "calibration", "subgroups", "roc_out_of_fold"):
        assert not (report / f"{name}.csv").exists(), name
    assert "score" not in json.loads((report / "summary.json").read_text())["answer"]
    predictors = pd.read_csv(report / "performance.csv")["predictor"]
    assert "model" not in set(predictors)


def test_before_the_opening_nothing_is_said_of_out_of_fold_logits_either(
    run: Run, no_figures: None
) -> None:
    select(run.files)
    choose_zero(run)
    said = write(run)
    assert f"Not judged: {REASON}." in said
    assert not (run.files.root / "report" / "aucs.csv").exists()
    assert not (run.files.root / "report" / "calibration.csv").exists()


def test_the_terminal_prints_no_score(untrained: Run, evaluated: Run, tmp_path: Path) -> None:
    result = read_result(untrained.files)
    assert (result.auc, result.interval) == (None, (None, None))
    assert result.baseline_auc is not None
    console = Console(width=80, record=True, file=(tmp_path / "out").open("w"))
    show_result(result, console)
    show_status(untrained.files, console)
    first, other = untrained.files.root, evaluated.files.root
    show_comparison(*compare([first, other]), console)
    said = " ".join(console.export_text().split())
    assert "Cross-validation score" not in said
    assert f"Chosen: trial 2, {LOGITS_NOT_TRAINED}" in said
    assert f"not comparable: {LOGITS_NOT_TRAINED} in run" in said
    assert said.count("not trained") >= 2
