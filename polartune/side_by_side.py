"""Several studies at a time on one Ray, where there are more slots than one of them can use.

Each is driven by a process of its own, which keeps its log and its signals to itself. Here they are
begun in their order, their feature banks filled one after the other, and their ends noted.
"""

from __future__ import annotations

import math
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape

from polartune.steps import LOG, continued, driven, fill_bank, progress_bar, retrain, search
from spaces.errors import NoCompleteTrialError, NoModelError
from spaces.trial_log import read_trials

if TYPE_CHECKING:
    from rich.progress import TaskID

    from polartune.turns import Turn
    from search.driver import Driver
    from search.place import Place
    from spaces.study import Study

LOOK_SECONDS = 1.0
STOP_SECONDS = 20.0
# A study's driver needs a tenth of a core (docs/scale.md), and most of a gigabyte.
DRIVERS_A_CORE = 2

NO_MODEL = (NoModelError, NoCompleteTrialError)
"""What one study lacks. Storage that takes no more, say, is lacked by all."""


def studies_at_once(study: Study, slots: int) -> int:
    """Return how many studies like this one it takes to use all slots, at least one."""
    section = study.search
    uses = section.trials
    if section.order == "reproducible":
        uses = min(section.generation, uses)
    most = DRIVERS_A_CORE * (os.cpu_count() or 1)
    return max(1, min(math.ceil(slots / uses), most))


class Lane:
    """The studies of one command that have no model yet, as many at work as slots allow.

    Attributes:
        without: why a study has no model, by its name.
    """

    def __init__(self, folder: Path, turns: Sequence[Turn], place: Place, console: Console) -> None:
        self.without: dict[str, str] = {}
        self._folder = folder
        self._waiting = list(turns)
        self._place = place
        self._console = console
        self._working: dict[str, tuple[Turn, Driver]] = {}

    def run(self) -> None:
        """Train all of them; what stops one study, or those that start from it, stops no other."""
        bars = _Bars(len(self._waiting), self._console)
        with self._stopping(), interrupts_kept() as raise_kept, bars:
            while self._waiting or self._working:
                raise_kept()
                for turn in self._next():
                    with bars.hidden():
                        self._begin(turn)
                for turn in self._ended():
                    self._note(turn)
                bars.show([turn for turn, _ in self._working.values()], len(self._waiting))
                time.sleep(LOOK_SECONDS)

    @contextmanager
    def _stopping(self) -> Iterator[None]:
        """Leave no study at work behind."""
        try:
            yield
        finally:
            for _, driver in self._working.values():
                driver.stop(within=STOP_SECONDS)

    def _next(self) -> Iterator[Turn]:
        """Give the studies that can begin now, in their order."""
        for turn in list(self._waiting):
            most = studies_at_once(turn.study, self._place.slots_now())
            unfinished = {its.study.name for its in self._waiting} | self._working.keys()
            if turn.follows in self.without:
                self._waiting.remove(turn)
                self._fail(turn, f"starts from {turn.follows}")
            elif len(self._working) < most and turn.follows not in unfinished:
                self._waiting.remove(turn)
                yield turn

    def _begin(self, turn: Turn) -> None:
        try:
            with driven(turn.study, self._folder, turn.run, turn.cohort):
                fill_bank(turn.run, self._place, self._console)
        except NO_MODEL as error:
            self._fail(turn, f"{error.where}: {error.problem}")
            return
        self._console.print(f"begins    {escape(turn.words)}", highlight=False, soft_wrap=True)
        root, patience = str(turn.run.root.resolve()), turn.study.search.stalled_after
        driver = self._place.drive(train_study, (root, self._place, patience))
        self._working[turn.study.name] = (turn, driver)

    def _ended(self) -> list[Turn]:
        return [turn for turn, driver in self._working.values() if driver.has_ended]

    def _note(self, turn: Turn) -> None:
        """Take in how a study ended; what is no matter of this study alone ends all."""
        _, driver = self._working.pop(turn.study.name)
        try:
            driver.result()
        except NO_MODEL as error:
            self._fail(turn, f"{error.where}: {error.problem}")
        else:
            self._console.print(f"trained   {turn.study.name}", highlight=False)

    def _fail(self, turn: Turn, why: str) -> None:
        self.without[turn.study.name] = why
        LOG.warning("%s has no model: %s", turn.study.name, why)
        said = escape(f"{turn.study.name}: {why}")
        self._console.print(f"[yellow]no model[/]  {said}", highlight=False, soft_wrap=True)


@contextmanager
def interrupts_kept() -> Iterator[Callable[[], None]]:
    """Give what raises an interrupt that came in this block and that a library has swallowed.

    It raises wherever it comes, as ever; but what raises in a callback from C may be dropped there.
    """
    if threading.current_thread() is not threading.main_thread():
        yield lambda: None
        return
    came: list[int] = []

    def note(number: int, frame: object) -> None:  # noqa: ARG001
        came.append(number)
        raise KeyboardInterrupt

    def raise_kept() -> None:
        if came:
            raise KeyboardInterrupt

    before = signal.signal(signal.SIGINT, note)
    try:
        yield raise_kept
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler if before is None else before)


def train_study(root: str, place: Place, stalled_after: float) -> None:
    """Search and retrain one study that was begun, in a process of its own."""
    silent = Console(quiet=True)
    with continued(Path(root)) as (files, _):
        search(files, place, silent, stalled_after)
        retrain(files, place, silent)


class _Bars:
    """A bar of studies with the time remaining, and one of trials for each study at work."""

    def __init__(self, studies: int, console: Console) -> None:
        self._progress = progress_bar(console)
        self._studies = studies
        self._all = self._progress.add_task("studies", total=studies)
        self._tasks: dict[str, TaskID] = {}

    def __enter__(self) -> _Bars:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    @contextmanager
    def hidden(self) -> Iterator[None]:
        """Leave the terminal to somebody else."""
        self._progress.stop()
        yield
        self._progress.start()

    def show(self, working: Sequence[Turn], waiting: int) -> None:
        """Show how far each study at work is."""
        self._progress.update(self._all, completed=self._studies - waiting - len(working))
        turns = {turn.study.name: turn for turn in working}
        for name in self._tasks.keys() - turns.keys():
            self._progress.remove_task(self._tasks.pop(name))
        for name, turn in turns.items():
            if name not in self._tasks:
                asked = turn.study.search.trials
                self._tasks[name] = self._progress.add_task("", total=asked)
            ended = sum(trial.state is not None for trial in read_trials(turn.run.trials))
            what = "trials of" if ended < turn.study.search.trials else "retrained:"
            self._progress.update(
                self._tasks[name], completed=ended, description=f"{what} {escape(name)}"
            )
