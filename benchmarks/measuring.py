"""What every benchmark needs: the machine, medians with their spread, memory, and a result file."""

from __future__ import annotations

import os
import re
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from spaces.environment import describe_environment
from spaces.run_files import write_json

WIDTH = 80
FOLDER = Path(__file__).parent

Quick = Annotated[bool, typer.Option("--quick", help="A smoke test: tiny sizes, no figures.")]
Out = Annotated[
    Path | None,
    typer.Option(help="Result file. Default: benchmarks/NAME.json, NAME.quick.json if quick."),
]


def console() -> Console:
    """Return the terminal, 80 columns wide whatever its window."""
    return Console(width=WIDTH, highlight=False)


def table(title: str, *headings: str) -> Table:
    """Return an empty table; the first column is text, the others are numbers."""
    made = Table(title=title, title_justify="left", box=None, pad_edge=False, header_style="bold")
    for at, heading in enumerate(headings):
        made.add_column(heading, justify="right" if at else "left", overflow="fold")
    return made


def machine() -> dict[str, Any]:
    """Return processor, cores, memory, load and versions of where this runs."""
    pages, page = os.sysconf("SC_PHYS_PAGES"), os.sysconf("SC_PAGE_SIZE")
    return {
        **describe_environment(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gb": round(pages * page / 1e9, 1),
        # A load of more than a few tenths says that something else was at work.
        "load_before": round(os.getloadavg()[0], 2),
    }


def summarise(values: Sequence[float]) -> dict[str, Any]:
    """Return median, lowest and highest of repeated measurements beside their raw values.

    >>> summarise([3.0, 1.0, 2.0])
    {'median': 2.0, 'lowest': 1.0, 'highest': 3.0, 'values': [3.0, 1.0, 2.0]}
    """
    return {
        "median": statistics.median(values),
        "lowest": min(values),
        "highest": max(values),
        "values": list(values),
    }


def spread(values: Sequence[float], digits: int = 1) -> str:
    """Return ``median (lowest to highest)`` for a table.

    >>> spread([3.0, 1.0, 2.0])
    '2.0 (1.0 to 3.0)'
    """
    found = summarise(values)
    low, high = found["lowest"], found["highest"]
    return f"{found['median']:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


def goal(text: str, *, reached: bool) -> dict[str, Any]:
    """Return a goal and whether it was reached, for the result file."""
    return {"goal": text, "reached": bool(reached)}


def show_goals(goals: Sequence[dict[str, Any]], terminal: Console, *, quick: bool) -> None:
    """Print each goal with its verdict; a quick run has none."""
    for one in goals:
        verdict = "not judged" if quick else "reached" if one["reached"] else "[red]missed[/]"
        terminal.print(f"{one['goal']}: {verdict}")


def missed(goals: Sequence[dict[str, Any]]) -> bool:
    """Return whether a goal was not reached; the exit code says so."""
    return not all(one["reached"] for one in goals)


def write_results(
    name: str,
    content: dict[str, Any],
    described: dict[str, Any],
    *,
    quick: bool,
    out: Path | None,
) -> Path:
    """Write a benchmark's JSON, whole or not at all; a quick run never replaces a measured one.

    Args:
        name: of the benchmark.
        content: settings, measurements, goals.
        described: ``machine()``, taken before the measurements.
        quick: whether this is a smoke test.
        out: another file than the default.
    """
    path = out or FOLDER / f"{name}{'.quick' if quick else ''}.json"
    write_json(path, f"benchmark-{name}", {"quick": quick, "machine": described, **content})
    return path


def step_seconds(step: str, log: str) -> float:
    """Return how long a step of ``polartune`` took the last time, by the text of its run.log."""
    return float(re.findall(rf"{step} took ([0-9.]+) s", log)[-1])


def wait_for(condition: Callable[[], bool], *, seconds: float, every: float = 0.02) -> bool:
    """Return whether ``condition`` came true within so many seconds."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(every)
    return True


def family(root: int) -> list[int]:
    """Return the process ``root`` and all its descendants."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            # The name in parentheses may hold anything; what follows it is well formed.
            after = (entry / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        children.setdefault(int(after[1]), []).append(int(entry.name))
    found, waiting = [], [root]
    while waiting:
        process = waiting.pop()
        found.append(process)
        waiting += children.get(process, [])
    return found


def unshared_bytes(process: int) -> int:
    """Return Pss_Anon + Pss_Shmem of a process: its memory without mapped files; 0 if it ended."""
    try:
        lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return sum(
        1024 * int(line.split()[1])
        for line in lines
        if line.startswith(("Pss_Anon:", "Pss_Shmem:"))
    )


def time_command(*words: str) -> tuple[float, int]:
    """Run ``polartune WORDS``; return its seconds and its peak of memory in bytes.

    Raises:
        RuntimeError: it ended with another code than 0.
    """
    began = time.perf_counter()
    command = [sys.executable, "-m", "polartune", *words]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)  # noqa: S603  our own command
    with MemorySampler(process.pid) as memory:
        status = process.wait()
    if status:
        raise RuntimeError(f"polartune {words[0]} ended with {status}")
    return time.perf_counter() - began, memory.peak


@dataclass
class MemorySampler:
    """Samples, while it is entered, the memory of a process and all its descendants.

    Mapped files (the feature bank) are left out: their pages are the page cache's to drop.

    Attributes:
        root: the process at the top.
        every: seconds between two samples.
        samples: bytes, one a sample.
    """

    root: int
    every: float = 1.0
    samples: list[int] = field(default_factory=list)

    @property
    def peak(self) -> int:
        """The largest sample, in bytes."""
        return max(self.samples, default=0)

    def __enter__(self) -> MemorySampler:
        """Start to sample."""
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop to sample."""
        self._over.set()
        self._thread.join()

    def _sample(self) -> None:
        while True:
            self.samples.append(sum(map(unshared_bytes, family(self.root))))
            if self._over.wait(self.every):
                return
