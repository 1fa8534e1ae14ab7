"""Augmentation: parameters are drawn first, recorded, then applied, so any view can be replayed."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from spaces.sections import AugmentationSection

ROTATION, RESCALING, DROPOUT = range(3)


def draw_views(ids: Sequence[str], section: AugmentationSection) -> np.ndarray:
    """Return the drawn parameters of every patient and view, float64 (patients, views, 3).

    Columns: rotation and rescaling, each in [-1, 1) and multiplied by limit and strength when
    applied; a whole number that seeds the dropout mask. A draw belongs to (view seed, patient,
    view) and serves all maps of the patient, every strength, fold, trial and target.
    """
    drawn = np.empty((len(ids), section.views, 3))
    for row, patient in enumerate(ids):
        digest = hashlib.sha256(patient.encode()).digest()
        sequence = np.random.SeedSequence([section.view_seed, int.from_bytes(digest[:16])])
        for view, child in enumerate(sequence.spawn(section.views)):
            generator = np.random.default_rng(child)
            drawn[row, view, :2] = generator.uniform(-1, 1, size=2)
            drawn[row, view, DROPOUT] = generator.integers(2**32)
    return drawn


def augment(
    images: Tensor, drawn: np.ndarray, strength: float, section: AugmentationSection
) -> Tensor:
    """Return the images rotated, rescaled and with patches dropped; strength 0 is the identity.

    Args:
        images: (batch, channels, size, size), values 0-255, any dtype.
        drawn: (batch, 3), rows of ``draw_views``.
        strength: in [0, 1]; multiplies the limits of ``section``.
        section: the limits at strength 1.

    Returns:
        float32, same shape, values 0-255. Outside the old image its border is continued.
    """
    floats = images.to(torch.float32)
    if strength == 0:
        return floats
    return _drop_patches(_turn(floats, drawn, strength, section), drawn, strength, section)


def _turn(
    images: Tensor, drawn: np.ndarray, strength: float, section: AugmentationSection
) -> Tensor:
    angle = drawn[:, ROTATION] * strength * math.radians(section.rotation)
    scale = 1 + drawn[:, RESCALING] * strength * section.rescaling
    cosine, sine = np.cos(angle) / scale, np.sin(angle) / scale
    nothing = np.zeros_like(angle)
    rows = np.stack([cosine, sine, nothing, -sine, cosine, nothing], axis=1).reshape(-1, 2, 3)
    matrices = torch.from_numpy(rows).to(images)
    grid = functional.affine_grid(matrices, list(images.shape), align_corners=False)
    return functional.grid_sample(
        images, grid, mode="bilinear", padding_mode="border", align_corners=False
    )


def _drop_patches(
    images: Tensor, drawn: np.ndarray, strength: float, section: AugmentationSection
) -> Tensor:
    dropout = section.dropout
    share = dropout.rate * strength
    if share == 0:
        return images
    size = images.shape[-1]
    cells = -(-size // dropout.patch)
    masks = np.stack(
        [
            np.random.default_rng(int(seed)).random((cells, cells)) < share
            for seed in drawn[:, DROPOUT]
        ]
    )
    pixels = masks.repeat(dropout.patch, axis=1).repeat(dropout.patch, axis=2)[:, :size, :size]
    dropped = torch.from_numpy(np.ascontiguousarray(pixels)).to(images.device).unsqueeze(1)
    return images.masked_fill(dropped, float(dropout.fill))
