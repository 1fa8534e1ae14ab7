"""From a study file to a run directory: the study with its new paths, the split, the evidence."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cohort.split import read_split, write_split
from cohort.table import Cohort, read_cohort
from spaces.environment import describe_environment
from spaces.errors import RefusedError
from spaces.run_files import RunFiles, read_json, sha256_of, write_json, write_text
from spaces.study import Study, read_study

# What may change while a run is continued: where it runs, never what it computes. The device may,
# since it says what to take; that trials were computed on another is refused by the search.
MAY_DIFFER = frozenset(
    {
        "resources.device",
        "resources.slots",
        "resources.gpus_per_trial",
        "search.stalled_after",
        "bank.path",
    }
)
WHAT = {
    "cohort_sha256": "the cohort table",
    "split_sha256": "the split",
    "images_sha256": "an image of a development patient",
    "first_step_sha256": "the run that this one starts from",
}


def relocate(study: Study, folder: Path, root: Path) -> Study:
    """Return ``study``, whose paths are relative to ``folder``, with paths relative to ``root``."""

    def move(path: str) -> str:
        return Path(os.path.relpath((folder / path).resolve(), root.resolve())).as_posix()

    return study.with_paths(move)


def enrol(study: Study, folder: Path, run: RunFiles, *, verify_images: bool = True) -> Cohort:
    """Return the cohort of a study, with the split of ``run`` if that has begun. Writes no run.

    Args:
        study: as its file says.
        folder: the folder of that file.
        run: the directory that the study will run in, or runs in.
        verify_images: see ``read_cohort``.

    Raises:
        InputError: the cohort breaks a rule.
        RefusedError: the directory holds another study, another cohort or another split.
    """
    if not run.study.exists():
        return read_cohort(study, folder, create_key=True, verify_images=verify_images)
    _refuse_differences(run, read_study(run.study), relocate(study, folder, run.root))
    return reopen(run, verify_images=verify_images)


def reopen(run: RunFiles, *, verify_images: bool = True) -> Cohort:
    """Return the cohort of a run that has begun.

    Raises:
        InputError: the directory is no run.
        RefusedError: table, split or development images are not those that the run began with.
    """
    study, split = read_study(run.study), read_split(run.split)
    cohort = read_cohort(study, run.root, split=split, verify_images=verify_images)
    begun = read_json(run.environment, "environment")
    for name, now in _hashes(cohort, study, run.root).items():
        if now is not None and begun.get(name, now) != now:
            raise RefusedError(
                str(run.root),
                f"{WHAT[name]} changed since the run began",
                "Restore what it began with, or begin a run of another name",
            )
    return cohort


def record(run: RunFiles, study: Study, folder: Path, cohort: Cohort) -> list[str]:
    """Write split.json, environment.json and study.yaml; return what has changed since the start.

    study.yaml is written last: a directory that has it is a run. Where a run is continued with
    other settings of those that may differ, they stand in it from then on. environment.json gains
    a session when a run is continued with other versions, code or hardware.
    """
    here = describe_environment()
    begun = run.study.exists()
    sessions = read_json(run.environment, "environment")["sessions"] if begun else []
    if not begun:
        write_split(run.split, cohort.split)
    if here not in sessions:
        content = {**_hashes(cohort, study, folder), "sessions": [*sessions, here]}
        write_json(run.environment, "environment", content)
    now = relocate(study, folder, run.root)
    if not begun or read_study(run.study) != now:
        write_text(run.study, now.as_yaml())
    return sorted(_differences(sessions[-1], here)) if sessions else []


def _hashes(cohort: Cohort, study: Study, folder: Path) -> dict[str, str | None]:
    """Return what must not change while a run is continued.

    model.json of a first step holds the digests of all its models and of their trunk.
    """
    first = None
    if study.transfer is not None:
        about = RunFiles(folder / study.transfer.run).model / "model.json"
        first = sha256_of(about) if about.is_file() else "no model"
    return {
        "first_step_sha256": first,
        "cohort_sha256": cohort.table_sha256,
        "split_sha256": cohort.split.sha256,
        "images_sha256": cohort.images_sha256,
    }


def _refuse_differences(run: RunFiles, begun: Study, wanted: Study) -> None:
    before, after = begun.model_dump(by_alias=True), wanted.model_dump(by_alias=True)
    found = _differences(before, after)
    different = [f"{name} ({old} -> {new})" for name, (old, new) in found.items()]
    if found.keys() - MAY_DIFFER:
        raise RefusedError(
            str(run.root),
            f"holds a run of another study: {', '.join(different)}",
            "Give the study another name, or choose another folder with --out",
        )


def _differences(before: Any, after: Any, name: str = "") -> dict[str, tuple[Any, Any]]:
    """Return what differs between two nested mappings, by dotted name."""
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        found: dict[str, tuple[Any, Any]] = {}
        for key in before.keys() | after.keys():
            dotted = f"{name}.{key}" if name else str(key)
            found |= _differences(before.get(key), after.get(key), dotted)
        return found
    return {} if before == after else {name: (before, after)}
