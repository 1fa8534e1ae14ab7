"""The report on a campaign: corrected p-values, marks, verdicts, tables, and what members say."""

from __future__ import annotations

import copy
import io
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from finished_run import Run
from report_page import Page, write
from rich.console import Console

from analysis.choose.choice import LOGITS_NOT_TRAINED
from analysis.judge.answer import say_p
from analysis.report.campaign import count_patients, say_cell, write_campaign
from analysis.report.campaign_cells import Cell, cells_of, compare_studies
from analysis.report.honesty import own_up
from analysis.report.membership import Membership, read_membership, write_membership
from analysis.report.performance_panel import performance_records
from analysis.show.campaign import show_campaign
from analysis.show.campaign_forecast import CampaignForecast, show_campaign_forecast
from analysis.show.forecast import Computing
from spaces.campaign import Plan, read_campaign
from spaces.run_files import RunFiles, read_json, write_json

CAMPAIGN: dict[str, Any] = {
    "format": "polartune/campaign/1",
    "name": "all",
    "inputs": {"rest": ["rest"], "stack": ["rest", "reserve"]},
    "targets": ["impaired", "narrowed"],
    "transfer": {"targets": ["sex"]},
    "study": {"cohort": {"path": "cohort.csv", "colour_scale": "fixed"}},
}
FIRST = ["impaired-rest", "impaired-stack", "narrowed-rest", "narrowed-stack"]
SECOND = ["sex-rest", "sex-stack"]
POINT = {"low": 1.0, "high": 1.0, "degenerate": True}
AS_READ = {
    "kind": "reading",
    "label": "lowest measured segment (mfr, any)",
    "note": "reading task",
    "development_auc": None,
}


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    (tmp_path / "campaign.yaml").write_text(yaml.safe_dump(CAMPAIGN))
    return read_campaign(tmp_path / "campaign.yaml", tmp_path / "runs")


@pytest.fixture(scope="session")
def metrics(evaluated: Run) -> dict[str, Any]:
    """What a study of the campaign could have measured."""
    return read_json(evaluated.files.metrics, "metrics")


def with_auc(metrics: Mapping[str, Any], auc: float, **interval: Any) -> dict[str, Any]:
    """Return metrics whose model has another AUC and logit-DeLong interval."""
    changed = copy.deepcopy(dict(metrics))
    estimate = changed["model"]["auc"]
    estimate["estimate"] = auc
    estimate["intervals"]["logit_delong"] = {"degenerate": False, **interval}
    return changed


def with_difference(metrics: Mapping[str, Any], **interval: Any) -> dict[str, Any]:
    changed = copy.deepcopy(dict(metrics))
    changed["differences"]["logistic_l2"]["intervals"]["percentile"] = {
        "degenerate": False,
        **interval,
    }
    return changed


def cells(plan: Plan, metrics: Mapping[str, Any], **changes: Mapping[str, Any]) -> dict[str, Cell]:
    """Return cells by run; ``changes`` are metrics by run, with _ for -."""
    named = {name.replace("__", "-"): its for name, its in changes.items()}
    every = {name: named.get(name, metrics) for name in (*FIRST, *SECOND)}
    return {cell.run: cell for cell in cells_of(plan.members, every)}


def holm_by_hand(p_values: list[float]) -> list[float]:
    """Return Holm's p-values, each from its definition: no step may fall below an earlier one."""
    return [
        max(min(1.0, smaller * sum(q >= smaller for q in p_values)) for smaller in below)
        for below in ([q for q in p_values if q <= p] for p in p_values)
    ]


def p_holm(plan: Plan, metrics: Mapping[str, Any], p_values: list[float]) -> list[float]:
    every = {
        name: {**metrics, "permutation_p": p}
        for name, p in zip((*FIRST, *SECOND), p_values, strict=True)
    }
    found = {cell.run: cell.p_holm for cell in cells_of(plan.members, every)}
    return [found[name] for name in (*FIRST, *SECOND)]


def test_p_values_are_corrected_within_each_step(plan: Plan, metrics: dict[str, Any]) -> None:
    """Four tests in the first step, two in the second; literals by hand."""
    found = p_holm(plan, metrics, [0.01, 0.04, 0.03, 0.005, 0.02, 0.06])
    assert found == pytest.approx([0.03, 0.06, 0.06, 0.02, 0.04, 0.06])
    generator = np.random.default_rng(0)
    drawn = (generator.integers(1, 5, size=6) / 50).tolist()
    assert len(set(drawn)) < len(drawn)
    expected = holm_by_hand(drawn[:4]) + holm_by_hand(drawn[4:])
    assert p_holm(plan, metrics, drawn) == pytest.approx(expected)


def test_the_headline_input_has_the_highest_development_score(
    plan: Plan, metrics: dict[str, Any]
) -> None:
    def scored(score: float, corrected: float | None, auc: float) -> dict[str, Any]:
        changed = with_auc(metrics, auc, low=auc - 0.1, high=auc + 0.01)
        development = {"score": score, "bias_corrected_score": corrected}
        return changed | {"development": changed["development"] | development}

    found = cells(
        plan,
        metrics,
        impaired__rest=scored(0.9, 0.6, 0.95),  # a high score that was luck, the best test AUC
        impaired__stack=scored(0.8, 0.7, 0.6),
        sex__rest=scored(0.72, None, 0.6),  # nothing to correct
        sex__stack=scored(0.9, 0.71, 0.9),
    )
    assert [run for run in ("impaired-rest", "impaired-stack") if found[run].headline] == [
        "impaired-stack"
    ]
    assert found["sex-rest"].headline
    assert not found["sex-stack"].headline
    assert found["sex-stack"].headline_input == "rest"
    assert (found["sex-rest"].family, found["impaired-rest"].family) == (2, 4)


@pytest.mark.parametrize(
    ("interval", "said", "is_above"),
    [
        ({"low": 0.501, "high": 0.9}, "AUC 0.80 (0.50 to 0.90), better than chance, p", True),
        ({"low": 0.5, "high": 0.9}, "(0.50 to 0.90), not shown to beat chance, p", False),
        (
            {"low": None, "high": None},
            "(no usable interval: too few patients",
            False,
        ),
        (POINT, "AUC 0.80 (no usable interval: the interval collapsed to a point", False),
    ],
)
def test_only_an_interval_that_says_something_beats_chance(
    plan: Plan,
    metrics: dict[str, Any],
    interval: dict[str, Any],
    said: str,
    *,
    is_above: bool,
) -> None:
    cell = cells(plan, metrics, sex__rest=with_auc(metrics, 0.8, **interval))["sex-rest"]
    assert cell.model.is_above_chance is is_above
    assert cell.record()["above_chance"] is is_above
    assert cell.record()["auc_usable"] is (interval["low"] in {0.501, 0.5})
    sentence = say_cell(cell, ["rest"])
    assert sentence.startswith("Sex from rest maps: AUC 0.80 (")
    assert said in sentence
    assert ("better than chance" in sentence) is is_above
    assert f"{say_p(cell.p_holm)} after Holm's correction" in sentence


@pytest.mark.parametrize(
    ("interval", "said"),
    [
        ({"low": 0.01, "high": 0.1}, "does better than logistic regression on the segment values"),
        ({"low": -0.2, "high": -0.1}, "does worse than logistic regression on the segment values"),
        ({"low": 0.0, "high": 0.1}, "no difference from logistic regression on the segment values"),
        ({"low": 0.0, "high": 0.0, "degenerate": True}, "no usable interval of its difference"),
        ({"low": None, "high": None}, "no usable interval of its difference"),
    ],
)
def test_a_verdict_on_the_regression_is_that_of_its_interval(
    plan: Plan, metrics: dict[str, Any], interval: dict[str, Any], said: str
) -> None:
    cell = cells(plan, metrics, sex__rest=with_difference(metrics, **interval))["sex-rest"]
    sentence = say_cell(cell, ["rest"])
    assert said in sentence
    assert "images add" not in sentence
    decided = interval["low"] is not None and interval["low"] * interval["high"] > 0
    assert ("not corrected for the number of comparisons" in sentence) is decided


def test_unreliable_intervals_are_said_to_be(plan: Plan, metrics: dict[str, Any]) -> None:
    doubted = with_auc(metrics, 0.8, low=0.6, high=0.9)
    doubted["model"]["auc"]["unreliable"] = "8 positive, fewer than 10"
    sentence = say_cell(cells(plan, metrics, sex__rest=doubted)["sex-rest"], ["rest"])
    its = "(0.60 to 0.90; unreliable: 8 positive, fewer than 10)"
    assert f"{its}, better than chance if that interval holds, p" in sentence


def test_a_cohort_without_segments_has_no_regression_and_no_verdict(
    plan: Plan, metrics: dict[str, Any]
) -> None:
    bare = metrics | {"baselines": {"skipped": "no columns"}, "differences": {}}
    cell = cells(plan, bare)["sex-rest"]
    assert not cell.regressions
    assert "regression" not in say_cell(cell, ["rest"])
    assert not [name for name in cell.record() if name.startswith("logistic")]


def test_a_row_holds_every_proportion_of_both_thresholds(
    plan: Plan, metrics: dict[str, Any]
) -> None:
    record = cells(plan, metrics)["sex-rest"].record()
    for key in ("half", "youden"):
        calls = metrics["model"]["thresholds"][key]
        tp, fp, tn, fn = (calls["counts"][name] for name in ("tp", "fp", "tn", "fn"))
        assert record[f"{key}_threshold"] == calls["threshold"]
        expected = {
            "accuracy": (tp + tn) / metrics["n"],
            "balanced_accuracy": (tp / (tp + fn) + tn / (tn + fp)) / 2,
            "sensitivity": tp / (tp + fn),
            "specificity": tn / (tn + fp),
            "ppv": tp / (tp + fp),
            "npv": tn / (tn + fn),
        }
        for name, value in expected.items():
            assert record[f"{key}_{name}"] == pytest.approx(value)
            assert record[f"{key}_{name}_low"] < value < record[f"{key}_{name}_high"]
        above = record[f"{key}_accuracy_low"] > metrics["no_information_rate"]
        assert record[f"{key}_above_rate"] is above
    for name in ("logistic_l2", "logistic_unpenalised"):
        assert record[f"{name}_auc"] == metrics["baselines"][name]["auc"]["estimate"]
        assert record[f"{name}_difference"] == metrics["differences"][name]["estimate"]


def test_the_mark_of_accuracy_asks_for_more_than_the_commoner_class(
    plan: Plan, metrics: dict[str, Any]
) -> None:
    easy, hard = metrics | {"no_information_rate": 0.1}, metrics | {"no_information_rate": 0.99}
    found = cells(plan, metrics, sex__rest=easy, sex__stack=hard)
    assert found["sex-rest"].model.are_above_rate == [True, True]
    assert found["sex-stack"].model.are_above_rate == [False, False]


def test_a_point_is_not_above_chance_in_the_table_of_predictors(metrics: dict[str, Any]) -> None:
    rows = performance_records(with_auc(metrics, 1.0, **POINT))
    [above] = [
        row["above"]
        for row in rows
        if (row["predictor"], row["what"], row["method"]) == ("model", "AUC", "logit_delong")
    ]
    assert above is False


@pytest.fixture(scope="module")
def campaign(
    evaluated: Run, metrics: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> Plan:
    """A judged campaign with its page: one cell separates completely, one beats chance."""
    folder = tmp_path_factory.mktemp("campaign")
    (folder / "campaign.yaml").write_text(yaml.safe_dump(CAMPAIGN))
    plan = read_campaign(folder / "campaign.yaml", folder / "runs")
    reading = {"lowest_segment": AS_READ | {"auc": with_auc(metrics, 1.0, **POINT)["model"]["auc"]}}
    changes = {
        "impaired-rest": with_auc(metrics, 1.0, **POINT),
        "narrowed-rest": with_auc(metrics, 0.8, low=0.7, high=0.9),
        "narrowed-stack": with_auc(metrics, 0.6, low=0.4, high=0.7),
    }
    for name in (*FIRST, *SECOND):
        shutil.copytree(evaluated.files.root, plan.root / name)
        its = changes.get(name, metrics)
        if name.startswith("impaired"):
            its = its | {"simple_predictors": its["simple_predictors"] | reading}
        content = {key: value for key, value in its.items() if key != "format"}
        write_json(RunFiles(plan.root / name).metrics, "metrics", content)
    write_campaign(plan, [evaluated.cohort] * len(plan.members), compare_studies(plan))
    return plan


@pytest.fixture(scope="module")
def page(campaign: Plan) -> str:
    return campaign.report.read_text()


def test_the_page_is_well_formed_and_its_links_lead_somewhere(campaign: Plan, page: str) -> None:
    read = Page(page)
    assert read.open == []
    assert len(read.ids) == len(set(read.ids))
    anchors = {link[1:] for link in read.links if link.startswith("#")}
    assert anchors <= set(read.ids)
    files = {link for link in read.links if not link.startswith("#")}
    reports = {f"{name}/report.html" for name in (*FIRST, *SECOND)}
    assert reports <= files
    assert all((campaign.root / link).is_file() for link in files - reports)
    tables = {f"report/{path.name}" for path in (campaign.root / "report").iterdir()}
    assert tables == {link for link in files if link.startswith("report/")}
    assert "secret" not in page


def cell_of(page: str, name: str) -> str:
    [found] = re.findall(rf'<td[^>]*><a href="{name}/report.html">(.*?)</td>', page)
    return found


def test_a_point_is_never_bold_and_says_why(page: str) -> None:
    point = cell_of(page, "impaired-rest")
    assert point.startswith('1.00</a> <span class="mark"')
    assert '<span class="ci">degenerate</span>' in point
    assert "1.00 to 1.00" not in page
    assert (
        "the interval collapsed to a point, as where separation is complete: impaired (rest)."
        in (page)
    )
    assert cell_of(page, "narrowed-rest").startswith(
        '<b>0.80</b></a><span class="ci">0.70 to 0.90</span>'
    )
    assert cell_of(page, "narrowed-stack").startswith("0.60</a><span")


def test_calls_at_both_thresholds_stand_in_each_step(page: str, metrics: dict[str, Any]) -> None:
    folded = re.findall(r"<details>(.*?)</details>", page, flags=re.DOTALL)
    assert len(folded) == 2
    for text, studies in zip(folded, (4, 2), strict=True):
        for said in ("balanced accuracy", "sensitivity", "specificity", "PPV", "NPV"):
            assert f"<th>{said}</th>" in text
        rows = re.findall(r"<tr[^>]*>(?:<th rowspan.*?</th>)?(<td>.*?)</tr>", text)
        assert len(rows) == 2 * studies
        for key, row in zip(("half", "youden"), rows[:2], strict=True):
            calls = metrics["model"]["thresholds"][key]
            for metric in ("balanced_accuracy", "sensitivity", "specificity", "ppv", "npv"):
                assert f"<td>{100 * calls[metric]['estimate']:.0f}\N{NO-BREAK SPACE}%" in row


def test_both_regressions_and_what_needs_no_network_are_shown(
    page: str, metrics: dict[str, Any]
) -> None:
    table = page[page.index('id="regression"') : page.index('id="simple"')]
    for said in ("unpenalised", "L2", "network \N{MINUS SIGN} L2"):
        assert table.count(f"<th>{said}</th>") == 3
    for name in ("logistic_unpenalised", "logistic_l2"):
        assert f"{metrics['baselines'][name]['auc']['estimate']:.2f}" in table
    assert "do not show that the network does better than the regression" in table
    assert "images add" not in page
    simple = page[page.index('id="simple"') : page.index('id="patients"')]
    mean = metrics["simple_predictors"]["mean_mfr"]
    assert f"<th>{mean['label']}</th>" in simple
    assert f"{mean['auc']['estimate']:.2f}" in simple


def test_a_target_defined_by_a_value_is_called_a_reading_task(page: str) -> None:
    assert page.count('<span class="origin">a reading task</span>') == 1
    assert (
        "impaired: lowest measured segment (mfr, any)), so that this value has an AUC of 1" in page
    )


def test_patients_are_shown_once(campaign: Plan, page: str, evaluated: Run) -> None:
    assert page.count("Development patients by impaired") == 1
    assert page.count("<h3>Development and test set</h3>") == 1
    flow = dict(pd.read_csv(campaign.root / "report" / "flow.csv").to_numpy().tolist())
    assert flow["development"] == f"{len(evaluated.cohort.development)} development; 5 folds"
    assert flow["test"] == f"{evaluated.cohort.test_size} test; opened once for all studies"
    assert "Origin: impaired-rest/test/metrics.json" in page


def test_the_split_is_said_to_be_what_it_was(
    campaign: Plan, page: str, evaluated: Run, tmp_path: Path
) -> None:
    assert "drawn without a look at any target" in page
    study = {"cohort": CAMPAIGN["study"]["cohort"] | {"split": {"column": "split"}}}
    file = tmp_path / "campaign.yaml"
    file.write_text(yaml.safe_dump(CAMPAIGN | {"study": study}))
    given = read_campaign(file, campaign.root.parent)
    kept = campaign.report.read_text()
    write_campaign(given, [evaluated.cohort] * len(given.members), compare_studies(given))
    text = campaign.report.read_text()
    campaign.report.write_text(kept)
    assert "given by the column <code>split</code>" in text
    assert "drawn without a look" not in text


def test_missing_labels_leave_fewer_patients(
    plan: Plan, metrics: dict[str, Any], page: str
) -> None:
    assert f"on {metrics['n']} test patients." in page
    fewer = copy.deepcopy(metrics)
    fewer["n"] = metrics["n"] - 3
    found = cells(plan, metrics, sex__rest=fewer)
    expected = f"{metrics['n'] - 3} to {metrics['n']} test patients, those with a label"
    assert count_patients(list(found.values())) == expected


def without_logits(metrics: dict[str, Any]) -> dict[str, Any]:
    """What a study measures whose configuration has lambda = 0."""
    development = metrics["development"] | {"score": None, "bias_corrected_score": None}
    return metrics | {
        "model": {"skipped": LOGITS_NOT_TRAINED},
        "differences": {},
        "permutation_p": None,
        "development": development,
    }


def test_an_untrained_study_is_no_headline_and_takes_no_part_in_the_correction(
    plan: Plan, metrics: dict[str, Any]
) -> None:
    rest = metrics | {"permutation_p": 0.03}
    found = cells(plan, metrics, sex__rest=rest, sex__stack=without_logits(metrics))
    cell = found["sex-stack"]
    assert (cell.p_holm, found["sex-rest"].p_holm, found["sex-rest"].family) == (None, 0.03, 1)
    assert cell.headline_input == "rest"
    assert say_cell(cell, ["rest"]) == f"Sex from rest maps: not judged ({LOGITS_NOT_TRAINED})."
    record = cell.record()
    assert record["untrained"] == LOGITS_NOT_TRAINED
    assert not {name for name in record if name.startswith(("auc", "half_", "youden_"))}
    assert record["logistic_l2_auc"] is not None


def test_the_page_and_the_terminal_say_which_study_trained_no_logits(
    campaign: Plan, metrics: dict[str, Any], evaluated: Run, tmp_path: Path
) -> None:
    shutil.copytree(campaign.root, tmp_path / "runs" / campaign.root.name)
    (tmp_path / "campaign.yaml").write_text(yaml.safe_dump(CAMPAIGN))
    copied = read_campaign(tmp_path / "campaign.yaml", tmp_path / "runs")
    content = {name: its for name, its in without_logits(metrics).items() if name != "format"}
    write_json(RunFiles(copied.root / "sex-stack").metrics, "metrics", content)
    write_campaign(copied, [evaluated.cohort] * len(copied.members), compare_studies(copied))
    text = copied.report.read_text()
    assert Page(text).open == []
    assert cell_of(text, "sex-stack").startswith("not judged</a>")
    assert LOGITS_NOT_TRAINED in cell_of(text, "sex-stack")
    assert "not judged" not in cell_of(text, "sex-rest")
    console = Console(width=80, file=io.StringIO(), record=True)
    for name in (*FIRST, *SECOND):
        RunFiles(copied.root / name).trials.touch()
    show_campaign(copied, console)
    [row] = [line for line in console.export_text().splitlines() if line.startswith("sex")]
    assert row.rstrip().endswith("not trained")


def test_the_terminal_marks_a_point_as_doubtful(campaign: Plan) -> None:
    for name in (*FIRST, *SECOND):
        RunFiles(campaign.root / name).trials.touch()
    console = Console(width=80, file=io.StringIO(), record=True)
    show_campaign(campaign, console)
    lines = console.export_text().splitlines()
    [row] = [line for line in lines if line.startswith("impaired")]
    assert "1.00†" in row.replace(" ", "")
    assert "1.00-1.00" not in row
    [row] = [line for line in lines if line.startswith("narrowed")]
    assert "0.80 0.70-0.90*" in row
    assert row.endswith("0.60 0.40-0.70")
    assert "†: its interval is not to be relied on, see report" in lines


@pytest.mark.parametrize(
    ("widths", "answer", "warns"),
    [
        (
            {"impaired": 0.121, "narrowed": 0.0912, "sex": 0.14},
            "known to about ±0.09 (narrowed) to ±0.14 (sex) (95 %, Hanley-McNeil)",
            False,
        ),
        (
            {"impaired": 0.121, "narrowed": np.nan, "sex": np.nan},
            "known to about ±0.12 (impaired) (95 %, Hanley-McNeil)",
            True,
        ),
        ({"impaired": np.nan, "narrowed": np.nan, "sex": np.nan}, "", True),
    ],
)
def test_check_says_how_sharp_the_answers_would_be(
    plan: Plan, evaluated: Run, widths: dict[str, float], answer: str, *, warns: bool
) -> None:
    console = Console(width=80, file=io.StringIO(), record=True)
    cost = CampaignForecast(6, 12, 10, 10, 10**9, Computing(1.0, 1.0), 1, 1, widths)
    show_campaign_forecast(plan, [evaluated.cohort] * 6, cost, console)
    lines = console.export_text().splitlines()
    shown = " ".join(" ".join(lines).split())
    assert max(map(len, lines)) <= 80
    assert ("an AUC of 0.8 on the test set would be" in shown) is bool(answer)
    assert answer in shown
    assert ("sex: too few expected events to say how well" in shown) is warns


def test_every_study_is_told_what_it_is(campaign: Plan) -> None:
    frame = pd.read_csv(campaign.summary.with_suffix(".csv")).set_index(["target", "input"])
    headlines = 0
    for name in (*FIRST, *SECOND):
        its = read_membership(RunFiles(campaign.root / name))
        assert its is not None
        row = frame.loc[tuple(name.split("-"))]
        assert (its.campaign, its.studies) == ("all", 6)
        assert (its.p_holm, its.is_headline) == (row["p_holm"], row["headline"])
        headlines += its.is_headline
    assert headlines == 3


def membership(headline: str) -> Membership:
    return Membership("all", 36, "reserve", headline, family=20, p_holm=0.0321)


@pytest.mark.parametrize(
    ("headline", "said"),
    [
        ("reserve", "; this study is that of impaired. "),
        ("stack", "; that of impaired is stack, so this study is secondary. "),
    ],
)
def test_the_honesty_box_of_a_member_names_its_campaign(
    evaluated: Run, metrics: dict[str, Any], headline: str, said: str
) -> None:
    def comparisons(its: Membership | None) -> str:
        boxes = own_up(
            evaluated.study, None, None, metrics, openings=[], elsewhere=[], membership=its
        )
        [found] = [box.answer for box in boxes if box.question == "How many comparisons?"]
        return found

    found = comparisons(membership(headline))
    assert found.startswith("This is one of 36 studies of the campaign all, ")
    assert said in found
    assert "p 0.032 after Holm's correction over the 20 studies of its step" in found
    assert "One number was named beforehand" not in found
    assert comparisons(None).startswith("One number was named beforehand: the test AUC")


@pytest.mark.usefixtures("no_figures")
def test_the_report_of_a_member_does_not_deny_its_campaign(judged: Run) -> None:
    alone = write(judged)
    assert "of the campaign" not in alone
    assert "in the campaign" not in alone
    write_membership(judged.files, membership("stack"))
    text = write(judged)
    assert 'One of 36 studies of the campaign <a href="../campaign.html">all</a>: secondary' in text
    assert "(one-sided), 0.032 after Holm's correction over the 20 studies of its step" in text
    assert "test/membership.json" in text
