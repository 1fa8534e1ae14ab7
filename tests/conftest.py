"""Shared by all tests: one thread, a small phantom cohort and a small study."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from spaces.study import Study

os.environ.setdefault("OMP_NUM_THREADS", "1")

PATIENTS = 60
SIZE = 32


@pytest.fixture(scope="session")
def phantom(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The table of a cohort of 60 small phantoms with rest, stress and reserve maps."""
    from cohort.phantom import draw_phantom

    folder = tmp_path_factory.mktemp("phantom")
    return draw_phantom(folder, patients=PATIENTS, seed=1, size=SIZE, ceiling=False)


@pytest.fixture(scope="session")
def spectf_files() -> Path:
    """The folder with UCI's two SPECTF files; absent they skip a test, but fail it in CI."""
    beside = Path(__file__).resolve().parents[2] / "shared" / "data" / "spectf"
    folder = Path(os.environ.get("POLARTUNE_SPECTF", beside))
    if (folder / "SPECTF.train").is_file():
        return folder
    missing = f"no SPECTF files in {folder}; set POLARTUNE_SPECTF"
    if os.environ.get("CI") == "true":
        pytest.fail(missing)
    pytest.skip(missing)


def small_study(table: Path, **changes: object) -> dict[str, object]:
    """Return a study of the small phantom cohort; dotted names change single settings."""
    content: dict[str, object] = {
        "name": "small",
        "cohort": {
            "path": str(table),
            "inputs": ["reserve"],
            "target": "impaired_any",
            "derive": {"impaired_any": {"below": 2.0}},
            "colour_scale": "fixed",
            "split": {"test": 12, "stratify": True},
        },
        "network": {"backbone": "efficientnet_lite0", "image_size": SIZE},
        "augmentation": {"views": 2},
        "space": {"augmentation_strength": {"choices": [0.0, 1.0]}},
        "training": {"epochs": 3, "batch_size": 16},
        "search": {"trials": 3, "generation": 2, "grace": 1},
        "resources": {"device": "cpu", "slots": 2},
    }
    for dotted, value in changes.items():
        *sections, last = dotted.split(".")
        section = content
        for name in sections:
            section = section.setdefault(name, {})  # type: ignore[assignment]
        section[last] = value
    return content


@pytest.fixture
def make_run(phantom: Path, tmp_path: Path):
    """Return a function that prepares a run directory of the small study."""
    from cohort.split import write_split
    from cohort.table import read_cohort
    from spaces.run_files import RunFiles

    def prepare(name: str = "small", **changes: object) -> RunFiles:
        run = RunFiles(tmp_path / name)
        run.root.mkdir()
        changes = {"bank.path": str(tmp_path / "banks")} | changes
        study = Study.model_validate(small_study(phantom, **changes))
        run.study.write_text(study.as_yaml())
        cohort = read_cohort(study, run.root, verify_images=False, create_key=True)
        write_split(run.split, cohort.split)
        return run

    return prepare
