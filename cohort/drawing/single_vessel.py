"""Phantoms whose disease is known to lie in one vessel's territory, and nowhere else."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from cohort.drawing.fields import fields_of
from cohort.drawing.phantom import SEEDS
from cohort.drawing.polar_map import HIGHEST, canvas
from cohort.drawing.population import populate
from cohort.drawing.truth import reserve_is_impaired
from cohort.segments import TERRITORIES

_SEED = SEEDS + 2  # no cohort can have it


def draw_single_vessel(
    vessel: str, count: int, *, size: int, inputs: Sequence[str]
) -> dict[str, np.ndarray]:
    """Return maps of phantoms with a tight stenosis of one vessel, by input.

    Kept are those whose drawn map is impaired (a segment's flow reserve below 2) in this vessel's
    territory and in no other. They belong to no cohort, and are the same at every call.

    Args:
        vessel: LAD, RCA or LCx.
        count: how many.
        size: side of the maps in pixels.
        inputs: the maps to draw, of rest, stress and reserve.

    Returns:
        uint8 (count, 3, size, size) RGB for each input.
    """
    disc = canvas(size)
    key = list(TERRITORIES).index(vessel)
    generator = np.random.default_rng(np.random.SeedSequence(_SEED, spawn_key=(key,)))
    images: dict[str, list[np.ndarray]] = {name: [] for name in inputs}
    found = 0
    while found < count:
        population = populate(count, generator=generator, vessel=vessel)
        fields = fields_of(population, size, generator=generator)
        kept = _is_single(disc.segment_means(fields["reserve"]), vessel)
        for name in inputs:
            images[name].append(disc.paint(fields[name][kept], HIGHEST[name]))
        found += int(kept.sum())
    return {
        name: np.ascontiguousarray(np.concatenate(parts)[:count].transpose(0, 3, 1, 2))
        for name, parts in images.items()
    }


def _is_single(reserve: np.ndarray, vessel: str) -> np.ndarray:
    """Return in whom the vessel's territory alone is impaired, bool (n,)."""
    agree = [reserve_is_impaired(reserve, name) == (name == vessel) for name in TERRITORIES]
    return np.asarray(np.logical_and.reduce(agree))
