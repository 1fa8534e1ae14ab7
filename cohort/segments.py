"""The 17 segments of the American Heart Association and the territories of the three vessels."""

from __future__ import annotations

from types import MappingProxyType

SEGMENTS = 17

# Numbered from 1, as in Yeung et al. 2022 and Cerqueira et al. 2002 (doi:10.1161/hc0402.102975).
TERRITORIES = MappingProxyType(
    {
        "LAD": (1, 2, 7, 8, 13, 14, 17),
        "RCA": (3, 4, 9, 10, 15),
        "LCx": (5, 6, 11, 12, 16),
    }
)


def segment_columns(prefix: str) -> list[str]:
    """Return the 17 column names of a prefix, in order.

    >>> segment_columns("mfr")[0], segment_columns("mfr")[-1]
    ('mfr_01', 'mfr_17')
    """
    return [f"{prefix}_{number:02d}" for number in range(1, SEGMENTS + 1)]


def indices_of(territory: str) -> list[int]:
    """Return the 0-based segment indices of ``any``, ``LAD``, ``RCA`` or ``LCx``."""
    if territory == "any":
        return list(range(SEGMENTS))
    return [number - 1 for number in TERRITORIES[territory]]
