"""What must not change between two runs of a study, changed: refused."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.faults.files import refused
from benchmarks.faults.scene import COHORT, HOME, Scene
from spaces.environment import PACKAGES


def cohort_changed(scene: Scene) -> None:
    """A patient's segment value changes in the table."""
    table = scene.folder / COHORT / "cohort.csv"
    with refused(scene, "the cohort table changed"):
        _change_a_digit(table)


def _change_a_digit(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    at = text.rindex(".") + 1
    path.write_text(f"{text[:at]}{9 - int(text[at])}{text[at + 1 :]}", encoding="utf-8")


def images_changed(scene: Scene) -> None:
    """A pixel changes in the map of every patient."""
    with refused(scene, "an image of a development patient changed"):
        for path in (scene.folder / COHORT).rglob("*.png"):
            with Image.open(path) as image:
                pixels = np.asarray(image.convert("RGB")).copy()
            middle = len(pixels) // 2
            pixels[middle, middle] ^= 1
            Image.fromarray(pixels).save(path)


def study_changed(scene: Scene) -> None:
    """The seed changes in the study file."""
    with refused(scene, "seed (0 -> 7)"):
        scene.change_study(seed=7)


def code_changed(scene: Scene) -> None:
    """A line of the training code changes, as by an update of polartune."""
    home = scene.folder / "code"
    with refused(scene, "polartune's code changed since the first trial"):
        for package in (*PACKAGES, "polartune", "benchmarks"):
            shutil.copytree(HOME / package, home / package)
        with (home / "trainable" / "loss.py").open("a", encoding="utf-8") as file:
            file.write("# changed\n")
        scene.home = home
