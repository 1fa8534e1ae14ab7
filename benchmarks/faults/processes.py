"""Faults of processes: killed, stopped, interrupted, terminated, and two where one belongs."""

from __future__ import annotations

import os
import random
import signal
import time
from contextlib import suppress
from pathlib import Path

from benchmarks.faults.driver import StuckError, named
from benchmarks.faults.problems import SLEEP_SECONDS, Injected
from benchmarks.faults.scene import AGAIN, Scene
from spaces import errors

EPOCHS_BEFORE = 4
KILLS = 10
STALLED_AFTER = 3.0
HEAD = "gcs_server"
VICTIMS = ("", HEAD, "/raylet/raylet")
UNSAVED_SECONDS, EPOCHS_SAVED = 1.0, 7


def trial_killed(scene: Scene) -> None:
    """SIGKILL to the process of a trial in training; the run goes on by itself."""
    driver = scene.start()
    scene.until_epochs(driver, EPOCHS_BEFORE)
    scene.strike()
    os.kill(scene.notes()[-1]["pid"], signal.SIGKILL)
    scene.finish(driver)
    scene.expect(scene.events("lost"), "no event says that a process was lost")


def reused_process_killed(scene: Scene) -> None:
    """The process dies between two trials, when it waits to be given the next.

    The other trial of its generation sleeps in every epoch, so that there is time to wait.
    """
    scene.inject(Injected("sleep", scene.configuration(1)))
    driver = scene.start()
    scene.until(lambda: _waiting(scene), driver, "process that waits")
    [pid] = _waiting(scene)
    scene.strike()
    os.kill(pid, signal.SIGKILL)
    scene.finish(driver)
    after = {note["pid"] for note in scene.notes()} - {pid}
    scene.expect(
        scene.events("lost") or len(after) > 1, "the dead process was neither lost nor replaced"
    )


def _waiting(scene: Scene) -> set[int]:
    """Return the processes whose trials have ended, while another trial is in training."""
    ended = {event["number"] for event in scene.events("ended")}
    asked = {event["number"]: event["config"] for event in scene.events("asked")}
    if not ended or ended >= asked.keys():
        return set()
    last = {note["pid"]: note for note in scene.notes()}
    return {
        pid
        for pid, note in last.items()
        if any(asked[number].items() <= note.items() for number in ended)
    }


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
    """Every trial that ends, stopped ones too, takes seconds to let go."""
    scene.inject(Injected("slow"))
    driver = scene.start()
    scene.strike()
    scene.finish(driver)
    scene.expect(not scene.events("lost"), "a slow ending was taken for a loss")
    stopped = [event for event in scene.events("ended") if event["state"] == "stopped"]
    scene.expect(stopped, "no trial was stopped, so none was slow to stop")


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
    """SIGKILL to the command, after two seconds of training of which one may be unsaved."""
    scene.inject(*(Injected("sleep", scene.configuration(number)) for number in (0, 1)))
    scene.unsaved_seconds, scene.most_lost = UNSAVED_SECONDS, UNSAVED_SECONDS + 2 * SLEEP_SECONDS
    driver = scene.start()
    scene.until(
        lambda: any(event["epoch"] >= EPOCHS_SAVED for event in scene.events("epoch")),
        driver,
        f"epoch {EPOCHS_SAVED} of a trial",
    )
    scene.strike()
    driver.send(signal.SIGKILL)
    driver.wait(5.0)
    scene.noticed()
    scene.go_on()


def killed_ten_times(scene: Scene) -> None:
    """Driver, head and raylet in turn, ten times in one study, from the first import on."""
    scene.inject(Injected("sleep"))  # else it would be over before
    draw = random.Random(KILLS)  # noqa: S311  a die, not a secret
    for at in range(KILLS):
        driver = scene.start()
        logged, victim = len(scene.events()), VICTIMS[at % len(VICTIMS)]
        if at % 6 == 3:  # while it still starts, imports or joins its own Ray
            time.sleep(draw.uniform(0.5, 5.0))
        else:
            scene.until(lambda n=logged: len(scene.events()) > n, driver, "new event")  # type: ignore[misc]
            time.sleep(draw.uniform(0.0, 0.3))
        if driver.is_over:
            raise StuckError("the study was over before the command could be killed")
        scene.strike()
        if victim:
            kill(scene, victim)
            scene.finish(driver, errors.TERMINATED, f"Ray: its {Path(victim).name} ended")
        else:
            driver.send(signal.SIGKILL)
            driver.wait(5.0)
        scene.noticed()
    scene.go_on()


def kill(scene: Scene, name: str) -> None:
    """SIGKILL to the processes of a scene with a name."""
    for pid in named(scene.processes(), name):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def head_killed(scene: Scene) -> None:
    """SIGKILL to the head of Ray; the command may not outlive it, and says so soon."""
    driver = scene.start()
    scene.until_epochs(driver, EPOCHS_BEFORE)
    scene.strike()
    kill(scene, HEAD)
    scene.finish(driver, errors.TERMINATED, f"Ray: its {HEAD} ended")
    scene.go_on()


def two_drivers(scene: Scene) -> None:
    """The same command a second time, beside the first."""
    driver = scene.start()
    scene.until_epochs(driver, EPOCHS_BEFORE)
    driver.send(signal.SIGSTOP)  # however slow this machine is, the first has not ended yet
    scene.strike()
    second = scene.start()
    second.wait(60.0)
    scene.noticed()
    driver.send(signal.SIGCONT)
    scene.broken += second.complaints(errors.REFUSED, "another polartune works on this run")
    scene.finish(driver)
