"""Faults of the machine: a full disk, no more memory, storage that goes away and comes back."""

from __future__ import annotations

import resource
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from benchmarks.faults.driver import StuckError
from benchmarks.faults.scene import COHORT, Scene
from spaces import errors

EPOCHS_BEFORE = 4
GONE_SECONDS = 5.0
ROOM = 40
RAYS_LOG = "ray_log_sink"
SPARE_BYTES = 1_000_000
PAGE = 4096
OWN_DISK = 'mount -t tmpfs -o size=16m none "$1" && cp -a "$2/." "$1" && echo ready && cat'


def disk_full_for_the_driver(scene: Scene) -> None:
    """The command can make no file longer: the line that it writes is torn.

    The limit meets Ray's log in the scratch folder, too, where a full disk need not; Ray says so.
    """
    driver = scene.start()
    scene.until_epochs(driver, EPOCHS_BEFORE)
    scene.strike()
    most = scene.run.trials.stat().st_size + ROOM
    limit(driver.process.pid, resource.RLIMIT_FSIZE, most)
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
    limit(pid, resource.RLIMIT_AS, size_of(pid) + SPARE_BYTES)
    driver.wait(120.0, scene.look)
    failed = [event for event in scene.events("ended") if event["state"] == "failed"]
    code = errors.SOME_TRIALS_FAILED if failed else errors.DONE
    scene.broken += driver.complaints(code, "trials failed: " if failed else "")
    scene.expect(failed or scene.events("lost"), "nothing says that memory was short")


def storage_gone(scene: Scene) -> None:
    """The run directory is not there for five seconds, as when a server restarts."""
    _gone(scene, scene.run.root, errors.BAD_INPUT, "the same command goes on")


def bank_gone(scene: Scene) -> None:
    """The same of the feature bank; whoever cannot wait for it says so."""
    _gone(scene, scene.folder / COHORT / "banks", errors.REFUSED, "bank: a part cannot be read")


def _gone(scene: Scene, folder: Path, code: int, says: str) -> None:
    driver = scene.start()
    scene.until_epochs(driver, EPOCHS_BEFORE)
    scene.strike()
    away = folder.with_name("away")
    folder.rename(away)
    time.sleep(GONE_SECONDS)
    ghost = folder.exists()
    scene.expect(not ghost, f"{folder.name} was made anew where the storage had been")
    if ghost:
        folder.rename(folder.with_name("ghost"))
    away.rename(folder)
    if driver.wait(120.0, scene.look) == errors.DONE:
        scene.broken += driver.complaints(errors.DONE, "")
        return
    scene.noticed()
    scene.broken += driver.complaints(code, says)
    scene.go_on()


def disk_full(scene: Scene) -> None:
    """The disk of the run is full to its last page, for trials and command alike."""
    scene.begin()
    with _own_disk(scene):
        driver = scene.start()
        scene.until_epochs(driver, EPOCHS_BEFORE)
        scene.strike()
        filler = scene.run.root / "filler"
        with filler.open("wb", buffering=0) as file, suppress(OSError):
            while file.write(bytes(PAGE)):
                pass
        scene.finish(driver, errors.BAD_INPUT, "No space left on device")
        filler.unlink()
        scene.go_on()


@contextmanager
def _own_disk(scene: Scene) -> Iterator[None]:
    """Give the run a small disk of its own, in a mount namespace that lasts as long as the block.

    Raises:
        StuckError: this machine gives a process no such namespace.
    """
    root, kept = scene.run.root, scene.folder / "kept"
    root.rename(kept)
    root.mkdir()
    holder = subprocess.Popen(  # noqa: S603  paths of our own
        ["unshare", "-Urm", "sh", "-c", OWN_DISK, "sh", root, kept],  # noqa: S607
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert holder.stdin is not None
    assert holder.stdout is not None
    try:
        if holder.stdout.readline() != "ready\n":
            raise StuckError("no disk of its own: no mount namespaces here, or it is too small")
        inside = ("nsenter", f"--target={holder.pid}", "-U", "-m", "--preserve-credentials")
        scene.before = (*inside, "sh", "-c", 'cd "$0" && exec "$@"', str(scene.folder))
        scene.seen = Path(f"/proc/{holder.pid}/root")
        yield
        shutil.copytree(scene.run.root, root, dirs_exist_ok=True)
    finally:
        scene.before, scene.seen = (), None
        holder.stdin.close()
        holder.wait()


def limit(process: int, which: int, most: int) -> None:
    """Lower a soft limit of another process; the hard one stays."""
    _, hard = resource.prlimit(process, which)
    resource.prlimit(process, which, (most, hard))


def size_of(process: int) -> int:
    """Return the bytes of address space of a process."""
    return int(Path(f"/proc/{process}/statm").read_text().split()[0]) * resource.getpagesize()
