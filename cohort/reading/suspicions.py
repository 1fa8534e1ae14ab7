"""What looks wrong in a cohort without breaking a rule.

Judged on development patients alone, but for ``find_twins``: it asks whether a test patient's
picture is a development patient's too, and tells nothing else of test patients.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from cohort.patients import Patients
from cohort.reading.images import THUMBNAIL, ImageFacts
from spaces.sections import CohortSection

# Two pictures closer than this (root mean square over the inner disc, in grey levels of 255) are
# one scan, exported twice. Exported again as JPEG (quality 30 and up), at another size, with noise
# or moved by a pixel, a phantom differs from itself by at most 1.3; the closest two patients
# differ by 5.5 among 944 phantoms, by 4.0 among the 267 patients of SPECTF. A second scan of a
# patient differs as much as another patient does, so it is not found; nor is a picture that was
# made brighter, for brightness is what tells patients apart.
TWIN_DISTANCE = 2.0
_INNER = 0.85  # of the disc's radius: what is resized blurs the rim
_BLOCK = 2048
_SHOWN = 10
# Grey levels by which a box of the thumbnail differs where something is written; a box is 7 pixels
# wide at 228, and JPEG blurs less than 5 levels into it.
_WRITTEN = 24


def find_suspicions(
    section: CohortSection,
    development: Patients,
    segment_values: Mapping[str, np.ndarray],
    image_facts: Mapping[str, Sequence[ImageFacts]],
    row_numbers: np.ndarray,
) -> list[str]:
    """Return one sentence for each thing a user should look at.

    Args:
        section: the study's cohort section.
        development: the development patients.
        segment_values: by prefix, float64 (n_development, 17).
        image_facts: by input, one a development patient; empty if images were not decoded.
        row_numbers: (n_development,), the row of each patient as a spreadsheet shows it.
    """
    found = [*_colour_scale(section), *_swapped_values(section, segment_values)]
    found += _swapped_names(development)
    for name, facts in image_facts.items():
        found += _label_dependent(name, facts, development.target)
        found += _written_outside(name, facts, row_numbers)
    return found


def _colour_scale(section: CohortSection) -> list[str]:
    regresses = section.segments is not None
    if section.colour_scale == "fixed" or not (regresses or section.target in section.derive):
        return []
    text = (
        f"colour_scale is {section.colour_scale}, but the study learns flow values: unless equal "
        "colours mean equal flow in every patient, they cannot be read off the maps"
    )
    return [text]


def _swapped_values(section: CohortSection, segment_values: Mapping[str, np.ndarray]) -> list[str]:
    """Compare reserve with stress / rest, as given and with stress and reserve exchanged."""
    prefixes = [section.baseline_segments.get(name, "") for name in ("rest", "stress", "reserve")]
    if any(prefix not in segment_values for prefix in prefixes):
        return []
    with np.errstate(divide="ignore", invalid="ignore"):
        rest, stress, reserve = (np.log(segment_values[prefix]) for prefix in prefixes)
        as_given = _typical(reserve - (stress - rest))
        exchanged = _typical(stress - (reserve - rest))
    if not as_given > 0.1 or not exchanged < as_given / 2:
        return []
    text = (
        f"columns {prefixes[1]}_.. and {prefixes[2]}_.. look swapped: {prefixes[1]} equals "
        f"{prefixes[2]} / {prefixes[0]}, not the other way round"
    )
    return [text]


def _typical(differences: np.ndarray) -> float:
    finite = np.abs(differences[np.isfinite(differences)])
    return float(np.median(finite)) if len(finite) else float("nan")


def _swapped_names(development: Patients) -> list[str]:
    """Look for files of the input ``stress`` that are called reserve, and the reverse."""
    return [
        f"most files of the input '{column}' have '{other}' in their name: are the columns swapped?"
        for column, other in (("stress", "reserve"), ("reserve", "stress"))
        if np.mean([other in path.stem.lower() for path in development.images.get(column, [])] or 0)
        > 0.5
    ]


def _label_dependent(name: str, facts: Sequence[ImageFacts], target: np.ndarray) -> list[str]:
    """Ask whether the file alone, without its picture, tells the label.

    A compressed file's size follows its picture a little, so only a strong relation counts.
    """
    known = ~np.isnan(target)
    positive = target[known] == 1
    kinds = np.array([fact.kind for fact in facts])[known]
    sizes = np.array([fact.file_bytes for fact in facts])[known]
    found = []
    if any(_strength(kinds == kind, positive)[1] > 4 for kind in np.unique(kinds)):
        found.append(
            f"format or size in pixels of the '{name}' images depends on the target: a network "
            "can learn that instead of the picture"
        )
    auc, deviations = _strength(sizes, positive)
    if deviations > 4 and abs(auc - 0.5) > 0.35:
        found.append(
            f"file size of the '{name}' images alone tells the target with an AUC of "
            f"{max(auc, 1 - auc):.2f}: were the classes exported in the same way?"
        )
    return found


def _written_outside(name: str, facts: Sequence[ImageFacts], row_numbers: np.ndarray) -> list[str]:
    """Look for what lies outside the inscribed disc and is not the same in all maps."""
    grid = np.abs(np.linspace(-1, 1, THUMBNAIL, endpoint=False) + 1 / THUMBNAIL) - 1 / THUMBNAIL
    outside = np.hypot(grid[:, None], grid).ravel() >= 1
    boxes = _thumbnails(facts)[:, outside]
    usual = np.median(boxes, axis=0)
    written = np.count_nonzero(np.abs(boxes - usual) > _WRITTEN, axis=1) >= 2
    if not written.any():
        return []
    text = (
        f"{written.sum()} of {len(facts)} development images of '{name}' "
        f"({_rows(row_numbers[written])}) differ from the others outside the disc: a name, date "
        "or scale in the picture can be learnt instead of the map; crop it away"
    )
    return [text]


def find_twins(
    image_facts: Mapping[str, Sequence[ImageFacts]], folds: np.ndarray, row_numbers: np.ndarray
) -> list[str]:
    """Return sentences about pictures that are nearly the same on both sides of a split.

    Args:
        image_facts: by input, one a patient, test patients included.
        folds: (n,) integers, the fold of each patient, -1 for test patients.
        row_numbers: (n,), the row of each patient as a spreadsheet shows it.
    """
    across = np.zeros((2, len(folds)), dtype=bool)  # has a twin in the test set, in another fold
    for facts in image_facts.values():
        across |= _has_twin(_thumbnails(facts), folds)
    places = ("the test set", "another fold")
    return [
        f"{count_rows(row_numbers[found], 'development patient')} nearly the same picture as a "
        f"patient of {place}: if one patient stands in the table twice, exclude a row, or results "
        "will be too good"
        for found, place in zip(across & (folds >= 0), places, strict=True)
        if found.any()
    ]


def find_seen_before(
    own: Mapping[str, Sequence[ImageFacts]], others: Mapping[str, Sequence[ImageFacts]]
) -> np.ndarray:
    """Return which of the other patients, bool (n,), have nearly the same picture as one of ours.

    Args:
        own: by input, one a patient.
        others: likewise, of the same inputs.
    """
    found = []
    for name, facts in others.items():
        folds = np.repeat([0, -1], [len(own[name]), len(facts)])
        is_near = _has_twin(_thumbnails([*own[name], *facts]), folds)[1]
        found.append(is_near[len(own[name]) :])
    is_seen: np.ndarray = np.any(found, axis=0)
    return is_seen


def count_rows(rows: np.ndarray, who: str) -> str:
    """Return how many there are, and in which rows, up to the verb.

    >>> count_rows(np.array([3, 5]), "patient")
    '2 patients (rows 3, 5) have'
    """
    if len(rows) == 1:
        return f"1 {who} ({_rows(rows)}) has"
    return f"{len(rows)} {who}s ({_rows(rows)}) have"


def _rows(rows: np.ndarray) -> str:
    listed = ", ".join(map(str, rows[:_SHOWN]))
    more = f" and {len(rows) - _SHOWN} more" if len(rows) > _SHOWN else ""
    return f"row{'s' if len(rows) > 1 else ''} {listed}{more}"


def _thumbnails(facts: Sequence[ImageFacts]) -> np.ndarray:
    pixels = b"".join(fact.thumbnail for fact in facts)
    return np.frombuffer(pixels, dtype=np.uint8).reshape(len(facts), -1)


def _has_twin(thumbnails: np.ndarray, folds: np.ndarray) -> np.ndarray:
    """Return, bool (2, n), who has a twin in the test set, and who has one in another fold.

    Mean brightness differs by no more than the pictures do. So rows are sorted by it, and each
    block meets only the blocks that are about as bright: few, except in a cohort of equal maps.
    """
    pictures = _inner(thumbnails)
    brightness = pictures.mean(axis=1)
    order = np.argsort(brightness, kind="stable")
    pictures, brightness, folds = pictures[order], brightness[order], folds[order]
    lengths = np.einsum("ij,ij->i", pictures, pictures)
    limit = TWIN_DISTANCE**2 * pictures.shape[1]
    has_twin = np.zeros((2, len(folds)), dtype=bool)
    for start in range(0, len(folds), _BLOCK):
        rows = slice(start, min(start + _BLOCK, len(folds)))
        end = np.searchsorted(brightness, brightness[rows.stop - 1] + TWIN_DISTANCE, side="right")
        for first in range(start, end, _BLOCK):
            others = slice(first, min(first + _BLOCK, end))
            product = pictures[rows] @ pictures[others].T
            near = lengths[rows, None] + lengths[others] - 2 * product < limit
            near &= folds[rows, None] != folds[others]
            for kind, wanted in enumerate((folds < 0, folds >= 0)):
                has_twin[kind, rows] |= near[:, wanted[others]].any(axis=1)
                has_twin[kind, others] |= near[wanted[rows]].any(axis=0)
    back = np.empty_like(has_twin)
    back[:, order] = has_twin
    return back


def _inner(thumbnails: np.ndarray) -> np.ndarray:
    """Return 16 x 16 grey means inside the disc, float32 (n, pixels), about a common mean."""
    side = THUMBNAIL // 2
    coarse = thumbnails.reshape(-1, side, 2, side, 2).mean(axis=(2, 4), dtype=np.float32)
    axis = (np.arange(side) - (side - 1) / 2) / (side / 2)
    inner: np.ndarray = coarse[:, np.hypot(axis[:, None], axis) <= _INNER]
    inner -= inner.mean(axis=0)
    return inner


def _strength(score: np.ndarray, positive: np.ndarray) -> tuple[float, float]:
    """Return the AUC of a score, and its distance from chance in standard errors of Mann-Whitney.

    Ties count half in the AUC; the standard error (no ties) is then a little too large.
    """
    positives = int(positive.sum())
    negatives = len(positive) - positives
    if not positives or not negatives:
        return 0.5, 0.0
    ranks = pd.Series(score).rank().to_numpy()
    auc = (ranks[positive].sum() - positives * (positives + 1) / 2) / (positives * negatives)
    error = np.sqrt((positives + negatives + 1) / (12 * positives * negatives))
    return float(auc), float(abs(auc - 0.5) / error)
