"""A folder in which the plain Ray Tune script of ``peer_script`` runs."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.faults import peer_script
from benchmarks.faults.driver import Driver, StuckError
from benchmarks.faults.scene import HOME, read_lines
from benchmarks.measuring import wait_for

SCRIPT = "benchmarks.faults.peer_script"
CUT_SECONDS = 60.0
EPOCHS_BEFORE = 4


class NotPlayedError(Exception):
    """A fault could not be done to the script."""


@dataclass
class Peer:
    """A folder in which the script runs.

    Attributes:
        codes: exit code of each command that ended by itself.
        more: in the environment of the next commands.
    """

    folder: Path
    codes: list[int] = field(default_factory=list)
    more: dict[str, str] = field(default_factory=dict)
    _count: int = 0

    @property
    def storage(self) -> Path:
        """Where Tune keeps the experiment."""
        return self.folder / "ray" / peer_script.NAME

    @property
    def mark(self) -> str:
        """What in the environment marks its processes."""
        return f"TMPDIR={self.folder / 't'}"

    @property
    def environment(self) -> dict[str, str]:
        """Return the environment of its processes."""
        scratch = self.folder / "t"
        scratch.mkdir(parents=True, exist_ok=True)
        return os.environ | {
            "PYTHONPATH": str(HOME),
            "TMPDIR": str(scratch),
            "RAY_TMPDIR": str(scratch),
            "RAY_USAGE_STATS_ENABLED": "0",
            "OMP_NUM_THREADS": "1",
            **self.more,
        }

    def start(self) -> Driver:
        """Start the script, or start it again."""
        self._count += 1
        return Driver(
            [SCRIPT, str(self.folder)],
            folder=self.folder,
            environment=self.environment,
            number=self._count,
        )

    def begin(self, *, notes: int = EPOCHS_BEFORE) -> Driver:
        """Start it and wait until so many epochs more are computed."""
        driver = self.start()
        goal = len(self.notes()) + notes
        if not wait_for(lambda: len(self.notes()) >= goal or driver.is_over, seconds=CUT_SECONDS):
            raise StuckError("it did not begin")
        return driver

    def finish(self, driver: Driver, *, within: float = CUT_SECONDS) -> None:
        """Wait for the end of a command; from now on it has a minute."""
        self.codes.append(driver.wait(within))

    def go_on(self) -> None:
        """Start the same script again, which restores, and wait for its end."""
        (self.folder / peer_script.RESULT).unlink(missing_ok=True)
        self.finish(self.start())

    def inject(self, kind: str, rate: float | None) -> None:
        """Let the trial with one learning rate go wrong, or all."""
        text = json.dumps({"kind": kind, "rate": rate})
        (self.folder / peer_script.INJECTED).write_text(text, encoding="utf-8")

    def notes(self) -> list[dict[str, Any]]:
        """Return what was computed."""
        return read_lines(self.folder / peer_script.NOTES)

    def result(self) -> dict[str, Any] | None:
        """Return what the script wrote at its end; None if it never came there."""
        path = self.folder / peer_script.RESULT
        return dict(json.loads(path.read_text(encoding="utf-8"))) if path.exists() else None
