"""Several studies on one Ray: one after the other, or side by side where slots would idle.

Where one study uses all slots of this computer, each has its turn, with its live table and in this
process. Elsewhere, and always on a cluster, each is driven by a process of its own.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape

from polartune.side_by_side import NO_MODEL, Lane, studies_at_once
from polartune.steps import LOG, driven, placed, progress_bar, retrain, search, shared_folders
from spaces.errors import NoCompleteTrialError

if TYPE_CHECKING:
    from cohort.table import Cohort
    from search.place import Place
    from spaces.run_files import RunFiles
    from spaces.study import Study


@dataclass(frozen=True)
class Turn:
    """One study among several.

    Attributes:
        study: its paths are relative to the folder of the file that all come from.
        run: its directory.
        cohort: with its split.
        follows: the name of the study whose models it starts from; None if it follows nobody.
    """

    study: Study
    run: RunFiles
    cohort: Cohort
    follows: str | None = None

    @property
    def words(self) -> str:
        """What it does, on one line."""
        section = self.study.cohort
        after = f", after {self.follows}" if self.follows else ""
        return f"{self.study.name}: {section.target} from {' + '.join(section.inputs)}{after}"


def train_in_turn(
    name: str, folder: Path, turns: Sequence[Turn], *, address: str | None, console: Console
) -> None:
    """Search and retrain each study in its turn, with time left.

    A study that gives no model stops those that start from it, and no other. The test set then
    stays sealed: it is opened once, for all.

    Args:
        name: of all of them together.
        folder: of the file that they come from.
        turns: those that others start from first.
        address: a running Ray cluster; None starts an own, local Ray.
        console: where progress is shown.

    Raises:
        NoCompleteTrialError: some studies have no model; names them.
    """
    left = [at for at, turn in enumerate(turns) if not (turn.run.model / "model.json").exists()]
    if not left:
        return
    first = turns[0]
    folders = shared_folders(first.study, folder, first.run.root.parent, first.cohort)
    with placed(first.study, address, folders, console) as place:
        if place.is_own and studies_at_once(first.study, place.slots) == 1:
            without = _one_by_one(folder, turns, left, place, console)
        else:
            lane = Lane(folder, [turns[at] for at in left], place, console)
            lane.run()
            without = lane.without
    if without:
        raise NoCompleteTrialError(
            name,
            f"{len(without)} of {len(turns)} studies have no model "
            f"({'; '.join(f'{study}: {why}' for study, why in without.items())})",
            "The others are trained, and the test set is sealed. Mend these, or take them out of "
            "the file, and the same command goes on",
        )


def _one_by_one(
    folder: Path, turns: Sequence[Turn], left: Sequence[int], place: Place, console: Console
) -> dict[str, str]:
    """Train the studies that are left, each with every slot; return why one has no model."""
    from analysis.show.check import duration

    without: dict[str, str] = {}
    began = time.monotonic()
    for done, at in enumerate(left):
        turn = turns[at]
        ahead = ""
        if done:
            seconds = (time.monotonic() - began) / done * (len(left) - done)
            ahead = f" [dim]about {duration(seconds)} left[/]"
        place_in_line = f"[bold]{at + 1}/{len(turns)}[/]"
        console.print(f"\n{place_in_line} {escape(turn.words)}{ahead}", highlight=False)
        if turn.follows in without:
            without[turn.study.name] = f"starts from {turn.follows}"
            continue
        try:
            with driven(turn.study, folder, turn.run, turn.cohort):
                search(turn.run, place, console, turn.study.search.stalled_after)
                retrain(turn.run, place, console)
        except NO_MODEL as error:
            without[turn.study.name] = f"{error.where}: {error.problem}"
            LOG.warning("%s has no model: %s", turn.study.name, error)
            console.print(f"[yellow]no model[/] {escape(str(error))}")
    return without


@contextmanager
def holding(folder: Path, turns: Sequence[Turn]) -> Iterator[None]:
    """Hold every run, so that nothing changes between the freezing and the opening."""
    with ExitStack() as held:
        for turn in turns:
            held.enter_context(driven(turn.study, folder, turn.run, turn.cohort))
        yield


@contextmanager
def bars(total: int, console: Console) -> Iterator[Callable[[str, int], None]]:
    """Give a function that shows how many of ``total`` are done, by what is done to them."""
    tasks: dict[str, int] = {}
    with progress_bar(console) as progress:

        def advance(what: str, done: int) -> None:
            if what not in tasks:
                tasks[what] = progress.add_task(what, total=total)
            progress.update(tasks[what], completed=done)  # type: ignore[arg-type]

        yield advance
