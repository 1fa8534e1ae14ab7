"""Ids, segment values, target and covariates from the cells of a cohort table."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import partial

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from cohort.reading.csv_rows import CsvRows, as_bool, is_missing, parse_numbers
from cohort.reading.findings import Findings
from cohort.reading.header import EXCLUSION, PATIENT, SPLIT
from cohort.reading.image_paths import IMAGE_ENDINGS
from cohort.segments import SEGMENTS, indices_of, segment_columns
from spaces.sections import CohortSection, DerivedTarget


def read_ids(rows: CsvRows, findings: Findings) -> tuple[str, ...]:
    """Return the patient ids; note the empty and the repeated ones, without showing any."""
    column = rows.text(PATIENT)
    empty = is_missing(column)
    findings.add(empty, PATIENT, "the patient id is empty", "Give each row an id")
    ids = column.to_pylist()
    repeated = pd.Series(ids, dtype=object).duplicated(keep=False).to_numpy() & ~empty
    findings.add(
        repeated,
        PATIENT,
        "the patient id stands in more than one row",
        "Keep one row a patient, or give the others an exclusion_reason",
    )
    return tuple(ids)


def read_segments(rows: CsvRows, prefix: str, findings: Findings) -> np.ndarray:
    """Return 17 columns as float64 (n, 17), nan where missing."""
    values = np.empty((len(rows.numbers), SEGMENTS))
    for segment, name in enumerate(segment_columns(prefix)):
        cells = rows.text(name)
        values[:, segment], broken = parse_numbers(cells)
        _note_no_number(findings, broken, name, cells)
        findings.add(
            values[:, segment] < 0,
            name,
            "a segment value must be >= 0",
            "Correct it, or leave the cell empty",
            partial(_cell, cells),
        )
    return values


def _note_no_number(
    findings: Findings, broken: np.ndarray, name: str, cells: pa.ChunkedArray
) -> None:
    findings.add(
        broken,
        name,
        "the cell must be a number or empty",
        "Write a decimal point, no units; leave unknown values empty",
        partial(_cell, cells),
    )


def read_target(
    rows: CsvRows,
    section: CohortSection,
    segment_values: Mapping[str, np.ndarray],
    findings: Findings,
) -> np.ndarray:
    """Return the target, float64 (n,), given or derived; where both exist they must agree."""
    name, rule = section.target, section.derive.get(section.target)
    derived = None if rule is None else derive_target(segment_values[rule.columns], rule)
    if name not in rows.names:
        assert derived is not None  # check_header saw to it
        return derived
    cells = rows.text(name)
    given, broken = parse_numbers(cells)
    broken |= ~np.isnan(given) & (given != 0) & (given != 1)
    findings.add(
        broken,
        name,
        "a target must be 0, 1 or empty",
        "Write 1 for positive and 0 for negative, or derive the target in the study file",
        partial(_cell, cells),
    )
    if derived is None:
        return given
    findings.add(
        ~broken & (np.nan_to_num(given, nan=-1) != np.nan_to_num(derived, nan=-1)),
        name,
        f"the given target differs from the one that cohort.derive.{name} computes",
        "Remove the column or the derive entry",
        lambda at: f"{_word(given[at])} given and {_word(derived[at])} derived",
    )
    return derived


def _cell(cells: pa.ChunkedArray, at: int) -> str:
    """Return a cell for an error, unless it might be a patient id from a shifted column."""
    text: str = cells[at].as_py()
    is_harmless = re.fullmatch(r"[A-Za-z ]{1,20}|[-+0-9.,eE%]{1,24}", text)
    return f"'{text}'" if is_harmless else f"a text of {len(text)} characters"


def _word(value: float) -> str:
    return "missing" if np.isnan(value) else f"{value:g}"


def derive_target(segments: np.ndarray, rule: DerivedTarget) -> np.ndarray:
    """Return 1 where any present segment of the territory is below the limit, else nan, else 0.

    Args:
        segments: float64 (n, 17), nan where missing.
        rule: limit and territory. A patient with a missing segment and none below is nan, since the
            missing one might be below.

    >>> derive_target(np.full((1, 17), 2.5), DerivedTarget(below=2.0))
    array([0.])
    """
    territory = segments[:, indices_of(rule.segments)]
    below = (territory < rule.below).any(axis=1)
    unknown = np.isnan(territory).any(axis=1)
    return np.where(below, 1.0, np.where(unknown, np.nan, 0.0))


def read_marks(rows: CsvRows, name: str | None, findings: Findings) -> np.ndarray | None:
    """Return ``development`` or ``test`` for each row, (n,) text; None without a column."""
    if name is None:
        return None
    cells = rows.text(name)
    marks = np.array(cells.to_pylist(), dtype=object)
    findings.add(
        ~np.isin(marks, ["development", "test"]),
        name,
        "the cell must be 'development' or 'test'",
        "Correct it",
        partial(_cell, cells),
    )
    return marks


def read_covariates(
    rows: CsvRows, section: CohortSection, used_prefixes: Iterable[str]
) -> pd.DataFrame:
    """Return the columns that have no other place; numbers where every cell is one or missing."""
    elsewhere = {"", PATIENT, EXCLUSION, SPLIT, section.split.column, section.target}
    elsewhere.update(section.inputs)
    for prefix in used_prefixes:
        elsewhere.update(segment_columns(prefix))
    columns: dict[str, np.ndarray] = {}
    for name in rows.names:
        cells = rows.text(name)
        if name in elsewhere or _holds_images(cells):
            continue
        values, broken = parse_numbers(cells)
        if broken.any():
            values = np.array(cells.to_pylist(), dtype=object)
            values[is_missing(cells)] = None
        columns[name] = values
    return pd.DataFrame(columns, index=range(len(rows.numbers)))


def _holds_images(cells: pa.ChunkedArray) -> bool:
    endings = "|".join(map(re.escape, IMAGE_ENDINGS))
    return bool(as_bool(pc.match_substring_regex(cells, f"(?i)({endings})$")).any())
