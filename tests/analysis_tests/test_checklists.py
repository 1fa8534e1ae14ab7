"""Reporting guidelines against the report: a filled item has its place, a missing one says so."""

from __future__ import annotations

import re

import pandas as pd
from finished_run import Run

from analysis.report.checklists import FILLED, ITEMS, MISSING, fill
from analysis.report.page import write_report

EVERYTHING = "".join(
    f'<h2 id="{section}">'
    for section in pd.read_csv(ITEMS, dtype=str, keep_default_na=False)["section"].unique()
)


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


def test_the_report_links_to_sections_that_it_has(judged: Run) -> None:
    page = write_report(judged.files, judged.cohort).read_text()
    listed = page[page.index('id="checklists"') :]
    linked = set(re.findall(r'filled: <a href="#([a-z]+)"', listed))
    assert linked
    assert linked <= set(re.findall(r'<h2 id="([a-z]+)"', page))
    frame = pd.read_csv(judged.files.root / "report" / "checklists.csv", dtype=str)
    assert (frame["status"] == FILLED).sum() == listed.count("filled: <a")
    assert "author must supply" in listed
    assert 'checklists.csv">' in page[page.index('id="files"') :]
