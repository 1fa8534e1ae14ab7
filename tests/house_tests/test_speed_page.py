"""docs/speed.md holds what the result files say, and nothing that was not measured."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.measuring import FOLDER
from benchmarks.speed_page import BLOCKS, PAGES, fill, read_results

PAPER = {
    "format": "polartune/benchmark-paper_study/1",
    "quick": False,
    "machine": {"processor": "P", "cores": 2, "memory_gb": 8.0, "packages": {"torch": "2.14"}},
    "steps": {"bank": 300.0, "search": 1200.04},
    "seconds": 1512.3,
    "epochs": 250,
    "epochs_without_pruning": 640,
    "stopped": 28,
    "trials": 32,
    "bank_images": 14467,
    "bank_gb": 3.6,
    "peak_gb": 3.1,
    "goals": [{"goal": "within 25 minutes (25.2)", "reached": False}],
}


def test_the_page_holds_what_was_measured() -> None:
    texts = [page.read_text(encoding="utf-8") for page in PAGES]
    for text in texts:
        assert fill(text, read_results(FOLDER)) == text, "run: python -m benchmarks.speed_page"
    assert all(any(f"<!-- {name} -->" in text for text in texts) for name in BLOCKS)


def test_a_quick_result_is_none(tmp_path: Path) -> None:
    contents = {
        "measured": PAPER,
        "tried": {**PAPER, "quick": True, "trials": 5},
        "other": {"format": "polartune/best/1"},
    }
    for name, content in contents.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
    assert read_results(tmp_path) == {"paper_study": PAPER}


def test_figures_replace_those_of_before() -> None:
    page = (
        "A\n<!-- paper -->\nan earlier figure\n<!-- end -->\nB\n<!-- bootstrap -->\n<!-- end -->\n"
    )
    filled = fill(page, {"paper_study": PAPER})
    assert "an earlier figure" not in filled
    assert "| search | 1,200.0 |" in filled
    assert "250 epochs of five folds run of 640" in filled
    assert "- within 25 minutes (25.2): missed" in filled
    assert filled.startswith("A\n<!-- paper -->\n")
    assert filled.endswith("<!-- bootstrap -->\n\n*Not measured yet.*\n\n<!-- end -->\n")
    assert fill(filled, {"paper_study": PAPER}) == filled


def test_an_unknown_mark_is_an_error() -> None:
    with pytest.raises(KeyError, match="papr"):
        fill("<!-- papr -->\n<!-- end -->", {})
