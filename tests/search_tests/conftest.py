from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from search_studies import MakeRun, make_study

from spaces.run_files import RunFiles
from spaces.sections import ResourcesSection


@pytest.fixture
def make_run(tmp_path: Path) -> MakeRun:
    """A run directory with a study file; takes its name and what ``make_study`` takes."""

    def make(name: str = "run", **settings: Any) -> RunFiles:
        run = RunFiles(tmp_path / name)
        run.root.mkdir()
        run.study.write_text(make_study(**settings).as_yaml())
        return run

    return make


@pytest.fixture
def scratch() -> Iterator[Path]:
    """A short path, for Ray's sockets; a killed driver cannot clean up behind itself."""
    with tempfile.TemporaryDirectory(prefix="pt-", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


@pytest.fixture(scope="session")
def two_slots() -> Iterator[Any]:
    """One Ray for the whole session; its workers can import this folder and the one above."""
    from search.place import connected

    before = os.environ.get("PYTHONPATH")
    here = Path(__file__).parent
    os.environ["PYTHONPATH"] = os.pathsep.join([str(here), str(here.parent)])
    try:
        with connected(ResourcesSection(device="cpu", slots=2)) as place:
            yield place
    finally:
        if before is None:
            del os.environ["PYTHONPATH"]
        else:
            os.environ["PYTHONPATH"] = before
