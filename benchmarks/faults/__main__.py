"""``make faults``: every fault on a small, real study, and what it cost.

Each fault comes from outside, by a signal, a file or a limit, to the real command line in a folder
of its own; afterwards the same command goes on, and what must hold is checked against a run that
nobody disturbed.
"""

from __future__ import annotations

import shutil
import tempfile
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from analysis.choose.select import select
from benchmarks.faults.driver import StuckError, end_all
from benchmarks.faults.matrix import FAULTS, QUICK, Begins, Fault
from benchmarks.faults.oracles import Ending, judge, work_lost
from benchmarks.faults.scene import Scene
from benchmarks.faults.stage import half_done, undisturbed
from benchmarks.measuring import (
    Out,
    Quick,
    console,
    goal,
    machine,
    missed,
    show_goals,
    table,
    write_results,
)

Only = Annotated[
    list[str] | None, typer.Argument(help="Faults by name, or part of one. Default: all.")
]
Keep = Annotated[
    Path | None,
    typer.Option(help="An absent or earlier folder for all scenes, kept; a short path."),
]
MOST_MINUTES = 20


@dataclass(frozen=True)
class Row:
    """What one fault did.

    Attributes:
        fault: its name.
        detected: seconds until the product noticed; None if there was nothing to notice.
        recovered: seconds until the study was further than before; None if it never stopped.
        lost: seconds of computing that were done again.
        seconds: that the whole scene took.
        broken: what did not hold.
    """

    fault: str
    detected: float | None
    recovered: float | None
    lost: float
    seconds: float
    broken: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """Return it for the result file."""
        return {
            "fault": self.fault,
            "detected_after_s": self.detected,
            "recovered_after_s": self.recovered,
            "work_lost_s": self.lost,
            "seconds": self.seconds,
            "held": not self.broken,
            "did_not_hold": list(self.broken),
        }


def play(fault: Fault, scene: Scene) -> Row:
    """Let a fault happen and judge what is left."""
    began = time.monotonic()
    try:
        fault.happens(scene)
        if not fault.whole and fault.ending is not Ending.REFUSED:
            select(scene.run)
        scene.broken += judge(scene, fault.ending)
    except StuckError as error:
        scene.broken.append(str(error))
    except Exception as error:  # noqa: BLE001  one scene must not end the others
        place = traceback.extract_tb(error.__traceback__)[-1]
        scene.broken.append(f"{type(error).__name__}: {error} ({place.name}, {place.lineno})")
    finally:
        end_all(scene.processes())
    clock = scene.clock
    return Row(
        fault.name,
        clock.detected_after,
        clock.recovered_after,
        work_lost(scene),
        time.monotonic() - began,
        tuple(scene.broken),
    )


def rows(faults: Sequence[Fault], folder: Path, terminal: Console, *, short: bool) -> Iterator[Row]:
    """Play faults one after the other, each in a copy of the stage that it needs."""
    whole = any(fault.whole for fault in faults)
    done, new = undisturbed(folder, terminal, whole=whole, short=short)
    stages = {Begins.NEW: lambda: new, Begins.DONE: lambda: done}
    stages[Begins.HALF] = cache(lambda: half_done(folder, new))
    for at, fault in enumerate(faults):
        place = folder / f"{at:02}"
        shutil.rmtree(place, ignore_errors=True)
        scene = stages[fault.begins]().copy(place, whole=fault.whole)
        yield play(fault, scene)
        if not scene.broken:
            shutil.rmtree(place)


def main(only: Only = None, quick: Quick = False, keep: Keep = None, out: Out = None) -> None:
    """Play the faults and show a row for each; exit code 1 if not all held, in time."""
    described, terminal = machine(), console()
    chosen = [
        fault
        for fault in FAULTS
        if (not quick or fault.name in QUICK)
        and (not only or any(word in fault.name for word in only))
    ]
    began = time.monotonic()
    played: list[Row] = []
    with _folder(keep) as folder:
        for row in rows(chosen, folder, terminal, short=quick):
            played.append(row)
            verdict = "held" if not row.broken else "[red]did not hold[/]"
            terminal.print(f"{row.fault}: {verdict} ({row.seconds:.0f} s)")
            for broken in row.broken:
                terminal.print(f"  {broken}", markup=False)
    _show(played, terminal)
    seconds = time.monotonic() - began
    partly = quick or len(chosen) < len(FAULTS)
    goals = [goal(f"at most {MOST_MINUTES} minutes", reached=seconds <= 60 * MOST_MINUTES)]
    show_goals(goals, terminal, quick=partly)
    content = {"rows": [row.as_dict() for row in played], "seconds": seconds, "goals": goals}
    path = write_results("faults", content, described, quick=partly, out=out)
    terminal.print(f"Wrote {path}", soft_wrap=True)
    if any(row.broken for row in played) or (not partly and missed(goals)):
        raise typer.Exit(1)


def _show(played: Sequence[Row], terminal: Console) -> None:
    shown = table("Faults", "fault", "detected s", "recovered s", "lost s", "result")
    for row in played:
        figures = (row.detected, row.recovered, row.lost)
        words = ("-" if figure is None else f"{figure:.1f}" for figure in figures)
        shown.add_row(row.fault, *words, "held" if not row.broken else "[red]did not[/]")
    terminal.print(shown)


@contextmanager
def _folder(keep: Path | None) -> Iterator[Path]:
    """Give a folder with a short path: sockets below it may have no more than 107 characters."""
    if keep is not None:
        keep.mkdir(parents=True, exist_ok=True)
        yield keep.resolve()
        return
    with tempfile.TemporaryDirectory(prefix="pf", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


if __name__ == "__main__":
    typer.run(main)
