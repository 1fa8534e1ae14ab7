"""What must not change between two runs of a study, changed: refused until it is as it was."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.faults.files import refused_until_restored
from benchmarks.faults.scene import COHORT, HOME, STUDY, Scene
from spaces import errors
from spaces.environment import PACKAGES


def cohort_changed(scene: Scene) -> None:
    """A patient's segment value changes in the table."""
    table = scene.folder / COHORT / "cohort.csv"
    refused_until_restored(scene, table, _change_a_digit, "the cohort table changed")


def _change_a_digit(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    at = text.rindex(".") + 1
    path.write_text(f"{text[:at]}{9 - int(text[at])}{text[at + 1 :]}", encoding="utf-8")


def images_changed(scene: Scene) -> None:
    """A pixel changes in the map of every patient."""
    scene.strike()
    cohort, copied = scene.folder / COHORT, scene.folder / "kept"
    shutil.copytree(cohort, copied)
    for path in cohort.rglob("*.png"):
        with Image.open(path) as image:
            pixels = np.asarray(image.convert("RGB")).copy()
        middle = len(pixels) // 2
        pixels[middle, middle] ^= 1
        Image.fromarray(pixels).save(path)
    scene.finish(scene.start(), errors.REFUSED, "an image of a development patient changed")
    shutil.rmtree(cohort)
    copied.rename(cohort)
    scene.go_on()


def study_changed(scene: Scene) -> None:
    """The seed changes in the study file."""
    path = scene.folder / STUDY

    def change(_: Path) -> None:
        scene.change_study(seed=7)

    refused_until_restored(scene, path, change, "seed (0 -> 7)")


def code_changed(scene: Scene) -> None:
    """A line of the training code changes, as by an update of polartune."""
    scene.strike()
    home = scene.folder / "code"
    for package in (*PACKAGES, "polartune", "benchmarks"):
        shutil.copytree(HOME / package, home / package)
    with (home / "trainable" / "loss.py").open("a", encoding="utf-8") as file:
        file.write("# changed\n")
    scene.home = home
    scene.finish(scene.start(), errors.REFUSED, "polartune's code changed since the first trial")
    scene.home = HOME
    scene.go_on()
