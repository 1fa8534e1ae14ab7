"""The whole cohort table, test patients included; imported by ``table`` and ``sealed`` alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from cohort.patient_key import fingerprint, hash_ids, key_path, passing_key, read_key
from cohort.patients import Patients
from cohort.reading.cell_values import (
    read_covariates,
    read_ids,
    read_marks,
    read_segments,
    read_target,
)
from cohort.reading.csv_rows import CsvRows, is_missing, read_rows
from cohort.reading.findings import Findings
from cohort.reading.header import EXCLUSION, check_header, present_prefixes
from cohort.reading.image_paths import locate_images
from cohort.reading.images import ImageFacts, UnusableImageError, inspect_images
from cohort.split import Split
from spaces.errors import InputError, RefusedError
from spaces.study import Study


@dataclass(frozen=True, eq=False, repr=False)
class FullTable:
    """All included patients, and every cell that breaks a rule.

    Attributes:
        path: the csv file, resolved.
        sha256: of its bytes.
        row_numbers: (n,), the row of each patient as a spreadsheet shows it.
        everyone: the patients, in table order.
        marks: (n,) ``development`` or ``test``, if the study names a column.
        segment_values: by column prefix, float64 (n, 17).
        image_facts: by input, one a patient; empty if the images were not decoded.
        collected: rows of the table.
        excluded: rows by their exclusion_reason.
        findings: broken cells; nothing else may be used if there are any.
    """

    path: Path
    sha256: str
    row_numbers: np.ndarray
    everyone: Patients
    marks: np.ndarray | None
    segment_values: Mapping[str, np.ndarray]
    image_facts: Mapping[str, tuple[ImageFacts, ...]]
    collected: int
    excluded: Mapping[str, int]
    findings: Findings

    def error(self, development: np.ndarray) -> InputError:
        """Return the findings as one error; only rows of ``development``, (n,), show values."""
        return self.findings.error(self.path.name, self.row_numbers, development=development)


def table_path(study: Study, folder: Path) -> Path:
    """Return the cohort table of a study that lies in ``folder``."""
    return (folder / study.cohort.path).resolve()


def read_full_table(study: Study, folder: Path, *, verify_images: bool) -> FullTable:
    """Read the table and check every cell that the study uses.

    Raises:
        InputError: the file is unreadable, lacks a column, or includes nobody. Broken cells do not
            raise; they stand in ``findings``, since only the caller knows which rows are sealed.
    """
    section = study.cohort
    path = table_path(study, folder)
    every_row = read_rows(path)
    check_header(every_row.names, section, path.name)
    rows, excluded = _leave_out_excluded(every_row)
    if not len(rows.numbers):
        raise InputError(
            path.name,
            f"the cohort is empty: {len(every_row.numbers)} rows, "
            f"{sum(excluded.values())} of them with an {EXCLUSION}",
            "Add patients",
        )
    findings = Findings()
    ids = read_ids(rows, findings)
    located = {
        name: locate_images(rows.text(name), name, path.parent, findings) for name in section.inputs
    }
    facts = _inspect(located, rows.numbers, findings) if verify_images else {}
    values = {
        prefix: read_segments(rows, prefix, findings)
        for prefix in present_prefixes(rows.names, section)
    }
    baselines = {
        name: section.baseline_segments[name]
        for name in section.inputs
        if section.baseline_segments.get(name) in values
    }
    used = {*baselines.values(), *filter(None, [section.segments])}
    everyone = Patients(
        ids=ids,
        images={name: paths for name, (paths, _) in located.items()},
        target=read_target(rows, section, values, findings),
        segments=None if section.segments is None else values[section.segments],
        baseline_segments={name: values[prefix] for name, prefix in baselines.items()},
        covariates=read_covariates(rows, section, used),
    )
    return FullTable(
        path=path,
        sha256=rows.sha256,
        row_numbers=rows.numbers,
        everyone=everyone,
        marks=read_marks(rows, section.split.column, findings),
        segment_values=values,
        image_facts=facts,
        collected=len(every_row.numbers),
        excluded=excluded,
        findings=findings,
    )


def _leave_out_excluded(rows: CsvRows) -> tuple[CsvRows, dict[str, int]]:
    if EXCLUSION not in rows.names:
        return rows, {}
    reasons = rows.text(EXCLUSION)
    included = is_missing(reasons)
    counts = Counter(reasons.filter(pa.array(~included)).to_pylist())
    return rows.keep(included), dict(counts.most_common())


def _inspect(
    located: Mapping[str, tuple[tuple[Path, ...], np.ndarray]],
    row_numbers: np.ndarray,
    findings: Findings,
) -> dict[str, tuple[ImageFacts, ...]]:
    """Decode the images of all inputs; note unusable ones, and equal pixels of two patients."""
    facts: dict[str, tuple[ImageFacts, ...]] = {}
    owners: dict[bytes, int] = {}
    for name, (paths, usable) in located.items():
        positions = np.flatnonzero(usable).tolist()
        found = inspect_images([paths[at] for at in positions])
        for position, fact in zip(positions, found, strict=True):
            if isinstance(fact, UnusableImageError):
                findings.add_one(position, name, fact.rule, fact.remedy, fact.value)
            elif (owner := owners.setdefault(fact.digest, position)) != position:
                findings.add_one(
                    position,
                    name,
                    f"the image has the same pixels as one of row {row_numbers[owner]}",
                    "Two patients cannot share a scan: correct the path or exclude a row",
                )
        facts[name] = tuple(fact for fact in found if isinstance(fact, ImageFacts))
    return facts


def hashes_of(table: FullTable, split: Split) -> tuple[str, ...]:
    """Return the keyed hash of each patient, in table order, after checking that it is ``split``'s.

    Raises:
        InputError: the key is missing.
        RefusedError: the key is another one, or the table's patients are not those of the split.
    """
    key = read_key(table.path)
    name = key_path(table.path).name
    if key is None and fingerprint(passing_key(table.path)) == split.key_fingerprint:
        key = passing_key(table.path)
    if key is None:
        raise InputError(name, "the key that made the split is missing", "Restore it from a copy")
    if fingerprint(key) != split.key_fingerprint:
        raise RefusedError(
            name,
            f"its fingerprint must be {split.key_fingerprint}, got {fingerprint(key)}",
            "Restore the key that made the split, or start a new run",
        )
    hashes = hash_ids(key, table.everyone.ids)
    assigned = {*split.development, *split.test}
    if assigned != set(hashes):
        raise RefusedError(
            table.path.name,
            f"the split is of other patients: {len(assigned - set(hashes))} are gone, "
            f"{len(set(hashes) - assigned)} are new",
            "Restore the table, or start a new run",
        )
    return hashes


def positions_of(wanted: Sequence[str], hashes: Sequence[str]) -> np.ndarray:
    """Return where each wanted hash stands in ``hashes``, as integers."""
    at = {text: position for position, text in enumerate(hashes)}
    return np.array([at[text] for text in wanted], dtype=np.intp)
