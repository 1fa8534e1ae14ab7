"""The report: complete, self-contained, honest about what is missing, and without patients."""

import dataclasses
import re

import pytest
from finished_run import Run
from report_page import Page, edit_metrics, write

from analysis.choose.select import select
from analysis.judge.answer import answer, limits
from analysis.report.page import write_report
from cohort.sealed import open_outcomes
from cohort.table import read_cohort
from spaces.run_files import read_json, write_json


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


def test_question_answer_figure_and_beliefs_come_before_everything_else(reported: Run) -> None:
    text = reported.files.report.read_text()
    order = ["<h1>Impaired from reserve maps</h1>", "The question.", 'class="answer"']
    order += ['id="headline-title"', "What to believe", "What not to believe", 'id="patients"']
    places = [text.index(said) for said in order]
    assert places == sorted(places)


def test_the_page_is_well_formed_and_loads_nothing(reported: Run) -> None:
    text = reported.files.report.read_text()
    page = Page(text)
    assert page.open == []
    assert len(page.ids) == len(set(page.ids))
    external = [link for link in page.links if link.startswith("http")]
    assert {link.removeprefix("https://doi.org/") for link in external} == {
        "10.1007/s12350-022-02920-x",
        "10.1136/bmj-2023-078378",
        "10.1148/ryai.2020200029",
    }
    assert not re.search(r"<(script|link|img|iframe)\b|@import|url\((?!#)|\son\w+=", text)


def test_every_figure_has_a_title_and_a_description(reported: Run) -> None:
    page = Page(reported.files.report.read_text())
    assert len(page.pictures) == 15
    for named in page.pictures:
        title, description = (page.titles[name] for name in named.split())
        assert len(title) > 6
        assert len(description) > 20


def test_every_link_leads_somewhere_and_all_that_is_shown_lies_beside(reported: Run) -> None:
    root, text = reported.files.root, reported.files.report.read_text()
    local = {link for link in Page(text).links if not link.startswith(("http", "#"))}
    assert all((root / link).is_file() for link in local)
    tables = [path.name for path in root.glob("report/*") if path.suffix != ".svg"]
    drawn = sorted(root.glob("report/*.svg"))
    assert (len(tables), len(drawn)) == (25, 15)
    assert {f"report/{name}" for name in (*tables, *(path.name for path in drawn))} <= local
    assert all(path.read_text() in text for path in drawn)
    listed = Page(text[text.index('<h2 id="files">') : text.index("</main>")]).links
    assert {f"report/{name}" for name in tables} <= set(listed)


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
    assert "What to believe" not in text


def test_after_the_search_it_shows_the_trials_and_no_test_number(run: Run) -> None:
    select(run.files)
    text = write(run)
    assert len(Page(text).pictures) == 9
    assert "Leading trials" in text
    assert "polartune evaluate RUN" in text
    assert "test, n =" not in text
    assert "Logistic regression sees" not in text


@pytest.mark.usefixtures("no_figures")
def test_it_works_without_segments(run_without_segments: Run) -> None:
    select(run_without_segments.files)
    text = write(run_without_segments)
    assert "no segment values are regressed, so λ is 1" in text


@pytest.mark.usefixtures("no_figures")
def test_a_skipped_regression_appears_in_no_method(judged: Run) -> None:
    skipped = {"skipped": "no 17 segment columns"}
    edit_metrics(judged, baselines=skipped, differences={}, segments=skipped)
    write_json(judged.files.test / "baselines.json", "baselines", skipped)
    text = write(judged)
    assert "No logistic regression was fitted: no 17 segment columns" in text
    assert "Logistic regression sees" not in text
    assert "primary comparison" not in text
    assert re.findall("[^.<>]*regressions[^.<>]*", text) == [
        "the frozen logistic regressions, or why there are none"
    ]
    assert "there is no regression on segments to compare it with" in text


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
    text = write(judged)
    header = text.split("</header>")[0]
    assert "random trunk: the network was not pretrained" in header
    assert "phantom: drawn maps of invented patients" in header
    assert "Anything about patients: these are drawn ones" in text
    assert "That a pretrained network does no better: this one had random weights." in text


@pytest.mark.usefixtures("no_figures")
def test_an_exploratory_result_is_called_so_first(judged: Run) -> None:
    edit_metrics(judged, exploratory=True, openings=3)
    text = write(judged)
    assert "exploratory: opening 3 of this test set" in text.split("</header>")[0]
    assert '<p class="answer">Exploratory (opening 3' in text
    assert "had seen" not in text
    assert "test patients decided nothing" not in text


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
def test_an_unreliable_interval_carries_its_reason_everywhere(judged: Run) -> None:
    model = read_json(judged.files.metrics, "metrics")["model"]
    reason = "7 negative, fewer than 10"
    model["auc"]["unreliable"] = reason
    model["thresholds"]["half"]["npv"]["unreliable"] = "undefined in 9.0% of the resamples"
    edit_metrics(judged, model=model)
    text = write(judged)
    assert f"Intervals unreliable: {reason}." in text.split('class="beliefs"')[0]
    assert f"That the intervals are as good as they look: {reason}." in text
    assert f'† {reason}</span><span class="origin">test, n = {model["auc"]["n"]}' in text
    assert "negative predictive value <span" in text
    assert "† undefined in 9.0% of the resamples" in text
    aucs = (judged.files.root / "report" / "aucs.csv").read_text()
    assert aucs.count(f'"{reason}"') == 3


@pytest.mark.usefixtures("no_figures")
def test_results_of_earlier_versions_without_the_mark_are_shown(judged: Run) -> None:
    model = read_json(judged.files.metrics, "metrics")["model"]
    for estimate in (model["auc"], model["brier"], model["thresholds"]["half"]["ppv"]):
        del estimate["unreliable"]
    edit_metrics(judged, model=model)
    assert "What to believe" in write(judged)


@pytest.mark.usefixtures("no_figures")
def test_names_from_files_are_escaped(judged: Run) -> None:
    evil = "<script>alert(1)</script>"
    flow = dict(judged.cohort.flow) | {"excluded": {evil: 3}}
    cohort = dataclasses.replace(judged.cohort, warnings=(evil,), flow=flow, name=evil)
    edit_metrics(judged, target=evil, inputs=[evil])
    text = write_report(judged.files, cohort).read_text()
    assert "<script" not in text
    assert text.count("&lt;script&gt;") >= 5
    Page(text.replace("<svg></svg>", ""))
