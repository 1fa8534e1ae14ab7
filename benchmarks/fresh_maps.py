"""Trunk outputs of phantoms that no study has seen."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from trainable.features import Outputs, channels_first, channels_last
from trainable.problem import Problem


def outputs_of(problem: Problem, images: np.ndarray) -> Outputs:
    """Return the trunk's outputs for uint8 images (n, 3, size, size), in the bank's layout."""
    outputs = problem.frozen[0].extractor.extract(images, np.zeros((len(images), 3)), 0.0)
    return tuple(channels_first(channels_last(output)) for output in outputs)


def join(parts: Sequence[Outputs]) -> Outputs:
    """Return the outputs of several batches as those of one."""
    return tuple(
        channels_first(torch.cat([channels_last(output) for output in outputs]))
        for outputs in zip(*parts, strict=True)
    )


class FreshMaps:
    """Trunk outputs of phantoms on their plain images: see ``trainable.features.Features``."""

    def __init__(self, columns: Sequence[Outputs]) -> None:
        self._columns = columns

    def read(self, strength: float, view: int, rows: np.ndarray) -> list[Outputs]:  # noqa: ARG002
        """Return the outputs of some of them, one entry a map."""
        at = torch.from_numpy(rows)
        return [tuple(output[at] for output in outputs) for outputs in self._columns]
