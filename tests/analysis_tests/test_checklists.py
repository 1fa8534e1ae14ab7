"""Reporting guidelines against the report: a filled item has its place, a missing one says so."""

from __future__ import annotations

import re

import pandas as pd
import pytest
from finished_run import Run
from report_page import write

from analysis.choose.select import select
from analysis.report.checklists import FILLED, ITEMS, MISSING, fill
from analysis.report.methods import say_preparation
from analysis.report.page import write_report
from spaces.study import Study

PLACES = {
    place
    for places in pd.read_csv(ITEMS, dtype=str, keep_default_na=False)["places"]
    for place in places.split()
}
EVERYTHING = "".join(f'<h2 id="{place}">' for place in PLACES)


def test_each_guideline_is_whole() -> None:
    tripod, claim = fill(EVERYTHING)
    assert [int(item.item) for item in claim.items] == list(range(1, 43))
    numbers = [int(re.sub("[a-z]", "", item.item)) for item in tripod.items]
    assert sorted(set(numbers)) == list(range(1, 28))
    assert len({item.item for item in tripod.items}) == len(tripod.items)
    assert numbers == sorted(numbers)


def test_an_item_is_filled_by_a_section_that_is_there_and_by_no_other() -> None:
    for page, expected in ((EVERYTHING, FILLED), ("", MISSING)):
        [item] = [its for its in fill(page)[0].items if its.item == "20a"]
        assert item.status == expected
    [ethics] = [its for its in fill(EVERYTHING)[0].items if its.item == "17"]
    assert ethics.status == MISSING


def test_an_item_that_needs_two_places_is_not_filled_by_one() -> None:
    """Performance, in subgroups too, is not reported by a page without subgroups."""
    for page, expected in (
        (EVERYTHING, FILLED),
        (EVERYTHING.replace('id="subgroups"', ""), MISSING),
        (EVERYTHING.replace('id="test-aucs"', ""), MISSING),
    ):
        [item] = [its for its in fill(page)[0].items if its.item == "23a"]
        assert item.status == expected


def items_of(page: str) -> dict[str, str]:
    return {
        f"{its.guideline} {its.item}": its.status
        for its in fill(page)[0].items + fill(page)[1].items
    }


@pytest.mark.usefixtures("no_figures")
def test_every_place_stands_in_some_report_and_says_what_is_asked(judged: Run) -> None:
    page = write(judged)
    there = set(re.findall(r'\sid="([a-z_-]+)"', page))
    # This run has neither traits for subgroups nor attention nor another cohort.
    assert PLACES - there == {"subgroups", "attention", "external"}
    asked = {
        "preparation": ("resized to 32 ", "standardised", "augmented by rotation"),
        "missing": ("without a label", "missing were left out", "development mean"),
        "imbalance": ("every patient weighs the same",),
        "training": ("AdamW", "32", "6 epochs"),
        "validation": ("5 folds", "no patient is in two parts"),
        "model": ("resnet18", "random weights"),
    }
    for place, words in asked.items():
        paragraph = re.search(rf'id="{place}">(.*?)</p>', page, re.DOTALL)
        assert paragraph is not None
        assert all(word in paragraph[1] for word in words), place
    found = items_of(page)
    assert found["TRIPOD+AI 11"] == found["CLAIM 13"] == found["TRIPOD+AI 16"] == FILLED
    assert found["TRIPOD+AI 23a"] == found["TRIPOD+AI 14"] == MISSING


@pytest.mark.usefixtures("no_figures")
def test_before_the_opening_no_item_on_performance_is_filled(run: Run) -> None:
    select(run.files)
    found = items_of(write(run))
    for item in ("TRIPOD+AI 12e", "TRIPOD+AI 21", "TRIPOD+AI 22", "CLAIM 27", "CLAIM 35"):
        assert found[item] == MISSING
    assert found["TRIPOD+AI 11"] == FILLED  # with or without a regression


@pytest.mark.usefixtures("no_figures")
def test_class_weights_are_said_once_and_after_the_loss(judged: Run) -> None:
    judged.edit_study("training: {epochs: 6}", "training: {epochs: 6, class_weight: balanced}")
    page = write(judged)
    methods = page[page.index('id="methods"') : page.index('id="provenance"')]
    assert methods.count("both classes weigh the same") == 1
    assert "every patient weighs" not in methods
    assert methods.index("The loss is") < methods.index("both classes weigh the same")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, "by rotation up to ±10° and rescaling up to ±10 %, times the searched strength; 4"),
        ({"rotation": 0.0, "views": 1}, "by rescaling up to ±10 %, times the searched strength; 1"),
        ({"dropout": {"rate": 0.02, "patch": 8}}, ", rescaling up to ±10 % and dropout of patches"),
        ({"dropout": {"rate": 0.02, "patch": 8}}, "8 pixels (2 % of the image), times"),
        ({"rotation": 0.0, "rescaling": 0.0}, "They were not augmented."),
    ],
)
def test_only_what_was_done_to_the_maps_is_said(
    run: Run, changes: dict[str, object], said: str
) -> None:
    content = run.study.model_dump(by_alias=True)
    content["augmentation"] |= changes
    text = say_preparation(Study.model_validate(content)).replace("\N{NO-BREAK SPACE}", " ")
    assert said in text
    content["space"]["augmentation_strength"] = 0.0
    assert "not augmented" in say_preparation(Study.model_validate(content))


def test_the_report_links_to_sections_that_it_has(judged: Run) -> None:
    page = write_report(judged.files, judged.cohort).read_text()
    listed = page[page.index('id="checklists"') :]
    linked = set(re.findall(r'<a href="#([a-z_-]+)"', listed))
    assert linked
    assert linked <= set(re.findall(r'\sid="([a-z_-]+)"', page))
    frame = pd.read_csv(judged.files.root / "report" / "checklists.csv", dtype=str)
    assert (frame["status"] == FILLED).sum() == listed.count("filled: <a")
    assert "author must supply" in listed
    assert 'checklists.csv">' in page[page.index('id="files"') :]
