"""A cohort as the search may see it: development patients, and of the others only who they are."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from cohort.patient_key import (
    ephemeral_key,
    hash_ids,
    is_private,
    key_path,
    obtain_key,
    read_key,
)
from cohort.patients import Patients
from cohort.reading.full_table import FullTable, hashes_of, positions_of, read_full_table
from cohort.reading.header import PATIENT
from cohort.reading.suspicions import find_suspicions, find_twins
from cohort.split import Split, assign, draw_split
from spaces.errors import InputError
from spaces.study import Study

__all__ = ["Cohort", "Patients", "read_cohort"]


@dataclass(frozen=True, eq=False)
class Cohort:
    """A validated, split cohort that holds nothing of test patients but their hashes.

    Attributes:
        name: the table's stem, or its folder's name if that is ``cohort``.
        folder: the table's folder, resolved.
        development: the development patients, in the order of ``split.development``.
        split: who is where, and the folds.
        test_size: number of test patients.
        flow: ``collected``, ``excluded`` (by reason), ``included``, ``development``, ``test``, and
            ``missing_target`` (of development).
        table_sha256: of the csv's bytes.
        warnings: sentences about what looks wrong, judged on development alone; but they say
            which development patients share a picture with a test patient.
        images_sha256: of the development patients' pixels; None if images were not verified.
    """

    name: str
    folder: Path
    development: Patients
    split: Split
    test_size: int
    flow: Mapping[str, int | Mapping[str, int]]
    table_sha256: str = field(repr=False)
    warnings: tuple[str, ...]
    images_sha256: str | None = field(default=None, repr=False)


def read_cohort(
    study: Study,
    folder: Path,
    *,
    split: Split | None = None,
    verify_images: bool = True,
    create_key: bool = False,
) -> Cohort:
    """Return a study's cohort, checked in every cell that the study uses.

    Args:
        study: names the table, its columns and the split.
        folder: the folder of the study file, to which ``study.cohort.path`` is relative.
        split: an earlier assignment to use instead of drawing one.
        verify_images: whether to decode each image once; workers need not.
        create_key: whether to write the key for hashing ids beside the table if there is none. If
            not, hashes of a cohort without a key differ at every call.

    Raises:
        InputError: file, row or key, rule, value and remedy; all broken cells at once. Values of
            test patients and ids are never shown.
        RefusedError: ``split`` was made with another key or of other patients.
    """
    table = read_full_table(study, folder, verify_images=verify_images)
    if table.findings.count:
        raise table.error(_surely_development(table, study, split))
    everyone = table.everyone
    if split is None:
        key = obtain_key(table.path) if create_key else read_key(table.path) or ephemeral_key()
        split = draw_split(
            everyone.ids, everyone.target, study.cohort.split, key=key, marks=table.marks
        )
        positions = positions_of(split.development, hash_ids(key, everyone.ids))
    else:
        positions = positions_of(split.development, hashes_of(table, split))
    development = everyone.take(positions)
    return Cohort(
        name=table.path.stem if table.path.stem != "cohort" else table.path.parent.name,
        folder=table.path.parent,
        development=development,
        split=split,
        test_size=len(split.test),
        flow={
            "collected": table.collected,
            "excluded": table.excluded,
            "included": len(everyone),
            "development": len(development),
            "test": len(split.test),
            "missing_target": int(np.isnan(development.target).sum()),
        },
        table_sha256=table.sha256,
        warnings=_warnings(study, table, development, split, positions),
        images_sha256=_digest_images(table, positions),
    )


def _digest_images(table: FullTable, positions: np.ndarray) -> str | None:
    if not table.image_facts:
        return None
    digest = hashlib.sha256()
    for name, facts in sorted(table.image_facts.items()):
        digest.update(name.encode() + b"".join(facts[at].digest for at in positions))
    return digest.hexdigest()


def _surely_development(table: FullTable, study: Study, split: Split | None) -> np.ndarray:
    """Return which rows of a broken table are development whatever the mending changes.

    Nobody is, if the ids or the strata that decide it may be what is broken, or if an earlier
    split decides.
    """
    section, ids = study.cohort.split, table.everyone.ids
    nobody = np.zeros(len(ids), dtype=bool)
    if split is not None:
        return nobody
    if table.marks is not None:
        return np.asarray(table.marks == "development")
    if section.stratify or table.findings.touch(PATIENT):
        return nobody
    try:
        is_test, _ = assign(ids, table.everyone.target, section)
    except InputError:
        return nobody
    return ~is_test


def _warnings(
    study: Study, table: FullTable, development: Patients, split: Split, positions: np.ndarray
) -> tuple[str, ...]:
    found = find_suspicions(
        study.cohort,
        development,
        {prefix: values[positions] for prefix, values in table.segment_values.items()},
        {name: [facts[at] for at in positions] for name, facts in table.image_facts.items()},
        table.row_numbers[positions],
    )
    folds = np.full(len(table.everyone), -1)
    folds[positions] = split.folds
    found += find_twins(table.image_facts, folds, table.row_numbers)
    if key_path(table.path).exists() and not is_private(table.path):
        name = key_path(table.path).name
        found.append(f"{name} can be read by other users: chmod 600 {name}")
    return tuple(found)
