"""The figures: text stays text, the flow names everybody, odd values are drawn."""

import dataclasses
import re

import pytest
from finished_run import Run
from report_page import Page

from analysis.report.drawing import new_canvas, styled, svg_of
from analysis.report.figures import Bar, draw_forest, draw_headline
from analysis.report.flow_figure import Flow, draw_flow
from analysis.report.page import write_report

FLOW = Flow(
    150, {"prior CABG": 20, "PCI <old> & " + "long " * 12: 10}, 120, ["80 dev"], ["40 test"]
)


@styled
def draw_label(label: str) -> str:
    canvas, axes = new_canvas()
    axes.set_xlabel(label)
    return svg_of(canvas, "label", "A <title>", "said")


def test_text_is_text_and_printed_digits_are_kept() -> None:
    svg = draw_label("0.12345 $x$ <b>")
    assert ">0.12345 $x$ &lt;b&gt;</text>" in svg
    assert '<title id="label-title">A &lt;title&gt;</title>' in svg
    assert not re.search(r'="[^"]*\.\d{3,}', svg)


def test_the_flow_names_every_exclusion_with_its_count(run: Run) -> None:
    svg = draw_flow(FLOW)
    drawn = re.sub(r"\s+", " ", " ".join(re.findall(r">([^<]+)</text>", svg)))
    for said in ("150 collected", "Excluded: 30", "20 prior CABG", "10 PCI &lt;old&gt; &amp;"):
        assert said in drawn
    assert "120 included" in drawn
    assert Page(svg).open == []
    flow = dict(run.cohort.flow) | {"collected": 150, "excluded": {"prior CABG": 20, "PCI": 10}}
    text = write_report(run.files, dataclasses.replace(run.cohort, flow=flow)).read_text()
    for said in (">150 collected<", ">20 prior CABG<", ">10 PCI<"):
        assert said in text
    table = (run.files.root / "report" / "flow.csv").read_text()
    assert "excluded,20: prior CABG" in table


def test_no_text_of_the_flow_leaves_its_box() -> None:
    svg = draw_flow(FLOW)
    lines = re.findall(r"<text x='([\d.]+)' [^>]*>([^<]+)<", svg)
    # Half an em is more than the mean width of Helvetica's letters.
    for x, line in lines:
        text = line.replace("&lt;", "<").replace("&amp;", "&")
        assert (float(x) - 1) % 179 + 5 * len(text) < 165


@pytest.mark.parametrize("estimate", [None, 0.3, 1.0])
def test_undefined_and_extreme_estimates_are_drawn(estimate: float | None) -> None:
    bars = [Bar("model\ntest, n = 9", "percentile", estimate, None, None)]
    said = "undefined"
    assert said in draw_headline(bars)
    assert said in draw_forest(bars, "f", "Title", "AUC", reference=0.5)
