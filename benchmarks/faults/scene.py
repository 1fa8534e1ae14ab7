"""The stage of one fault: a folder with the small study, the commands in it, and a clock."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import yaml

from benchmarks.faults.command import UNSAVED
from benchmarks.faults.driver import Driver, StuckError, processes_of, shared_memory
from benchmarks.faults.problems import INJECTED, NOTES, Injected
from benchmarks.phantom_runs import begin_run
from spaces.run_files import RunFiles
from spaces.study import read_study

HOME = Path(__file__).resolve().parents[2]
NAME, STUDY, COHORT = "small", "study.yaml", "cohort"
PLAIN, NOTING = "polartune", "benchmarks.faults.command"
PATIENCE, WATCH_SECONDS = 120.0, 1.0
MOST_LOST_SECONDS = 60.0
AGAIN = "The same command goes on from here"


@dataclass
class Clock:
    """When a fault was injected, noticed and overcome; seconds of ``time.monotonic``.

    Attributes:
        restarted: when the command was started again; None if it never ended.
    """

    injected: float | None = None
    detected: float | None = None
    restarted: float | None = None
    recovered: float | None = None

    @property
    def detected_after(self) -> float | None:
        """Seconds from the fault to the first sign that the product noticed it."""
        return _between(self.injected, self.detected)

    @property
    def recovered_after(self) -> float | None:
        """Seconds from that sign, or from the new start, to the first new epoch."""
        return _between(self.restarted or self.detected or self.injected, self.recovered)


def _between(begin: float | None, end: float | None) -> float | None:
    return None if begin is None or end is None else max(0.0, end - begin)


@dataclass
class Scene:
    """A folder of its own in which commands run, and what is known of them.

    Attributes:
        folder: holds study.yaml, cohort/ with its bank, runs/ and t/, Ray's scratch.
        reference: the undisturbed run.
        broken: what did not hold so far.
        kept: the whole lines of trials.jsonl when the fault came; they must stay.
        whole: whether the command is ``run``, to the report, or ``search``, to the last trial.
        home: the folder of our packages.
        unsaved_seconds: as in ``search.run.search``; None for its default.
        most_lost: how much of one trial may be computed again, in seconds.
        before: words before each command.
        seen: the root under which this process sees the run; None if there is one tree for all.
        memory: the shared memory that our processes had; see ``driver.shared_memory``.
    """

    folder: Path
    reference: RunFiles
    clock: Clock = field(default_factory=Clock)
    broken: list[str] = field(default_factory=list)
    kept: str = ""
    whole: bool = False
    home: Path = HOME
    unsaved_seconds: float | None = None
    more_environment: dict[str, str] = field(default_factory=dict)
    drivers: list[Driver] = field(default_factory=list)
    most_lost: float = MOST_LOST_SECONDS
    before: tuple[str, ...] = ()
    seen: Path | None = None
    memory: set[tuple[str, int]] = field(default_factory=set)
    _watched: float = 0.0
    _after: int = 0
    _hit: set[int] = field(default_factory=set)

    @property
    def run(self) -> RunFiles:
        """The run directory."""
        return RunFiles((self.seen or Path("/")) / self.folder.relative_to("/") / "runs" / NAME)

    @property
    def scratch(self) -> Path:
        """Where Ray and others put what is temporary; in the environment it marks our processes."""
        return self.folder / "t"

    @property
    def environment(self) -> dict[str, str]:
        """Return the environment of our processes, by which they are also found again."""
        self.scratch.mkdir(exist_ok=True)
        return os.environ | {
            "PYTHONPATH": str(self.home),
            "TMPDIR": str(self.scratch),
            "COLUMNS": "80",
            "OMP_NUM_THREADS": "1",
            "RAY_USAGE_STATS_ENABLED": "0",
            **({} if self.unsaved_seconds is None else {UNSAVED: str(self.unsaved_seconds)}),
            **self.more_environment,
        }

    def start(self, *more: str, module: str = NOTING) -> Driver:
        """Start the command in the folder, with more words behind it."""
        if not self.whole:
            self.begin()
        words = ("run", STUDY) if self.whole else ("search", f"runs/{NAME}")
        driver = Driver(
            [module, *words, *more],
            folder=self.folder,
            environment=self.environment,
            number=len(self.drivers),
            before=self.before,
        )
        self.drivers.append(driver)
        return driver

    def begin(self) -> None:
        """Make the run directory, as ``polartune run`` begins one; nothing if there is one."""
        if not self.run.study.exists():
            begin_run(read_study(self.folder / STUDY), self.folder, self.run.root)

    def change_study(self, **changes: Any) -> None:
        """Change settings of the study by dotted names, with ``__`` for the dot."""
        path = self.folder / STUDY
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        for dotted, value in changes.items():
            *sections, last = dotted.split("__")
            section = content
            for name in sections:
                section = section.setdefault(name, {})
            section[last] = value
        path.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")

    def inject(self, *faults: Injected) -> None:
        """Let configurations go wrong."""
        self.run.root.parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps([asdict(fault) for fault in faults])
        (self.run.root.parent / INJECTED).write_text(text, encoding="utf-8")

    def events(self, kind: str = "") -> list[dict[str, Any]]:
        """Return the events of trials.jsonl, of one kind or all; damaged lines are left out."""
        found = [event for event in read_lines(self.run.trials) if "event" in event]
        return [event for event in found if event["event"] == (kind or event["event"])]

    def notes(self) -> list[dict[str, Any]]:
        """Return what slots have computed: configuration, epoch, seconds, process."""
        return read_lines(self.run.root.parent / NOTES)

    def until(
        self, condition: Callable[[], Any], driver: Driver | None, what: str, seconds: float = 60.0
    ) -> None:
        """Wait for a moment.

        Raises:
            StuckError: it did not come, or the command ended before.
        """
        end = time.monotonic() + seconds
        while not condition():
            if driver is not None and driver.is_over:
                said = driver.said.read_text(encoding="utf-8", errors="replace")[:200]
                raise StuckError(f"the command ended before {what}: {said}")
            if time.monotonic() > end:
                raise StuckError(f"no {what} within {seconds:g} s")
            self.watch()
            time.sleep(0.01)

    def until_epochs(self, driver: Driver, count: int, seconds: float = 60.0) -> None:
        """Wait until so many epochs are logged beyond those that the clock has seen."""
        goal = len(self.events("epoch")) + count
        self.until(lambda: len(self.events("epoch")) >= goal, driver, f"epoch {goal}", seconds)

    def strike(self) -> None:
        """Say that the fault comes now."""
        self.keep()
        self._after = len(self.events())
        self.clock.injected = time.monotonic()

    def keep(self) -> None:
        """Remember the whole lines of trials.jsonl."""
        text = self.run.trials.read_text(encoding="utf-8") if self.run.trials.exists() else ""
        self.kept = text[: text.rfind("\n") + 1]

    def noticed(self) -> None:
        """Say that the product has noticed."""
        self.clock.detected = self.clock.detected or time.monotonic()

    def watch(self) -> None:
        """Remember, once a second, which shared memory our processes have."""
        now = time.monotonic()
        if now > self._watched + WATCH_SECONDS:
            self._watched = now
            self.memory |= shared_memory(self.processes())

    def look(self) -> None:
        """Read from trials.jsonl whether the fault was noticed, and whether it is overcome."""
        self.watch()
        for event in self.events()[self._after :]:
            kind, number = event["event"], event["number"]
            if kind == "lost" or (kind == "ended" and event["state"] == "failed"):
                self.noticed()
                self._hit.add(number)
            ready = self.clock.restarted or (self.clock.detected and number in self._hit)
            if ready and kind == "epoch" and self.clock.recovered is None:
                self.clock.recovered = time.monotonic()
            self._after += 1

    def finish(self, driver: Driver, code: int = 0, says: str = "", *, apart: str = "") -> None:
        """Follow a command to its end, which must be the documented one; see ``complaints``."""
        driver.wait(PATIENCE, self.look)
        if code != 0:
            self.noticed()
        self.broken += driver.complaints(code, says, apart=apart)

    def go_on(self, code: int = 0, says: str = "", *more: str) -> Driver:
        """Start the same command again and follow it to its end."""
        self.clock.restarted = time.monotonic()
        self._after = len(self.events())
        driver = self.start(*more)
        self.finish(driver, code, says)
        return driver

    def expect(self, holds: object, otherwise: str) -> None:
        """Note what did not hold."""
        if not holds:
            self.broken.append(otherwise)

    def processes(self) -> list[int]:
        """Return every living process of this scene."""
        return processes_of(f"TMPDIR={self.scratch}")

    def configuration(self, number: int) -> dict[str, float]:
        """Return the configuration that trial ``number`` has in the undisturbed run."""
        asked = [
            event for event in read_lines(self.reference.trials) if event.get("number") == number
        ]
        return dict(asked[0]["config"])


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Return the whole lines of a JSON-lines file that can be read; a missing file has none."""
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return []
    found: list[dict[str, Any]] = []
    for line in text.split("\n")[:-1]:
        try:
            content = json.loads(line)
        except ValueError:
            continue
        if isinstance(content, dict):
            found.append(content)
    return found
