"""What is known of a group of patients: images, target, segment values, covariates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd


@dataclass(frozen=True, eq=False)
class Patients:
    """Patients in a fixed order; the order is the same in every field.

    Attributes:
        ids: patient ids as in the table; never logged, and left out of the ``repr``.
        images: by input name (those of the study only), the path of each patient's polar map.
        target: float64 (n,), 0 or 1, nan where missing.
        segments: float64 (n, 17), nan where missing: the values that the network regresses, in the
            units of the table; None if the study regresses nothing.
        baseline_segments: by input name, float64 (n, 17): what logistic regression sees; only
            inputs whose 17 columns exist.
        covariates: the remaining columns, n rows; numbers as float64, other columns as text. Image
            paths, ``split`` and ``exclusion_reason`` are left out.
    """

    ids: tuple[str, ...] = field(repr=False)
    images: Mapping[str, tuple[Path, ...]] = field(repr=False)
    target: np.ndarray = field(repr=False)
    segments: np.ndarray | None = field(repr=False)
    baseline_segments: Mapping[str, np.ndarray] = field(repr=False)
    covariates: pd.DataFrame = field(repr=False)

    def __len__(self) -> int:
        return len(self.ids)

    def take(self, positions: Sequence[int] | np.ndarray) -> Patients:
        """Return the patients at ``positions``, in that order, sharing no memory with the rest."""
        chosen = np.asarray(positions, dtype=np.intp)
        return Patients(
            ids=tuple(self.ids[i] for i in chosen),
            images={name: tuple(paths[i] for i in chosen) for name, paths in self.images.items()},
            target=self.target[chosen],
            segments=None if self.segments is None else self.segments[chosen],
            baseline_segments={
                name: values[chosen] for name, values in self.baseline_segments.items()
            },
            covariates=self.covariates.iloc[chosen].reset_index(drop=True),
        )
