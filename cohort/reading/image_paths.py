"""Image paths of a cohort table: relative, inside the cohort's folder, also behind links."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from cohort.reading.csv_rows import as_bool, is_missing
from cohort.reading.findings import Findings

IMAGE_ENDINGS = (".png", ".jpg", ".jpeg", ".dcm")
"""In small letters; the names of files may have capitals."""
# Rule, what breaks it (RE2), remedy; the first that matches is told.
_RULES = (
    (
        "the path must be relative",
        r"^(/|~|\\|[A-Za-z]:)",
        "Write it relative to the folder of the table",
    ),
    ("the path must use forward slashes", r"\\|\x00", "Write images/name.png"),
    (
        "the path leaves the cohort's folder",
        r"(^|/)\.\.(/|$)",
        "Move the image into that folder",
    ),
)


def locate_images(
    column: pa.ChunkedArray, name: str, folder: Path, findings: Findings
) -> tuple[tuple[Path, ...], np.ndarray]:
    """Return the path of each image and, bool (n,), which of them may be opened.

    Args:
        column: n paths as text.
        name: the column's name.
        folder: the folder of the table, resolved.
        findings: takes the rows whose path is empty, absolute or leads out of ``folder``. The
            paths themselves are never shown: they are often named by patient ids.
    """
    broken = is_missing(column)
    findings.add(
        broken, name, "the image path is missing", "Fill it in, or give an exclusion_reason"
    )
    for rule, pattern, remedy in _RULES:
        breaks = as_bool(pc.match_substring_regex(column, pattern)) & ~broken
        findings.add(breaks, name, rule, remedy)
        broken |= breaks
    texts = column.to_pylist()
    escapes = _escapes(texts, broken, str(folder))
    findings.add(
        escapes,
        name,
        "the path leaves the cohort's folder through a symbolic link",
        "Copy the image into that folder",
    )
    return tuple(folder / text for text in texts), ~(broken | escapes)


def _escapes(texts: list[str], broken: np.ndarray, root: str) -> np.ndarray:
    """Return which paths lead out of ``root`` through links; each folder is resolved once."""
    inside: dict[str, bool] = {}
    escapes = np.zeros(len(texts), dtype=bool)
    for at in np.flatnonzero(~broken).tolist():
        path = os.path.join(root, texts[at])  # noqa: PTH118 - pathlib is 5 times slower
        parent = os.path.dirname(path)  # noqa: PTH120
        if parent not in inside:
            inside[parent] = _is_inside(parent, root)
        escapes[at] = not inside[parent] or (
            os.path.islink(path) and not _is_inside(path, root)  # noqa: PTH114
        )
    return escapes


def _is_inside(path: str, root: str) -> bool:
    return Path(os.path.realpath(path)).is_relative_to(root)
