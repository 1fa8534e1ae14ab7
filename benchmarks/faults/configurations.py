"""Faults of configurations: what no signal causes, but a learning rate or a bug does."""

from __future__ import annotations

from benchmarks.faults.driver import Driver
from benchmarks.faults.problems import IMPOSSIBLE, MEMORY, Injected
from benchmarks.faults.scene import STUDY, Scene
from spaces import errors
from spaces.study import read_study

STALLED_AFTER = 3.0


def diverges_at_once(scene: Scene) -> None:
    """The very first trial diverges: its loss is NaN, by a learning rate of 1e30."""
    _one_fails(scene, "non-finite loss at epoch 1", Injected("diverge", scene.configuration(0)))


def infinite_later(scene: Scene) -> None:
    """Another one reports an infinite loss, after epochs that were sound."""
    _one_fails(
        scene, "non-finite loss at epoch 3", Injected("infinite", scene.configuration(1), epoch=3)
    )


def always_raises(scene: Scene) -> None:
    """A configuration raises in every attempt."""
    _one_fails(scene, f"ValueError: {IMPOSSIBLE}", Injected("raise", scene.configuration(1)))


def out_of_gpu_memory(scene: Scene) -> None:
    """A configuration raises what CUDA raises when a GPU's memory is full."""
    fault = Injected("memory", scene.configuration(1), epoch=2)
    _one_fails(scene, f"OutOfMemoryError: {MEMORY}", fault)


def hangs(scene: Scene) -> None:
    """A configuration hangs in every attempt, and the process sleeps on."""
    scene.change_study(search__stalled_after=STALLED_AFTER, search__retries=1)
    fault = Injected("hang", scene.configuration(1), epoch=2)
    _one_fails(scene, "stalled: no progress for 3 s, 2 of 2", fault)


def _one_fails(scene: Scene, reason: str, fault: Injected) -> None:
    trials = read_study(scene.folder / STUDY).search.trials
    scene.inject(fault)
    driver = _started(scene)
    scene.finish(driver, errors.SOME_TRIALS_FAILED, f"1 of {trials} trials failed: {reason}")
    reasons = [event["reason"] for event in scene.events("ended") if event["state"] == "failed"]
    scene.expect(len(reasons) == 1 and reasons[0].startswith(reason), f"failed: {reasons}")


def _started(scene: Scene) -> Driver:
    """Start, and strike when trials are asked: their processes may take seconds to start."""
    driver = scene.start()
    scene.until(lambda: scene.events("asked"), driver, "trial that is asked")
    scene.strike()
    return driver


def all_diverge(scene: Scene) -> None:
    """Every configuration diverges, for real: the study's learning rate is 1e30."""
    scene.change_study(space__learning_rate=1e30)
    driver = _started(scene)
    scene.finish(driver, errors.NO_COMPLETE_TRIAL, "is complete")
