"""Broken cells of a cohort table, gathered so that all of them stand in one error."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from spaces.errors import InputError

SHOWN = 10


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
        self.count = 0
        self._kept: list[Finding] = []

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
        self.count += len(positions)
        for position in positions[:SHOWN].tolist():
            shown = None if value is None else value(position)
            self._kept.append(Finding(position, column, rule, remedy, shown))

    def add_one(
        self, position: int, column: str, rule: str, remedy: str, value: str | None = None
    ) -> None:
        """Record one row that breaks ``rule``; see ``add``."""
        self.count += 1
        self._kept.append(Finding(position, column, rule, remedy, value))

    def touch(self, column: str) -> bool:
        """Return whether a cell of ``column`` is broken."""
        return any(finding.column == column for finding in self._kept)

    def error(self, file: str, row_numbers: np.ndarray, *, development: np.ndarray) -> InputError:
        """Return one error that lists the findings by row.

        Args:
            file: name of the table.
            row_numbers: (n,), the row of each position as a spreadsheet shows it.
            development: bool (n,), rows known to be development; other rows' values are withheld.
        """
        kept = sorted(self._kept, key=lambda finding: finding.position)[:SHOWN]
        texts = []
        for finding in kept:
            text = finding.rule
            if finding.value is not None:
                is_open = bool(development[finding.position])
                text += f", got {finding.value}" if is_open else ", got a value that is sealed"
            texts.append((f"row {row_numbers[finding.position]} {finding.column}", text))
        if self.count == 1:
            return InputError(f"{file} {texts[0][0]}", texts[0][1], kept[0].remedy)
        listed = "; ".join(f"{place}: {text}" for place, text in texts)
        more = f"; and {self.count - len(texts)} more" if self.count > len(texts) else ""
        remedies = dict.fromkeys(finding.remedy for finding in kept if finding.remedy)
        return InputError(file, f"{self.count} broken cells: {listed}{more}", ". ".join(remedies))
