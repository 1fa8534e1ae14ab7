"""Faults of processes: killed, stopped, interrupted, terminated, and two where one belongs."""

from __future__ import annotations

import os
import random
import signal
import time

from benchmarks.faults.driver import StuckError, named
from benchmarks.faults.problems import Injected
from benchmarks.faults.scene import AGAIN, Scene
from spaces import errors

EPOCHS_BEFORE = 4
KILLS = 10
STALLED_AFTER = 3.0
HEAD = "gcs_server"


def trial_killed(scene: Scene) -> None:
    """SIGKILL to the process of a trial in training; the run goes on by itself."""
    driver = scene.start()
    scene.until_epochs(driver, EPOCHS_BEFORE)
    scene.strike()
    os.kill(scene.notes()[-1]["pid"], signal.SIGKILL)
    scene.finish(driver)
    scene.expect(scene.events("lost"), "no event says that a process was lost")


def reused_process_killed(scene: Scene) -> None:
    """The process dies between two trials, when it waits to be given the next."""
    driver = scene.start()
    scene.until(lambda: scene.events("ended"), driver, "trial that ended")
    scene.strike()
    for pid in {note["pid"] for note in scene.notes()}:
        os.kill(pid, signal.SIGKILL)
    scene.finish(driver)


def trial_stopped(scene: Scene) -> None:
    """SIGSTOP to the process of a trial: it hangs, with all its threads."""
    scene.change_study(search__stalled_after=STALLED_AFTER)
    driver = scene.start()
    scene.until_epochs(driver, EPOCHS_BEFORE)
    scene.strike()
    os.kill(scene.notes()[-1]["pid"], signal.SIGSTOP)
    scene.finish(driver)
    reasons = [event["reason"] for event in scene.events("lost")]
    scene.expect(any("stalled" in one for one in reasons), f"reasons {reasons}")


def slow_to_clean_up(scene: Scene) -> None:
    """Every trial that ends, stopped ones too, takes five seconds to let go."""
    scene.inject(Injected("slow"))
    driver = scene.start()
    scene.strike()
    scene.finish(driver)
    scene.expect(not scene.events("lost"), "a slow ending was taken for a loss")


def interrupted(scene: Scene) -> None:
    """Ctrl-C, which reaches every process of the terminal."""
    _stopped_in_order(scene, signal.SIGINT, errors.INTERRUPTED, group=True)


def terminated(scene: Scene) -> None:
    """SIGTERM to the command, as a batch system sends it."""
    _stopped_in_order(scene, signal.SIGTERM, errors.TERMINATED, group=False)


def _stopped_in_order(scene: Scene, sent: signal.Signals, code: int, *, group: bool) -> None:
    driver = scene.start()
    scene.until_epochs(driver, EPOCHS_BEFORE)
    scene.strike()
    driver.send(sent, group=group)
    scene.finish(driver, code, AGAIN)
    scene.go_on()


def driver_killed(scene: Scene) -> None:
    """SIGKILL to the command, at a random moment."""
    _killed_again_and_again(scene, 1)


def driver_killed_ten_times(scene: Scene) -> None:
    """The same ten times in one study, at moments from the first import to the last trial."""
    _killed_again_and_again(scene, KILLS)


def _killed_again_and_again(scene: Scene, times: int) -> None:
    draw = random.Random(times)  # noqa: S311  a die, not a secret
    for at in range(times):
        driver = scene.start()
        logged = len(scene.events())
        early = at % 3 == 1
        if early:  # while it still starts, imports or joins its own Ray
            time.sleep(draw.uniform(0.5, 5.0))
        else:
            scene.until(lambda n=logged: len(scene.events()) > n, driver, "new event")  # type: ignore[misc]
            time.sleep(draw.uniform(0.0, 0.3))
        if driver.is_over:
            raise StuckError("the study was over before the command could be killed")
        scene.strike()
        driver.send(signal.SIGKILL)
        driver.wait(5.0)
        scene.noticed()
    scene.go_on()


def head_killed(scene: Scene) -> None:
    """SIGKILL to the head of Ray; the command may not outlive it, and says so soon."""
    driver = scene.start()
    scene.until_epochs(driver, EPOCHS_BEFORE)
    scene.strike()
    for pid in named(scene.processes(), HEAD):
        os.kill(pid, signal.SIGKILL)
    scene.finish(driver, errors.TERMINATED, "Ray: its gcs_server ended")
    scene.go_on()


def two_drivers(scene: Scene) -> None:
    """The same command a second time, beside the first."""
    driver = scene.start()
    scene.until_epochs(driver, EPOCHS_BEFORE)
    scene.strike()
    second = scene.start()
    second.wait(60.0)
    scene.noticed()
    scene.broken += second.complaints(errors.REFUSED, "another polartune works on this run")
    scene.finish(driver)
