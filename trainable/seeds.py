"""One seed tree: every random draw belongs to (study seed, fold, purpose) and to no trial.

Trials therefore share initialisation, order and views, and differ by their configuration alone.
"""

from __future__ import annotations

import zlib
from typing import Literal

import numpy as np
import torch

Purpose = Literal["classifier", "order", "backbone"]


def numpy_generator(
    seed: int, fold: int, purpose: Purpose, *, epoch: int = 0
) -> np.random.Generator:
    """Return a generator for one purpose; equal arguments give equal draws on every machine."""
    return np.random.default_rng(_sequence(seed, fold, purpose, epoch))


def torch_generator(seed: int, fold: int, purpose: Purpose) -> torch.Generator:
    """Return a CPU generator for one purpose."""
    state = int(_sequence(seed, fold, purpose, 0).generate_state(1, np.uint64)[0])
    return torch.Generator().manual_seed(state >> 1)


def _sequence(seed: int, fold: int, purpose: Purpose, epoch: int) -> np.random.SeedSequence:
    return np.random.SeedSequence([seed, fold, zlib.crc32(purpose.encode()), epoch])
