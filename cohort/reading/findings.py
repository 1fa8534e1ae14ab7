"""Broken cells of a cohort table, gathered so that all of them stand in one error."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from spaces.errors import InputError

SHOWN = 10
"""Broken cells that are named, shared out over the rules that they break."""


@dataclass(frozen=True)
class Finding:
    """One broken cell."""

    position: int
    column: str
    rule: str
    remedy: str
    value: str | None


class Findings:
    """Collects broken cells by their position among the included rows.

    Values are kept apart from the rules, because those of test patients are never shown.
    """

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._kept: list[Finding] = []

    @property
    def count(self) -> int:
        """Number of broken cells."""
        return self._counts.total()

    def add(
        self,
        broken: np.ndarray,
        column: str,
        rule: str,
        remedy: str,
        value: Callable[[int], str] | None = None,
    ) -> None:
        """Record the rows that break ``rule``.

        Args:
            broken: bool (n,), one a row.
            column: the column's name.
            rule: what must hold, as ``must be >= 0``.
            remedy: what to do about it.
            value: gives the value at a position; None if it must not be shown at all (patient
                ids, and paths that are often named by them).
        """
        positions = np.flatnonzero(broken)
        for position in positions[:SHOWN].tolist():
            shown = None if value is None else value(position)
            self._kept.append(Finding(position, column, rule, remedy, shown))
        self._counts[rule] += len(positions)

    def add_one(
        self, position: int, column: str, rule: str, remedy: str, value: str | None = None
    ) -> None:
        """Record one row that breaks ``rule``; see ``add``."""
        self._counts[rule] += 1
        self._kept.append(Finding(position, column, rule, remedy, value))

    def touch(self, column: str) -> bool:
        """Return whether a cell of ``column`` is broken."""
        return any(finding.column == column for finding in self._kept)

    def error(self, file: str, row_numbers: np.ndarray, *, development: np.ndarray) -> InputError:
        """Return one error: each broken rule once, with the first cells that break it.

        Args:
            file: name of the table.
            row_numbers: (n,), the row of each position as a spreadsheet shows it.
            development: bool (n,), rows known to be development; other rows' values are withheld.
        """
        kept = sorted(self._kept, key=lambda finding: finding.position)
        rows = [f"row {row_numbers[cell.position]} {cell.column}" for cell in kept]
        sealed = [not development[cell.position] for cell in kept]
        if self.count == 1:
            problem = kept[0].rule
            if kept[0].value is not None:
                problem += f", got {'a value that is sealed' if sealed[0] else kept[0].value}"
            return InputError(f"{file} {rows[0]}", problem, kept[0].remedy)
        places: dict[str, list[str]] = {}
        for cell, row, is_sealed in zip(kept, rows, sealed, strict=True):
            value = "" if is_sealed or cell.value is None else f" {cell.value}"
            places.setdefault(cell.rule, []).append(row + value)
        named = max(1, SHOWN // len(places))
        texts = [self._told(rule, cells[:named]) for rule, cells in places.items()]
        remedies = dict.fromkeys(cell.remedy for cell in kept)
        return InputError(
            file, f"{self.count} broken cells: {'. '.join(texts)}", ". ".join(remedies)
        )

    def _told(self, rule: str, cells: Sequence[str]) -> str:
        more = self._counts[rule] - len(cells)
        return f"{rule}: {', '.join(cells)}" + (f" and {more} more" if more else "")
