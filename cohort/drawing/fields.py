"""From segment flow to the fields of flow that polar maps show.

A field is the blurred flow of its segments, times correlated noise, times a weak pattern that
averages to nothing within every segment: what smoking looks like here, which no model of segment
means can see. Noise is independent between rest and stress, the pattern is shared; reserve is
stress / rest.
"""

from __future__ import annotations

from functools import cache

import numpy as np

from cohort.drawing.polar_map import DISC, canvas
from cohort.drawing.population import Population

NOISE = 0.08
"""Standard deviation of the log field's noise in one pixel."""
NOISE_WIDTH = 0.28
"""Half-width of the noise's correlation in radii of the disc: 25 degrees at .65 of the radius."""
RIPPLED = (4, 5, 10, 11)
"""The segments, from 1, that carry the pattern within segments."""
_KNOTS = np.arange(-1.4, 1.41, 0.2)


def fields_of(
    population: Population, size: int, *, generator: np.random.Generator
) -> dict[str, np.ndarray]:
    """Return the fields of n patients by input: rest, stress (ml/g/min) and reserve.

    Args:
        population: n patients.
        size: side of the maps in pixels; the field is the same, sampled more or less densely.
        generator: draws the noise.

    Returns:
        float32 (n, pixels of the disc) each, in the order of ``cohort.drawing.polar_map.Canvas``.
    """
    disc = canvas(size)
    noise = NOISE * _draw_noise(2 * len(population.rest), size, generator)
    rest_noise, stress_noise = np.split(noise, 2)
    ripple = np.outer(population.ripple, ripple_pattern(size)).astype(np.float32)
    rest = (population.rest.astype(np.float32) @ disc.blur) * np.exp(rest_noise + ripple)
    stress = (population.stress.astype(np.float32) @ disc.blur) * np.exp(stress_noise + ripple)
    return {"rest": rest, "stress": stress, "reserve": stress / rest}


def ripple_of(field: np.ndarray, size: int) -> np.ndarray:
    """Return how strongly fields (n, pixels of the disc) show the pattern, (n,), by projection."""
    pattern = ripple_pattern(size)
    return np.asarray(np.log(field) @ pattern / (pattern @ pattern))


@cache
def ripple_pattern(size: int) -> np.ndarray:
    """Return the pattern within segments, float64 (pixels of the disc,), mean 0 in each segment.

    In the inferior and inferolateral wall the septal side of each segment gains what its lateral
    side loses: one period of a sine along the circumference, fading out at the inner border of the
    mid wall and at the rim.
    """
    disc = canvas(size)
    fade = np.sin(np.pi * np.clip((disc.radius - 0.5) / 0.5, 0, 1))
    wave = np.sin(np.radians(6 * (disc.angle - 240))) * fade
    members = disc.segment.ravel()[disc.position]
    wave[~np.isin(members + 1, RIPPLED)] = 0.0
    pattern = wave - disc.segment_means(wave[None])[0][members]
    pattern.setflags(write=False)
    return np.asarray(pattern)


def _draw_noise(count: int, size: int, generator: np.random.Generator) -> np.ndarray:
    """Return correlated noise of unit variance, float32 (count, pixels of the disc).

    White noise on a lattice that does not depend on ``size``, smoothed by a Gaussian.
    """
    knots = generator.standard_normal((count, len(_KNOTS), len(_KNOTS)), dtype=np.float32)
    smooth = _smoother(size)
    images = smooth @ knots @ smooth.T
    return np.asarray(images.reshape(count, size * size)[:, canvas(size).position])


@cache
def _smoother(size: int) -> np.ndarray:
    """Return the weights of the lattice's knots for each row of pixels, float32 (size, knots)."""
    # White noise smoothed by sigma is correlated as a Gaussian of sigma * sqrt(2).
    sigma = NOISE_WIDTH / np.sqrt(2 * np.log(2)) / np.sqrt(2)
    axis = (np.arange(size) - (size - 1) / 2) / (DISC * size)
    weights = np.exp(-0.5 * ((axis[:, None] - _KNOTS) / sigma) ** 2)
    weights /= np.linalg.norm(weights, axis=1, keepdims=True)
    return np.asarray(weights, np.float32)
