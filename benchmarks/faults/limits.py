"""Faults of the machine: a full disk, no more memory, storage that goes away and comes back."""

from __future__ import annotations

import resource
import time
from pathlib import Path

from benchmarks.faults.scene import AGAIN, Scene
from spaces import errors

EPOCHS_BEFORE = 4
GONE_SECONDS = 5.0
ROOM = 40
RAYS_LOG = "ray_log_sink"
SPARE_BYTES = 1_000_000


def disk_full_for_a_trial(scene: Scene) -> None:
    """The process of a trial can make no file longer, by RLIMIT_FSIZE; the command must stop."""
    driver = scene.start()
    scene.until_epochs(driver, EPOCHS_BEFORE)
    scene.strike()
    for pid in {note["pid"] for note in scene.notes()}:
        _limit(pid, resource.RLIMIT_FSIZE, 1)
    scene.finish(driver, errors.BAD_INPUT, "cannot be written")
    scene.go_on()


def disk_full_for_the_driver(scene: Scene) -> None:
    """The command can make no file longer: the line that it writes is torn.

    The limit meets Ray's log in the scratch folder, too, where a full disk need not; Ray says so.
    """
    driver = scene.start()
    scene.until_epochs(driver, EPOCHS_BEFORE)
    scene.strike()
    most = scene.run.trials.stat().st_size + ROOM
    _limit(driver.process.pid, resource.RLIMIT_FSIZE, most)
    scene.finish(driver, errors.BAD_INPUT, "cannot be written", apart=RAYS_LOG)
    scene.go_on()


def out_of_memory(scene: Scene) -> None:
    """The process of a trial gets no more memory, by RLIMIT_AS.

    Whether it can still say so or dies, the trial must end with a reason or begin again.
    """
    driver = scene.start()
    scene.until_epochs(driver, EPOCHS_BEFORE)
    scene.strike()
    pid = scene.notes()[-1]["pid"]
    _limit(pid, resource.RLIMIT_AS, _size(pid) + SPARE_BYTES)
    driver.wait(120.0, scene.look)
    failed = [event for event in scene.events("ended") if event["state"] == "failed"]
    code = errors.SOME_TRIALS_FAILED if failed else errors.DONE
    scene.broken += driver.complaints(code, "")
    scene.expect(failed or scene.events("lost"), "nothing says that memory was short")


def storage_gone(scene: Scene) -> None:
    """The run directory is not there for five seconds, as when a server restarts."""
    driver = scene.start()
    scene.until_epochs(driver, EPOCHS_BEFORE)
    scene.strike()
    away = scene.run.root.with_name("away")
    scene.run.root.rename(away)
    time.sleep(GONE_SECONDS)
    ghost = scene.run.root.exists()
    scene.expect(not ghost, "a new run directory was made where the storage had been")
    if ghost:
        scene.run.root.rename(scene.run.root.with_name("ghost"))
    away.rename(scene.run.root)
    code = driver.wait(120.0, scene.look)
    if code == errors.DONE:
        scene.broken += driver.complaints(errors.DONE, "")
        return
    scene.noticed()
    scene.broken += driver.complaints(errors.BAD_INPUT, AGAIN)
    scene.go_on()


def _limit(process: int, which: int, most: int) -> None:
    """Lower a soft limit of another process; the hard one stays."""
    _, hard = resource.prlimit(process, which)
    resource.prlimit(process, which, (most, hard))


def _size(process: int) -> int:
    """Return the bytes of address space of a process."""
    return int(Path(f"/proc/{process}/statm").read_text().split()[0]) * resource.getpagesize()
