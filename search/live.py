"""The search on the terminal: one table that is redrawn, or plain lines where there is none."""

from __future__ import annotations

import time
from collections import deque
from datetime import timedelta

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from search.board import Board
from spaces.sections import SearchSection
from spaces.trial_log import Epoch, TrialRecord

RECENT = 8
REFRESH_SECONDS = 0.25
# With the spaces between them they leave 22 of 80 columns to the state and its reason.
COLUMNS = {
    "": 1,
    "#": 3,
    "source": 11,
    "lambda": 6,
    "lr": 7,
    "wd": 7,
    "aug": 4,
    "epoch": 5,
    "score": 6,
}
_STYLE = {"complete": "green", "stopped": "yellow", "failed": "red"}


def idle_slots(search: SearchSection, slots: int) -> str:
    """Return what to change when a generation leaves slots idle; empty if none is.

    >>> idle_slots(SearchSection(generation=4), 6)
    '2 of 6 slots stay idle: a generation has 4 trials; search.generation: 6 would use them all'
    """
    idle = slots - search.generation
    if search.order == "asynchronous" or idle <= 0:
        return ""
    return (
        f"{idle} of {slots} slots stay idle: a generation has {search.generation} trials; "
        f"search.generation: {slots} would use them all"
    )


class Pace:
    """Estimates the time left from the epochs and trials seen so far."""

    def __init__(self, board: Board, slots: int) -> None:
        self._board = board
        self.set_slots(slots)
        self._seconds: deque[float] = deque(maxlen=50)

    def set_slots(self, slots: int) -> None:
        """Take in how many slots there are now."""
        search = self._board.study.search
        self._slots = slots if search.order == "asynchronous" else min(slots, search.generation)

    def see(self, epoch: Epoch) -> None:
        """Take in the time of one epoch."""
        self._seconds.append(epoch.seconds)

    def left(self) -> float | None:
        """Return the seconds left, None before the first epoch."""
        if not self._seconds:
            return None
        board, epochs = self._board, self._board.study.training.epochs
        lengths = [len(trial.epochs) for trial in board.trials if trial.state]
        length = sum(lengths) / len(lengths) if lengths else epochs
        open_trials = [*board.running, *board.waiting]
        missing = sum(max(length - len(trial.epochs), 1) for trial in open_trials)
        missing += length * (board.total - len(board.trials))
        each = sum(self._seconds) / len(self._seconds)
        return missing * each / max(1, min(self._slots, board.total))


class Display:
    """Shows the board on a console; on no terminal it prints a line for each ended trial."""

    def __init__(self, console: Console, slots: int) -> None:
        self._console = console
        self._slots = slots
        self._began = time.monotonic()
        self._drawn = 0.0
        self._board: Board | None = None
        self._live: Live | None = None

    def open(self, board: Board) -> None:
        """Start to show ``board``."""
        self._board = board
        self._pace = Pace(board, self._slots)
        if self._console.is_terminal:
            self._live = Live(self._render(), console=self._console, auto_refresh=False)
            self._live.start()
        elif idle := idle_slots(board.study.search, self._slots):
            self._console.print(idle, soft_wrap=True)

    def set_slots(self, slots: int) -> None:
        """Take in how many slots there are now."""
        self._slots = slots
        self._pace.set_slots(slots)

    def reported(self, trial: TrialRecord, epoch: Epoch) -> None:  # noqa: ARG002
        """Note the pace."""
        self._pace.see(epoch)

    def ended(self, trial: TrialRecord) -> None:
        """Print a line, unless a table is shown."""
        if self._live is None and self._board is not None:
            self._console.print(_line(trial, self._board), soft_wrap=True)

    def tick(self) -> None:
        """Redraw the table if it is old."""
        if self._live is not None and time.monotonic() - self._drawn >= REFRESH_SECONDS:
            self._drawn = time.monotonic()
            self._live.update(self._render(), refresh=True)

    def close(self) -> None:
        """Draw the table a last time and leave it on the terminal."""
        if self._live is not None:
            self._live.update(self._render(), refresh=True)
            self._live.stop()

    def _render(self) -> RenderableType:
        board = self._board
        if board is None:
            return Text("")
        elapsed = time.monotonic() - self._began
        return table(board, elapsed=elapsed, left=self._pace.left(), slots=self._slots)


def table(board: Board, *, elapsed: float, left: float | None, slots: int) -> RenderableType:
    """Return the whole view: what is done, what runs, what ended last, what is best."""
    ended = [trial for trial in board.trials if trial.state]
    best = board.best()
    progress = f"{len(ended)} done / {len(board.trials)} asked / {board.total}"
    parts = [progress]
    if best is not None:
        parts.append(f"best {best.score:.4f} (trial {best.number})")
    parts.append(f"{_clock(elapsed)} elapsed")
    if left is not None and not board.is_over:
        parts.append(f"{_clock(left)} left")
    name = Text(board.study.name, style="bold", no_wrap=True, overflow="ellipsis")
    lines: list[RenderableType] = [name, Text("  ".join(parts), overflow="fold")]
    idle = idle_slots(board.study.search, slots)
    if idle and not board.is_over:
        lines.append(Text(idle, style="yellow"))
    return Group(*lines, _rows(board, best))


def _rows(board: Board, best: TrialRecord | None) -> Table:
    rows = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="dim")
    for name, width in COLUMNS.items():
        rows.add_column(name, min_width=width, justify="left" if name == "source" else "right")
    rows.add_column("state", no_wrap=True, overflow="ellipsis")
    for trial in _shown(board, best):
        values = trial.configuration
        style = "bold" if trial is best else _STYLE.get(str(trial.state), "")
        rows.add_row(
            "*" if trial is best else " ",
            str(trial.number),
            trial.source,
            f"{values.lambda_:.3f}",
            f"{values.learning_rate:.1e}",
            f"{values.weight_decay:.1e}",
            f"{values.augmentation_strength:.2f}",
            f"{len(trial.epochs)}/{board.study.training.epochs}",
            f"{trial.epochs[-1].score:.4f}" if trial.epochs else "",
            Text(_state(trial, board)),
            style=style,
        )
    return rows


def _shown(board: Board, best: TrialRecord | None) -> list[TrialRecord]:
    """Return the best trial, the last that ended, and all that have not, by number."""
    ended = [trial for trial in board.trials if trial.state][-RECENT:]
    shown = {trial.number: trial for trial in [*ended, *board.running, *board.waiting]}
    if best is not None:
        shown[best.number] = best
    return [shown[number] for number in sorted(shown)]


def _state(trial: TrialRecord, board: Board) -> str:
    if trial.state is None:
        is_waiting = any(other is trial for other in board.waiting)
        retry = f", start {trial.retries + 1}" if trial.retries else ""
        return ("waiting" if is_waiting else "running") + retry
    return trial.state if trial.is_complete else f"{trial.state} {trial.reason}"


def _line(trial: TrialRecord, board: Board) -> Text:
    ended = sum(other.state is not None for other in board.trials)
    score = "" if trial.score is None else f" score {trial.score:.4f}"
    reason = "" if trial.is_complete else f" ({trial.reason})"
    progress = f"[{ended}/{board.total}]"
    return Text(f"{progress} trial {trial.number}: {trial.state}{score}{reason}")


def _clock(seconds: float) -> str:
    return str(timedelta(seconds=round(seconds)))
