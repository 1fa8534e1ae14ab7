"""Polar maps: where the 17 segments lie, how a field of flow is smoothed, measured and coloured.

The layout is that of Cerqueira et al. 2002 (doi:10.1161/hc0402.102975) as clinics display it: apex
in the centre, anterior wall up, septum left, lateral wall right, inferior wall down.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType

import numpy as np
from scipy.interpolate import PchipInterpolator
from scipy.ndimage import gaussian_filter

from cohort.segments import SEGMENTS

# The disc's radius as a share of the image's side: a narrow black rim keeps rotations inside.
DISC = 0.48
# The fewest pixels a side in which all 17 segments have some.
SMALLEST = 16
# Point spread (standard deviation) as a share of the disc's radius.
POINT_SPREAD = 1 / 12
# The flow (ml/g/min) or flow reserve that takes the last colour; the first colour is 0. The same
# for every patient, so that absolute flow survives in the colours.
HIGHEST: Mapping[str, float] = MappingProxyType({"rest": 2.0, "stress": 4.0, "reserve": 4.0})

_LUMA = np.array([0.299, 0.587, 0.114])
# Night blue, violet, crimson, orange, yellow, near white; each brighter than the one before.
_ANCHORS = np.array(
    [
        [6, 8, 34],
        [28, 26, 122],
        [88, 28, 160],
        [172, 34, 128],
        [226, 62, 62],
        [246, 130, 24],
        [250, 200, 40],
        [255, 250, 205],
    ],
    dtype=np.float64,
)


@cache
def colour_table() -> np.ndarray:
    """Return our colour table: 256 colours whose luma rises in equal steps.

    The hue runs from blue through red to yellow, as readers of nuclear images expect; the luma
    (ITU-R BT.601) is linear in the value, so that the value can be read back from a pixel.

    Returns:
        uint8 (256, 3), RGB; read-only.
    """
    path = PchipInterpolator(np.linspace(0, 1, len(_ANCHORS)), _ANCHORS)
    dense = path(np.linspace(0, 1, 4096))
    luma = dense @ _LUMA
    steps = np.linspace(luma[0], luma[-1], 256)
    columns = [np.interp(steps, luma, channel) for channel in dense.T]
    table = np.rint(np.column_stack(columns)).astype(np.uint8)
    table.setflags(write=False)
    return np.asarray(table)


@dataclass(frozen=True)
class Canvas:
    """The pixels of a square image that lie in the disc, ordered by segment.

    Fields are float32 arrays (n, pixels) in this order; ``paint`` puts them where they belong.

    Attributes:
        size: side of the image in pixels.
        segment: int8 (size, size), 0-based segment of each pixel, -1 outside the disc.
        position: (pixels,) flat index into (size, size) of each pixel of the disc.
        first: (17,) where each segment begins in ``position``.
        radius: float64 (pixels,), 0 in the centre, 1 at the rim.
        angle: float64 (pixels,), degrees counter-clockwise from the lateral wall, 0 to 360.
        blur: float32 (17, pixels); the smooth field of segment values v is ``v @ blur``. Its
            columns sum to 1, so the rim is not darkened.
    """

    size: int
    segment: np.ndarray
    position: np.ndarray
    first: np.ndarray
    radius: np.ndarray
    angle: np.ndarray
    blur: np.ndarray

    def segment_means(self, field: np.ndarray) -> np.ndarray:
        """Return the mean of each segment, (n, 17), of fields (n, pixels)."""
        pixels = np.diff(self.first, append=len(self.position))
        sums = np.add.reduceat(field, self.first, axis=1, dtype=np.float64)
        return np.asarray(sums / pixels)

    def paint(self, field: np.ndarray, highest: float) -> np.ndarray:
        """Return fields (n, pixels) as colour images, uint8 (n, size, size, 3), black outside.

        Args:
            field: values; 0 takes the first colour, ``highest`` and above the last.
            highest: the value of the last colour, in the units of ``field``.
        """
        level = np.rint(np.clip(field * (255.0 / highest), 0, 255)).astype(np.uint8)
        images = np.zeros((len(field), self.size * self.size, 3), np.uint8)
        images[:, self.position] = colour_table()[level]
        return images.reshape(len(field), self.size, self.size, 3)


@cache
def canvas(size: int) -> Canvas:
    """Return the geometry of polar maps of ``size`` x ``size`` pixels, computed once.

    Raises:
        ValueError: ``size`` is below ``SMALLEST``.
    """
    if size < SMALLEST:
        raise ValueError(f"a polar map has at least {SMALLEST} pixels a side, got {size}")
    axis = (np.arange(size) - (size - 1) / 2) / (DISC * size)
    x, y = axis[None, :], -axis[:, None]
    radius = np.hypot(x, y)
    angle = np.degrees(np.arctan2(y, x)) % 360.0
    segment = _segment_of(radius, angle)
    position = np.argsort(segment, axis=None, kind="stable")
    position = position[np.count_nonzero(segment < 0) :]
    members = segment.ravel()[position]
    return Canvas(
        size=size,
        segment=_frozen(segment),
        position=_frozen(position),
        first=_frozen(np.searchsorted(members, np.arange(SEGMENTS))),
        radius=_frozen(radius.ravel()[position]),
        angle=_frozen(angle.ravel()[position]),
        blur=_frozen(_blur_of(segment)[:, position]),
    )


def draw_segments(segments: np.ndarray, size: int, highest: float) -> np.ndarray:
    """Return smooth polar maps of segment values, uint8 (n, size, size, 3).

    Args:
        segments: (n, 17), in the units of ``highest``.
        size: side of the images in pixels.
        highest: the value of the last colour; 0 takes the first.
    """
    disc = canvas(size)
    return disc.paint(segments.astype(np.float32) @ disc.blur, highest)


def _segment_of(radius: np.ndarray, angle: np.ndarray) -> np.ndarray:
    """Number every pixel; segments run counter-clockwise from the anterior wall."""
    sixth = ((angle - 60.0) % 360.0 // 60.0).astype(np.int8)
    quarter = ((angle - 45.0) % 360.0 // 90.0).astype(np.int8)
    rings = [radius < 0.25, radius < 0.5, radius < 0.75, radius <= 1.0]
    outside = np.full(radius.shape, -1, np.int8)
    apex = np.full(radius.shape, 16, np.int8)
    return np.select(rings, [apex, 12 + quarter, 6 + sixth, sixth], default=outside)


def _blur_of(segment: np.ndarray) -> np.ndarray:
    """Blur the indicator of each segment, normalised by the blurred disc (float32, (17, all))."""
    sigma = POINT_SPREAD * DISC * len(segment)
    blurred = np.stack(
        [gaussian_filter((segment == k).astype(np.float64), sigma) for k in range(SEGMENTS)]
    )
    weight = gaussian_filter((segment >= 0).astype(np.float64), sigma)
    shares = blurred / np.maximum(weight, 1e-12)
    return shares.reshape(SEGMENTS, -1).astype(np.float32)


def _frozen(array: np.ndarray) -> np.ndarray:
    array.setflags(write=False)
    return array
