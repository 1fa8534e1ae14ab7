"""What looks wrong in a cohort without breaking a rule; judged on development patients alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from cohort.images import ImageFacts
from cohort.patients import Patients
from spaces.study import CohortSection


def find_suspicions(
    section: CohortSection,
    development: Patients,
    segment_values: Mapping[str, np.ndarray],
    image_facts: Mapping[str, Sequence[ImageFacts]],
) -> list[str]:
    """Return one sentence for each thing a user should look at.

    Args:
        section: the study's cohort section.
        development: the development patients.
        segment_values: by prefix, float64 (n_development, 17).
        image_facts: by input, one a development patient; empty if images were not decoded.
    """
    found = [*_colour_scale(section), *_swapped_values(section, segment_values)]
    found += _swapped_names(development)
    for name, facts in image_facts.items():
        found += _label_dependent(name, facts, development.target)
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
