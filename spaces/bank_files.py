"""Feature banks seen from outside: what each holds, when it was last used, and which may go.

A bank is a folder of trunk outputs with an ``about.json``, whose time of change is its last use.
Drivers hold a shared lock on the folder of all banks while they work; pruning needs it alone.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from spaces.errors import InputError, RefusedError
from spaces.sections import BankSection

ABOUT = "about.json"
LOCK = ".in_use"
DAY = 24 * 3600.0
LEFTOVER_AGE = 3600.0
"""Seconds after which a file that was never finished belongs to a process that died."""
_NAME = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True)
class BankFolder:
    """One bank on disk; what its ``about.json`` does not say is None.

    Attributes:
        path: its folder.
        input: the map.
        backbone: the network whose frozen layers made it, with the edge of its images in pixels.
        strength: augmentation strength.
        views: images a patient.
        size: bytes.
        last_use: seconds since 1970.
        files: parts that are whole, as far as their seals say.
        expected: parts that it has when it is whole.
    """

    path: Path
    input: str | None
    backbone: str | None
    strength: float | None
    views: int | None
    size: int
    last_use: float
    files: int
    expected: int | None

    @property
    def state(self) -> str:
        """``whole``, how many files of all there are, or ``?`` without an ``about.json``."""
        if self.expected is None:
            return "?"
        return "whole" if self.files >= self.expected else f"{self.files} of {self.expected}"


@dataclass(frozen=True)
class Removable:
    """What pruning would remove: banks, and files that a process left unfinished when it died."""

    banks: tuple[BankFolder, ...]
    leftovers: tuple[Path, ...]

    @property
    def size(self) -> int:
        """Bytes in all."""
        files = sum(path.stat().st_size for path in self.leftovers if path.exists())
        return sum(bank.size for bank in self.banks) + files


def bank_folder(section: BankSection, folder: Path, cohort_folder: Path) -> Path:
    """Return where a study's banks lie.

    Args:
        section: the study's ``bank`` section.
        folder: what its path is relative to.
        cohort_folder: the folder of the cohort table.
    """
    return folder / section.path if section.path else cohort_folder / "banks"


def find_banks(folder: Path) -> Path:
    """Return the folder of banks that is meant: ``folder`` itself, or ``banks`` in it.

    Raises:
        InputError: neither exists with a bank or an unfinished file in it.
    """
    for candidate in (folder, folder / "banks"):
        if candidate.is_dir() and (_bank_paths(candidate) or (candidate / LOCK).exists()):
            return candidate
    raise InputError(
        str(folder), "holds no feature banks", "Give a cohort's folder, or what bank.path says"
    )


def read_banks(root: Path) -> list[BankFolder]:
    """Return the banks in a folder, the last used first."""
    return sorted(map(_read_bank, _bank_paths(root)), key=lambda bank: -bank.last_use)


def mark_used(bank: Path) -> None:
    """Record that a bank is being read; one that belongs to somebody else stays as it is."""
    with suppress(OSError):
        os.utime(bank / ABOUT)


@contextmanager
def using_banks(root: Path) -> Iterator[None]:
    """Keep the banks in a folder from being pruned, by whoever does it, in this block."""
    try:
        root.mkdir(parents=True, exist_ok=True)
        file = (root / LOCK).open("a+")
    except OSError:  # a folder that cannot be written is not pruned either
        yield
        return
    with file:
        with suppress(OSError):  # without locks in the file system, pruning refuses
            fcntl.flock(file, fcntl.LOCK_SH)
        yield


def removable(root: Path, unused_days: float) -> Removable:
    """Return the banks that nobody has used for some days, and the leftovers older than an hour."""
    now = time.time()
    banks = [bank for bank in read_banks(root) if now - bank.last_use >= unused_days * DAY]
    places = [root, *_bank_paths(root)]
    partial = [path for place in places for path in place.glob(".*.partial")]
    old = [path for path in partial if now - _changed(path) >= LEFTOVER_AGE]
    return Removable(tuple(banks), tuple(old))


def remove(root: Path, shown: Removable, unused_days: float) -> int:
    """Remove what was shown and is still removable; return the bytes that this frees.

    Raises:
        RefusedError: a run works with these banks, or it cannot be known whether one does.
    """
    with _alone(root):
        now = removable(root, unused_days)
        agreed = {bank.path for bank in shown.banks}
        banks = tuple(bank for bank in now.banks if bank.path in agreed)
        leftovers = tuple(path for path in now.leftovers if path in shown.leftovers)
        freed = Removable(banks, leftovers).size
        for path in leftovers:
            path.unlink(missing_ok=True)
        for bank in banks:
            shutil.rmtree(bank.path)
    return freed


def show_banks(banks: Sequence[BankFolder], console: Console) -> None:
    """Print one line a bank, and how much they take."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("input", "backbone"):
        table.add_column(heading, overflow="fold")
    for heading in ("strength", "views", "size", "last use", "state"):
        table.add_column(heading, justify="right", no_wrap=True)
    for bank in banks:
        known = (bank.input, bank.backbone, bank.strength, bank.views)
        words = ("?" if value is None else str(value) for value in known)
        day = time.strftime("%Y-%m-%d", time.localtime(bank.last_use))
        table.add_row(*words, in_words(bank.size), day, bank.state)
    console.print(table)


def in_words(size: int) -> str:
    """Return a number of bytes as people say it.

    >>> in_words(1_234_567_890), in_words(20_000)
    ('1.23 GB', '0.02 MB')
    """
    return f"{size / 1e9:.2f} GB" if size >= 1e8 else f"{size / 1e6:.2f} MB"


def _bank_paths(root: Path) -> list[Path]:
    return [path for path in root.iterdir() if _NAME.fullmatch(path.name) and path.is_dir()]


def _read_bank(path: Path) -> BankFolder:
    about = _read_about(path / ABOUT)
    key = about.get("key", {})
    backbone = f"{key['backbone']} {key['image_size']}" if "backbone" in key else None
    return BankFolder(
        path=path,
        input=about.get("input"),
        backbone=backbone,
        strength=key.get("strength"),
        views=about.get("views"),
        size=sum(file.stat().st_size for file in path.iterdir() if file.is_file()),
        last_use=_changed(path / ABOUT) or _changed(path),
        files=sum(file.with_suffix(".json").exists() for file in path.glob("*.safetensors")),
        expected=about.get("files"),
    )


def _read_about(path: Path) -> dict[str, Any]:
    """Return what a bank says of itself; nothing where that is damaged, or not yet written."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _changed(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


@contextmanager
def _alone(root: Path) -> Iterator[None]:
    """Hold the folder's lock alone.

    Raises:
        RefusedError: somebody uses the banks, or the file system has no locks.
    """
    with (root / LOCK).open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RefusedError(
                str(root), "a run is working with these banks", "Wait for it, or end it"
            ) from None
        except OSError as error:
            problem = f"cannot be locked ({error.strerror}), so a run at work would not be seen"
            remedy = "Remove folders by hand while no run is at work"
            raise RefusedError(str(root), problem, remedy) from None
        yield
