"""Shared by all tests: one thread, no clock, a small phantom cohort and a small study."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import HealthCheck, settings

os.environ.setdefault("OMP_NUM_THREADS", "1")
# A property is tried on the same examples in every run, and no slow machine breaks it. To look for
# new ones: pytest --hypothesis-profile=default.
settings.register_profile(
    "polartune",
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("polartune")


@pytest.fixture(scope="session")
def phantom(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The table of a cohort of 60 small phantoms with rest, stress and reserve maps."""
    from small_runs import PATIENTS, SIZE

    from cohort.drawing.phantom import draw_phantom

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


@pytest.fixture(scope="session")
def need() -> Callable[[str], ModuleType]:
    """Import a package of an extra; where it is absent that skips a test, but fails it in CI."""

    def import_or_skip(package: str) -> ModuleType:
        try:
            return import_module(package)
        except ImportError:
            missing = f"{package} is not installed; it comes with an extra of pyproject.toml"
            if os.environ.get("CI") == "true":
                pytest.fail(missing)
            pytest.skip(missing)

    return import_or_skip


@pytest.fixture
def make_run(phantom: Path, tmp_path: Path):
    """Return a function that prepares a run directory of the small study."""
    from small_runs import prepare_run

    return partial(prepare_run, tmp_path, phantom)
