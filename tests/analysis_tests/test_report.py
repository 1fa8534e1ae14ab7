"""The report: complete, self-contained, honest about what is missing, and without patients."""

import dataclasses
import re
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
from finished_run import Run, copy_run

from analysis.answer import answer, limits, meaning, number
from analysis.bootstrap import auc_of
from analysis.curves import calibrate, learning_curves, trial_table
from analysis.panels import read_chosen
from analysis.report import write_report
from analysis.select import select
from cohort.sealed import open_outcomes
from cohort.table import read_cohort
from spaces.run_files import read_json, write_json
from spaces.trial_log import read_trials

VOID = {"meta", "br", "use"}


class Page(HTMLParser):
    """Collects what the tests ask about and checks that every tag is closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.pictures: list[str | None] = []
        self.ids: list[str] = []
        self.open: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        if tag == "a":
            self.links.append(found["href"] or "")
        if tag == "svg":
            assert found["role"] == "img"
            self.pictures.append(found["aria-label"])
        if "id" in found:
            self.ids.append(found["id"] or "")
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if "id" in dict(attrs):
            self.ids.append(dict(attrs)["id"] or "")


@pytest.fixture(scope="module")
def reported(evaluated: Run, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The judged run with its report. Read only."""
    run = copy_run(evaluated, tmp_path_factory.mktemp("reported"))
    write_report(run.files, run.cohort)
    return run


@pytest.fixture
def no_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out the figures, which take most of the time, where a test reads words."""
    for name in ("draw_test", "draw_search", "draw_calibration"):
        monkeypatch.setattr(f"analysis.report.{name}", lambda *_: [])


def write(run: Run) -> str:
    return write_report(run.files, run.cohort).read_text()


def edit_metrics(run: Run, **changes: object) -> None:
    metrics = read_json(run.files.metrics, "metrics") | changes
    del metrics["format"]
    write_json(run.files.metrics, "metrics", metrics)


def test_the_first_paragraph_is_the_answer_with_n_interval_and_comparison(reported: Run) -> None:
    text = reported.files.report.read_text()
    metrics = read_json(reported.files.metrics, "metrics")
    first = re.search(r'<p class="answer">(.*?)</p>', text)
    assert first is not None
    assert first[1] == answer(metrics)
    auc = metrics["model"]["auc"]
    for said in (
        f"On {metrics['n']} test patients ({metrics['positives']} positive)",
        f"AUC of {auc['estimate']:.2f}",
        limits(auc["intervals"]["logit_delong"]) + ", logit-DeLong)",
        "that no earlier step had seen",
        "logistic regression on the segment values reached",
    ):
        assert said in first[1]
    assert first[1].count("logit-DeLong") == 1


def test_the_page_is_well_formed_and_loads_nothing(reported: Run) -> None:
    text = reported.files.report.read_text()
    page = Page(text)
    assert page.open == []
    assert len(page.ids) == len(set(page.ids))
    external = [link for link in page.links if link.startswith("http")]
    assert external == ["https://doi.org/10.1007/s12350-022-02920-x"]
    assert not re.search(r"<(script|link|img|iframe)\b|@import|url\((?!#)", text)


def test_every_figure_has_an_alternative_text_and_its_numbers(reported: Run) -> None:
    page = Page(reported.files.report.read_text())
    assert len(page.pictures) == 10
    assert all(said and len(said) > 20 for said in page.pictures)
    for link in page.links:
        if not link.startswith("http"):
            assert (reported.files.root / link).is_file(), link


def test_no_patient_appears_in_the_report_or_its_tables(reported: Run) -> None:
    written = [reported.files.report, *reported.files.root.glob("report/*")]
    everything = "".join(path.read_text() for path in written)
    assert "secret" not in everything
    for hashed in (*reported.cohort.split.development, *reported.cohort.split.test):
        assert hashed not in everything


def test_writing_again_gives_the_same_bytes(reported: Run) -> None:
    before = {path: path.read_bytes() for path in reported.files.root.glob("report*/**/*.*")}
    first = reported.files.report.read_bytes()
    write(reported)
    assert reported.files.report.read_bytes() == first
    assert {path: path.read_bytes() for path in before} == before


@pytest.mark.usefixtures("no_figures")
def test_before_anything_else_it_says_what_is_missing(run: Run) -> None:
    run.files.trials.unlink()
    text = write(run)
    for command in ("run STUDY", "select RUN", "retrain RUN", "evaluate RUN"):
        assert f"polartune {command}" in text
    assert "There is no test result yet" in text
    assert "Nobody has opened this test set" in text


def test_after_the_search_it_shows_the_trials_and_no_test_number(run: Run) -> None:
    select(run.files)
    text = write(run)
    assert len(Page(text).pictures) == 7
    assert "Leading trials" in text
    assert "polartune evaluate RUN" in text
    assert "logit-DeLong" not in text


@pytest.mark.usefixtures("no_figures")
def test_it_works_without_segments(run_without_segments: Run) -> None:
    select(run_without_segments.files)
    text = write(run_without_segments)
    assert "the cohort has no segment values, so λ is 1" in text


@pytest.mark.usefixtures("no_figures")
def test_a_fixed_study_says_where_its_configuration_comes_from(judged: Run) -> None:
    best = read_json(judged.files.best, "best")
    judged.files.study.write_bytes(judged.files.best_study.read_bytes())
    text = write(judged)
    assert f"it is trial {best['trial']} (rank 1) of the study tiny" in text
    assert "Leading trials" not in text
    assert "one standard error" not in text


@pytest.mark.usefixtures("no_figures")
def test_a_random_trunk_and_a_phantom_are_said_before_any_number(judged: Run) -> None:
    (judged.csv.parent / "truth.json").write_text("{}")
    header = write(judged).split("</header>")[0]
    assert "random trunk: the network was not pretrained" in header
    assert "phantom: drawn maps of invented patients" in header


@pytest.mark.usefixtures("no_figures")
def test_an_exploratory_result_is_called_so_first(judged: Run) -> None:
    edit_metrics(judged, exploratory=True, openings=3)
    text = write(judged)
    assert "exploratory: opening 3 of this test set" in text.split("</header>")[0]
    assert '<p class="answer">Exploratory (opening 3' in text
    assert "had seen" not in text


@pytest.mark.usefixtures("no_figures")
def test_openings_under_other_splits_are_said_first_and_listed(judged: Run) -> None:
    edit_metrics(judged, exploratory=True, openings_of_other_splits=1)
    judged.edit_study("folds: 5,", "folds: 5, seed: 99,")
    other = read_cohort(judged.study, judged.files.root, verify_images=False)
    open_outcomes(other, judged.study, judged.files.root, run="another", frozen_sha256="")
    text = write(judged)
    said = "outcomes opened once under other splits"
    assert f"exploratory: {said}" in text.split("</header>")[0]
    assert f'<p class="answer">Exploratory ({said}): On ' in text
    assert "opened under other splits too: 1 time, last by another" in text


@pytest.mark.usefixtures("no_figures")
def test_a_score_without_a_correction_is_not_corrected(judged: Run) -> None:
    corrected = "The best of many scores flatters"
    assert corrected in write(judged)
    development = read_json(judged.files.metrics, "metrics")["development"]
    edit_metrics(judged, development=development | {"bias_corrected_score": None})
    assert corrected not in write(judged)


@pytest.mark.usefixtures("no_figures")
def test_names_from_files_are_escaped(run: Run) -> None:
    cohort = dataclasses.replace(run.cohort, warnings=("<script>alert(1)</script>",))
    text = write_report(run.files, cohort).read_text()
    assert "<script>" not in text
    assert "&lt;script&gt;" in text


@pytest.mark.usefixtures("no_figures")
def test_the_flow_names_every_exclusion_with_its_count(run: Run) -> None:
    flow = dict(run.cohort.flow) | {"collected": 150, "excluded": {"prior CABG": 20, "PCI": 10}}
    text = write_report(run.files, dataclasses.replace(run.cohort, flow=flow)).read_text()
    for said in ("<b>150</b> collected", "20 excluded: prior CABG", "10 excluded: PCI"):
        assert said in text


@pytest.mark.parametrize(
    ("low", "high", "said"),
    [
        (0.01, 0.2, "does better than logistic regression"),
        (-0.3, -0.01, "regression on the segment values does better: prefer it"),
        (-0.1, 0.1, "do not show that it does better, or worse"),
    ],
)
def test_the_meaning_follows_from_the_paired_interval(
    judged: Run, low: float, high: float, said: str
) -> None:
    metrics = read_json(judged.files.metrics, "metrics")
    primary = metrics["differences"][metrics["primary_comparison"]]
    primary["intervals"]["percentile"] = {"low": low, "high": high, "degenerate": False}
    assert said in meaning(metrics)


@pytest.mark.parametrize(
    ("interval", "said"),
    [
        ({"low": 0.6, "high": 0.9, "degenerate": False}, "better than chance"),
        ({"low": 0.4, "high": 0.7, "degenerate": False}, "is not excluded"),
        ({"low": 0.1, "high": 0.4, "degenerate": False}, "worse than chance"),
        ({"low": 1.0, "high": 1.0, "degenerate": True}, "no usable interval"),
        ({"low": None, "high": None, "degenerate": False}, "no usable interval"),
    ],
)
def test_chance_is_judged_by_the_interval(
    judged: Run, interval: dict[str, float | bool | None], said: str
) -> None:
    metrics = read_json(judged.files.metrics, "metrics")
    metrics["model"]["auc"]["intervals"]["logit_delong"] = interval
    assert said in meaning(metrics)


def test_numbers_are_printed_with_a_true_minus_and_no_negative_zero() -> None:
    assert [number(-0.126), number(-0.001), number(None)] == ["\N{MINUS SIGN}0.13", "0.00", "n/a"]


def test_calibration_recovers_a_known_distortion() -> None:
    generator = np.random.default_rng(0)
    truth = generator.normal(0, 1.5, 4000)
    positive = generator.random(4000) < 1 / (1 + np.exp(-truth))
    logits = np.stack([np.zeros(4000), 2 * truth - 1], axis=1)
    found = calibrate(positive, logits, 0.95)
    # truth = (logit + 1) / 2
    assert found.slope == pytest.approx(0.5, abs=0.05)
    assert found.intercept == pytest.approx(0.5, abs=0.1)
    assert found.slope_limits[0] < 0.5 < found.slope_limits[1]
    assert found.bins["n"].sum() == 4000
    assert found.bins["positives"].sum() == positive.sum()


def test_the_calibration_interval_is_as_wide_as_slopes_scatter() -> None:
    generator = np.random.default_rng(0)
    slopes, widths = [], []
    for _ in range(100):
        logit = generator.normal(0, 1, 300)
        positive = generator.random(300) < 1 / (1 + np.exp(-logit))
        found = calibrate(positive, np.stack([np.zeros(300), logit], axis=1), 0.95)
        slopes.append(found.slope)
        widths.append(found.slope_limits[1] - found.slope_limits[0])
    assert np.mean(widths) / (2 * 1.96) == pytest.approx(np.std(slopes), rel=0.25)


def test_tables_behind_the_figures_hold_the_log(run: Run) -> None:
    trials = read_trials(run.files.trials)
    table = trial_table(trials)
    assert list(table["trial"]) == [trial.number for trial in trials]
    scores = pd.Series([t.score if t.is_complete else np.nan for t in trials]).cummax().ffill()
    np.testing.assert_allclose(table["best_so_far"], scores)
    chosen = {"trial": 2, "epochs": 5, "oof_sha256": trials[2].oof_sha256}
    positive, logits = read_chosen(run.files, run.cohort, chosen)
    assert auc_of(positive, logits[:, 1]) == pytest.approx(trials[2].epochs[4].mean_auc, abs=0.05)
    assert trials[2].epochs[5].mean_auc < trials[2].epochs[4].mean_auc - 0.2
    curves = learning_curves(trials[2])
    np.testing.assert_allclose(curves["mean"], curves.filter(like="fold_").mean(axis=1))
    assert list(curves["epoch"]) == [1, 2, 3, 4, 5, 6]
