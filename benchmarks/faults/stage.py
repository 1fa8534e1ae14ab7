"""What every scene begins with: the small study, undisturbed to its end or cut off half way."""

from __future__ import annotations

import shutil
import signal
from dataclasses import dataclass
from pathlib import Path

import yaml
from rich.console import Console

from analysis.choose.select import select
from benchmarks.faults.driver import StuckError, end_all
from benchmarks.faults.scene import COHORT, NAME, NOTING, PATIENCE, PLAIN, STUDY, Scene
from cohort.drawing.phantom import draw_phantom
from spaces import errors
from spaces.run_files import RunFiles

PATIENTS, SIZE = 80, 32
CONTENT = {
    "name": NAME,
    "cohort": {
        "path": f"{COHORT}/cohort.csv",
        "inputs": ["reserve"],
        "target": "impaired_any",
        "derive": {"impaired_any": {"below": 2.0}},
        "colour_scale": "fixed",
        "split": {"test": 20, "stratify": True},
    },
    "network": {"backbone": "efficientnet_lite0", "image_size": SIZE},
    "augmentation": {"views": 2},
    "space": {"augmentation_strength": {"choices": [0.0, 1.0]}},
    "training": {"epochs": 12, "batch_size": 6},
    "search": {"trials": 6, "generation": 2, "grace": 3, "eta": 2},
    "resources": {"device": "cpu", "slots": 2},
    "evaluation": {"bootstraps": 100, "attention": False, "seeds": 1},
}
SHORTER = {"training": {"epochs": 6, "batch_size": 6}, "search": {"trials": 4, "generation": 2}}
EVERY_EPOCH = -1.0
CHECKPOINTS = 2


@dataclass(frozen=True)
class Stage:
    """A folder to copy.

    Attributes:
        folder: with study.yaml, cohort/ and its bank; with runs/ if the study has begun.
        reference: the undisturbed run.
        unsaved_seconds: as in ``search.run.search``; None for its default.
    """

    folder: Path
    reference: RunFiles
    unsaved_seconds: float | None = None

    def copy(self, folder: Path, *, whole: bool = False) -> Scene:
        """Return a new scene that begins here; ``whole`` as in ``Scene``."""
        shutil.copytree(self.folder, folder, ignore=shutil.ignore_patterns("t", "std*"))
        scene = Scene(folder, self.reference, whole=whole, unsaved_seconds=self.unsaved_seconds)
        scene.keep()
        return scene


def undisturbed(
    folder: Path, terminal: Console, *, whole: bool, short: bool = False
) -> tuple[Stage, Stage]:
    """Run the study as a user does; return it, and a stage with its cohort and filled bank only.

    Args:
        folder: for this and all scenes.
        terminal: where the folder of the run is named.
        whole: to the report, and not just to the last trial.
        short: fewer trials and epochs.

    Raises:
        StuckError: not even that ended well.
    """
    reference, stage = folder / "reference", folder / "new"
    run = RunFiles(reference / "runs" / NAME)
    if not stage.exists():
        shutil.rmtree(reference, ignore_errors=True)
        reference.mkdir()
        draw_phantom(
            reference / COHORT, patients=PATIENTS, seed=1, size=SIZE, inputs=["reserve"],
            ceiling=False,
        )  # fmt: skip
        content = CONTENT | (SHORTER if short else {})
        (reference / STUDY).write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
        driver = Scene(reference, run, whole=whole).start(module=PLAIN)
        driver.wait(PATIENCE)
        complaints = driver.complaints(errors.DONE, "")
        if complaints:
            raise StuckError(f"the undisturbed run: {'; '.join(complaints)}")
        select(run)
        shutil.copytree(reference, stage, ignore=shutil.ignore_patterns("t", "std*", "runs"))
    terminal.print(f"Undisturbed: {run.root}", soft_wrap=True, highlight=False)
    return Stage(reference, run), Stage(stage, run)


def half_done(folder: Path, new: Stage) -> Stage:
    """Run it with a checkpoint after every epoch, and kill the command with trials in training."""
    stage = Stage(folder / "half", new.reference, EVERY_EPOCH)
    if not stage.folder.exists():
        scene = Stage(new.folder, new.reference, EVERY_EPOCH).copy(folder / "halving")
        driver = scene.start(module=NOTING)
        scene.until(lambda: _has_all_kinds(scene), driver, "trial in training beside ended ones")
        driver.send(signal.SIGKILL, group=False)
        driver.wait(5.0)
        end_all(scene.processes())  # Ray's agents would stay for a minute
        scene.folder.rename(stage.folder)
    return stage


def _has_all_kinds(scene: Scene) -> bool:
    """Return whether a trial has ended, and another trains and has checkpoints."""
    ended = {event["number"] for event in scene.events("ended")}
    folders = [path for path in (scene.run.root / "checkpoints").glob("*") if path.is_dir()]
    saved = {int(path.name): len(list(path.glob("*.json"))) for path in folders}
    return bool(ended) and any(
        count >= CHECKPOINTS for number, count in saved.items() if number not in ended
    )
