"""A written report as the tests read it."""

from __future__ import annotations

from html.parser import HTMLParser

from finished_run import Run

from analysis.report.page import write_report
from spaces.run_files import read_json, write_json

VOID = {"meta", "br", "use"}


class Page(HTMLParser):
    """Collects what the tests ask about and checks that every tag is closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.pictures: list[str] = []
        self.ids: list[str] = []
        self.open: list[str] = []
        self.titles: dict[str, str] = {}
        self._inside: str | None = None
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        if tag == "a":
            self.links.append(found["href"] or "")
        if tag == "svg":
            assert found["role"] == "img"
            self.pictures.append(found["aria-labelledby"] or "")
        if "id" in found:
            self.ids.append(found["id"] or "")
        if tag in {"title", "desc"}:
            self._inside = found.get("id")
        if tag not in VOID:
            self.open.append(tag)

    def handle_data(self, data: str) -> None:
        if self._inside is not None:
            self.titles[self._inside] = data

    def handle_endtag(self, tag: str) -> None:
        self._inside = None
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if "id" in dict(attrs):
            self.ids.append(dict(attrs)["id"] or "")


def write(run: Run) -> str:
    """Write the report and return its text."""
    return write_report(run.files, run.cohort).read_text(encoding="utf-8")


def edit_metrics(run: Run, **changes: object) -> None:
    """Change what metrics.json says."""
    metrics = read_json(run.files.metrics, "metrics") | changes
    del metrics["format"]
    write_json(run.files.metrics, "metrics", metrics)
