"""One command of polartune in a process of its own, and what the machine holds of it afterwards."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from spaces import errors

SHARED_MEMORY = Path("/dev/shm")  # noqa: S108  where Linux keeps it
EVERY_SECONDS = 0.02


class StuckError(Exception):
    """Something that had to happen did not, within its time."""


class Driver:
    """A started command, the head of a process group as in a terminal.

    Attributes:
        process: the command.
        said: the file that holds its stderr.
    """

    def __init__(
        self,
        words: Sequence[str],
        *,
        folder: Path,
        environment: Mapping[str, str],
        number: int,
        before: Sequence[str] = (),
    ) -> None:
        self.said = folder / f"stderr{number}"
        self.shown = folder / f"stdout{number}"
        with self.shown.open("w") as out, self.said.open("w") as err:
            self.process = subprocess.Popen(  # noqa: S603  our own interpreter
                [*before, sys.executable, "-m", *words],
                cwd=folder,
                env=dict(environment),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                start_new_session=True,
            )

    @property
    def is_over(self) -> bool:
        """Whether it has ended."""
        return self.process.poll() is not None

    def send(self, number: signal.Signals, *, group: bool = False) -> None:
        """Send a signal, to the whole group as a terminal does or to the command alone."""
        if group:
            os.killpg(self.process.pid, number)
        else:
            self.process.send_signal(number)

    def wait(self, seconds: float, look: Callable[[], None] = lambda: None) -> int:
        """Return the exit code; call ``look`` while it runs.

        Raises:
            StuckError: it did not end in time.
        """
        end = time.monotonic() + seconds
        while not self.is_over:
            if time.monotonic() > end:
                raise StuckError(f"the command did not end within {seconds:g} s")
            look()
            time.sleep(EVERY_SECONDS)
        look()
        return int(self.process.returncode)

    def complaints(self, code: int, says: str, *, apart: str = "") -> list[str]:
        """Return how its end differs from an expected one.

        Args:
            code: the documented exit code.
            says: what the one line on stderr must contain; done, it must say nothing.
            apart: lines with this are not counted.
        """
        found = []
        lines = self.said.read_text(encoding="utf-8", errors="replace").splitlines()
        lines = [line for line in lines if not apart or apart not in line]
        if self.process.returncode != code:
            found.append(f"exit code {self.process.returncode}, not {code}")
        if code == errors.DONE and not says:
            if lines:
                found.append(f"said on stderr: {lines[0][:100]}")
        elif code >= 0 and len(lines) != 1:
            found.append(f"{len(lines)} lines on stderr, not one")
        elif code >= 0 and says not in lines[0]:
            found.append(f"said: {lines[0][:120]}")
        return found


def processes_of(mark: str) -> list[int]:
    """Return the living processes with ``mark`` in their environment, zombies left out."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            if mark.encode() in (entry / "environ").read_bytes():
                state = (entry / "stat").read_text().rpartition(")")[2].split()[0]
                if state != "Z":
                    found.append(int(entry.name))
        except OSError:
            continue
    return found


def named(processes: Sequence[int], word: str) -> list[int]:
    """Return those whose command line contains a word."""
    found = []
    for process in processes:
        try:
            line = Path(f"/proc/{process}/cmdline").read_bytes()
        except OSError:
            continue
        if word.encode() in line:
            found.append(process)
    return found


def end_all(processes: Sequence[int]) -> None:
    """Kill processes that we started and that are left."""
    for process in processes:
        try:
            os.kill(process, signal.SIGKILL)
        except ProcessLookupError:
            continue


def shared_memory(processes: Iterable[int]) -> set[tuple[str, int]]:
    """Return device and inode of the shared memory that processes have mapped.

    Ray deletes its file at once, so that the name says nothing; the memory stays while mapped.
    """
    found = set()
    for process in processes:
        try:
            lines = Path(f"/proc/{process}/maps").read_text().splitlines()
        except OSError:
            continue
        for line in lines:
            if str(SHARED_MEMORY) in line or "plasma" in line:
                _, _, _, device, inode, _ = line.split(maxsplit=5)
                found.add((device, int(inode)))
    return found


def everybody() -> list[int]:
    """Return every process of this machine that can be seen."""
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]


def named_memory() -> set[tuple[str, int]]:
    """Return device and inode of the shared memory that has a name."""
    found = set()
    for path in SHARED_MEMORY.iterdir() if SHARED_MEMORY.is_dir() else ():
        with suppress(OSError):
            status = path.stat()
            device = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}"
            found.add((device, status.st_ino))
    return found
