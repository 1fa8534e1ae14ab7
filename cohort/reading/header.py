"""The columns of a cohort table: which a study needs, and which are there."""

from __future__ import annotations

import re
from collections.abc import Sequence

from cohort.segments import SEGMENTS, segment_columns
from spaces.errors import InputError, nearest
from spaces.sections import CohortSection

PATIENT = "patient_id"
EXCLUSION = "exclusion_reason"
SPLIT = "split"


def check_header(names: Sequence[str], section: CohortSection, file: str) -> None:
    """Refuse a header that lacks a column of the study, or has one twice.

    Raises:
        InputError: names the column and the nearest one. Without ``patient_id`` the header's own
            words are not repeated: the first row might be a patient's.
    """
    where = f"{file} row 1"
    if PATIENT not in names:
        remedy = f"Call the column of patient ids {PATIENT}"
        raise InputError(where, f"column '{PATIENT}' is missing", remedy)
    repeated = sorted({name for name in names if name and names.count(name) > 1})
    if repeated:
        raise InputError(where, f"column '{repeated[0]}' stands there twice", "Rename one of them")
    for name, key in _needed(section):
        if name not in names:
            others = [other for other in names if other and not _is_numbered(other)]
            others += section.derive if key == "cohort.target" else []
            raise InputError(
                where, f"column '{name}' is missing ({key} asks for it)", nearest(name, others)
            )
    for prefix, key, remedy in _needed_prefixes(section):
        if prefix not in present_prefixes(names, section):
            columns = segment_columns(prefix)
            raise InputError(
                where,
                f"columns {columns[0]} to {columns[-1]} are missing ({key} asks for them)",
                remedy,
            )
    for prefix in present_prefixes(names, section):
        absent = [name for name in segment_columns(prefix) if name not in names]
        if absent:
            raise InputError(
                where,
                f"{SEGMENTS - len(absent)} of {SEGMENTS} segment columns '{prefix}' are there, "
                f"{', '.join(absent)} missing",
                f"Give all {SEGMENTS}, with empty cells where a value is unknown",
            )


def present_prefixes(names: Sequence[str], section: CohortSection) -> list[str]:
    """Return the segment prefixes of the study of which the table has at least one column."""
    asked = [prefix for prefix, *_ in _needed_prefixes(section)]
    asked += section.baseline_segments.values()
    return [
        prefix
        for prefix in dict.fromkeys(asked)
        if not set(segment_columns(prefix)).isdisjoint(names)
    ]


def _needed(section: CohortSection) -> list[tuple[str, str]]:
    """Return the single columns a study needs, each with the key that asks for it."""
    needed = [(name, "cohort.inputs") for name in section.inputs]
    if section.target not in section.derive:
        needed.append((section.target, "cohort.target"))
    if section.split.column is not None:
        needed.append((section.split.column, "cohort.split.column"))
    return needed


def _needed_prefixes(section: CohortSection) -> list[tuple[str, str, str]]:
    """Return the prefixes a study needs, each with the key that asks for it and a remedy."""
    needed = []
    if section.segments is not None:
        remedy = "Call the 17 columns so; or name their prefix in the study, or set segments: null"
        needed.append((section.segments, "cohort.segments", remedy))
    rule = section.derive.get(section.target)
    if rule is not None:
        key = f"cohort.derive.{section.target}.columns"
        remedy = "Call the 17 columns so, or name their prefix in the study"
        needed.append((rule.columns, key, remedy))
    return needed


def _is_numbered(name: str) -> bool:
    return re.search(r"_\d\d$", name) is not None
