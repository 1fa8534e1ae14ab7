"""The files of one judgement: what was frozen before an opening, and what was measured."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class JudgedFiles:
    """Where one judgement of a model lies: ``test/`` of a run, or ``external/NAME/``."""

    folder: Path

    @property
    def frozen(self) -> Path:
        """The hashes of everything that was fixed before the outcomes were opened."""
        return self.folder / "frozen.json"

    @property
    def predictions(self) -> Path:
        """Logits and segment values, written before the outcomes are joined."""
        return self.folder / "predictions.parquet"

    @property
    def bland_altman(self) -> Path:
        """Mean predicted against mean measured segment value of each patient, unnamed."""
        return self.folder / "bland_altman.csv"

    @property
    def metrics(self) -> Path:
        """What was measured, with intervals; beside it as a table, .csv."""
        return self.folder / "metrics.json"
