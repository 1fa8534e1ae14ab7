"""A study of the 60 small phantoms of ``conftest.phantom``, and run directories of it."""

from __future__ import annotations

from pathlib import Path

from cohort.split import write_split
from cohort.table import read_cohort
from spaces.run_files import RunFiles
from spaces.study import Study

PATIENTS = 60
SIZE = 32


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


def prepare_run(folder: Path, table: Path, name: str = "small", **changes: object) -> RunFiles:
    """Write a run directory of the small study, ready to be searched."""
    run = RunFiles(folder / name)
    run.root.mkdir()
    changes = {"bank.path": str(folder / "banks")} | changes
    study = Study.model_validate(small_study(table, **changes))
    run.study.write_text(study.as_yaml())
    cohort = read_cohort(study, run.root, verify_images=False, create_key=True)
    write_split(run.split, cohort.split)
    return run
