"""Run directories on phantom cohorts, begun as ``polartune run`` begins them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from cohort.drawing.phantom import draw_phantom
from cohort.enrolment import enrol, record
from spaces.run_files import RunFiles
from spaces.study import Study
from trainable.problem import fill_part, missing_parts, open_problem


def phantom_table(
    folder: Path, *, patients: int, maps: Sequence[str], size: int, seed: int = 0
) -> Path:
    """Return the table of a cohort of phantoms, drawn unless it is there."""
    target = folder / f"phantom{patients}"
    table = target / "cohort.csv"
    if not table.exists():
        draw_phantom(target, patients=patients, seed=seed, size=size, inputs=maps, ceiling=False)
    return table


def begin_run(study: Study, folder: Path, root: Path) -> RunFiles:
    """Begin a run of ``study`` in ``root``; its paths are relative to ``folder``."""
    run = RunFiles(root)
    run.root.mkdir(parents=True, exist_ok=True)
    record(run, study, folder, enrol(study, folder, run))
    return run


def fill_bank(run: RunFiles) -> int:
    """Fill the bank of a run in this process; return the images that passed the trunk."""
    open_problem.cache_clear()
    root = str(run.root)
    images = sum(fill_part(root, "cpu", part) for part in missing_parts(root, "cpu"))
    open_problem.cache_clear()
    return images


def parts_of(cohort: Path) -> dict[str, int]:
    """Return the time of writing of each part in the bank beside a cohort."""
    found = sorted((cohort.parent / "banks").rglob("*.safetensors"))
    return {str(path): path.stat().st_mtime_ns for path in found}


def written(before: dict[str, int], after: dict[str, int]) -> int:
    """Return how many parts were written between two looks."""
    return sum(before.get(name) != at for name, at in after.items())
