"""Run directories for the tests of the analysis, built once and copied."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import finished_run
import pytest
from finished_run import (
    Run,
    add_model,
    build_run,
    copy_run,
    draw_with_traits,
    fake_loading,
)

from analysis.choose.select import select
from analysis.judge.evaluate import evaluate
from analysis.report.page import write_report

DERIVED = """target: impaired_any
  derive: {impaired_any: {below: 2.0}}
"""


@pytest.fixture(scope="session")
def searched(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A finished search of seven trials: four complete, two stopped, one failed. Read only."""
    return build_run(tmp_path_factory.mktemp("searched"))


@pytest.fixture(scope="session")
def evaluated(searched: Run, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The same search, selected, with a model, judged on the test set. Read only."""
    run = copy_run(searched, tmp_path_factory.mktemp("evaluated"))
    with pytest.MonkeyPatch.context() as patch:
        add_model(run)
        fake_loading(run, patch)
        select(run.files)
        evaluate(run.files, run.cohort)
    return run


@pytest.fixture(scope="session")
def scrutinised(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A judged run whose target is derived, with age, sex, rest flow and a decision range."""
    folder = tmp_path_factory.mktemp("scrutinised")
    with pytest.MonkeyPatch.context() as patch:
        study = finished_run.STUDY.replace("target: impaired\n", DERIVED)
        study = study.replace("{bootstraps", "{decision_range: [0.2, 0.6], bootstraps")
        patch.setattr(finished_run, "STUDY", study)
        run = build_run(folder, drawn_by=draw_with_traits)
        add_model(run)
        fake_loading(run, patch)
        select(run.files)
        evaluate(run.files, run.cohort)
    return run


@pytest.fixture(scope="session")
def reported(evaluated: Run, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The judged run with its report. Read only."""
    run = copy_run(evaluated, tmp_path_factory.mktemp("reported"))
    write_report(run.files, run.cohort)
    return run


@pytest.fixture
def no_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Draw no SVG, which takes most of the time, where a test reads words or tables."""
    for room in ("figures", "search_figures"):
        monkeypatch.setattr(f"analysis.report.{room}.svg_of", lambda *_: "<svg></svg>")


@pytest.fixture
def run(searched: Run, tmp_path: Path) -> Run:
    """A copy of the finished search."""
    return copy_run(searched, tmp_path)


@pytest.fixture
def judged(evaluated: Run, tmp_path: Path) -> Run:
    """A copy of the judged run."""
    return copy_run(evaluated, tmp_path)


@pytest.fixture
def run_without_segments(tmp_path: Path) -> Run:
    """The same for a cohort that has no segment values."""
    return build_run(tmp_path, segments=False)


@pytest.fixture
def model(run: Run, monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """Put a model into the run and a fake behind ``load_model``; counts its predictions."""
    add_model(run)
    return fake_loading(run, monkeypatch)
