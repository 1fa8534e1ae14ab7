"""From image files to trunk outputs: the one function that both the bank and 'bank: off' use."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from cohort.reading.images import read_images
from spaces.sections import AugmentationSection
from trainable.augment import augment
from trainable.cut import Trunk
from trainable.network import prepare

# Images that pass the trunk together. The number never varies, so that a patient's features do not
# depend on who else is in the batch; four keep the activations of a CPU core in its caches.
TOGETHER = {"cpu": 4, "cuda": 64}

Outputs = tuple[Tensor, ...]


class Features(Protocol):
    """Trunk outputs of development patients."""

    def read(self, strength: float, view: int, rows: np.ndarray) -> list[Outputs]:
        """Return, for each map, the trunk's outputs for the patients in ``rows``.

        Strength 0 is the plain image, whatever the view. Tensors are (batch, ...), channels-last.
        """


@dataclass(frozen=True)
class Extractor:
    """Turns images into trunk outputs.

    Attributes:
        trunk: folded, on ``device``; None when the whole network trains.
        backbone: decides how values are standardised.
        section: the limits of augmentation.
        dtype: of the outputs.
        device: where to compute.
    """

    trunk: Trunk | None
    backbone: str
    section: AugmentationSection
    dtype: torch.dtype
    device: str

    @torch.no_grad()
    def extract(self, images: np.ndarray, drawn: np.ndarray, strength: float) -> Outputs:
        """Return the trunk's outputs (or the prepared images, if the trunk is empty).

        Args:
            images: uint8, (batch, 3 x k, size, size).
            drawn: (batch, 3), one row of ``draw_views`` for each image.
            strength: augmentation strength; 0 leaves the images as they are.
        """
        if self.trunk is None:
            return (self._prepare(images, drawn, strength),)
        together = TOGETHER[self.device]
        found = []
        for start in range(0, len(images), together):
            part, rows = images[start : start + together], drawn[start : start + together]
            prepared = self._prepare(part, rows, strength)
            if len(part) < together:
                filler = prepared.new_zeros(together - len(part), *prepared.shape[1:])
                prepared = torch.cat([prepared, filler]).contiguous(
                    memory_format=torch.channels_last
                )
            found.append([output[: len(part)] for output in self.trunk(prepared)])
        return tuple(torch.cat(outputs) for outputs in zip(*found, strict=True))

    def _prepare(self, images: np.ndarray, drawn: np.ndarray, strength: float) -> Tensor:
        pixels = torch.from_numpy(images).to(self.device)
        augmented = augment(pixels, drawn, strength, self.section)
        prepared = prepare(augmented, self.backbone).to(self.dtype)
        return prepared.contiguous(memory_format=torch.channels_last)


@dataclass(frozen=True)
class Columns:
    """The images of the development patients, one column for each map that passes the trunk.

    Attributes:
        paths: for each column, the files of its maps: one list, or with ``stack: early`` several,
            which are stacked along the channels.
        size: edge of the square in pixels.
    """

    paths: tuple[tuple[tuple[Path, ...], ...], ...]
    size: int

    def read(self, column: int, rows: np.ndarray) -> np.ndarray:
        """Return uint8 (rows, 3 x k, size, size)."""
        maps = [
            read_images([files[row] for row in rows], self.size) for files in self.paths[column]
        ]
        return np.concatenate(maps, axis=1)


class ComputedFeatures:
    """Computes every view when it is asked for (``bank: off``, or everything trains)."""

    def __init__(
        self, columns: Columns, drawn: np.ndarray, extractor: Callable[[], Extractor]
    ) -> None:
        self._columns = columns
        self._drawn = drawn
        self._open_extractor = extractor

    @cached_property
    def _extractor(self) -> Extractor:
        return self._open_extractor()

    @cached_property
    def _images(self) -> Sequence[np.ndarray]:
        everyone = np.arange(len(self._drawn))
        return [self._columns.read(column, everyone) for column in range(len(self._columns.paths))]

    def read(self, strength: float, view: int, rows: np.ndarray) -> list[Outputs]:
        """See ``Features``."""
        drawn = self._drawn[rows, view]
        found = [self._extractor.extract(images[rows], drawn, strength) for images in self._images]
        return [tuple(channels_first(channels_last(one)) for one in outputs) for outputs in found]


def channels_last(output: Tensor) -> Tensor:
    """Return (batch, height, width, channels) in plain memory order; a vector stays as it is.

    The copy settles the strides also where an axis has length 1: operations choose their algorithm,
    and so their rounding, by strides, and a computed view must equal one read from the bank.
    """
    if output.dim() != 4:
        return output
    return output.permute(0, 2, 3, 1).clone(memory_format=torch.contiguous_format)


def channels_first(output: Tensor) -> Tensor:
    """Return (batch, channels, height, width) over the memory of ``channels_last``."""
    return output.permute(0, 3, 1, 2) if output.dim() == 4 else output
