"""A cohort as the search may see it: development patients, and of the others only who they are."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from cohort.patient_key import (
    fingerprint,
    hash_ids,
    is_private,
    key_path,
    obtain_key,
    passing_key,
    read_key,
)
from cohort.patients import Patients
from cohort.reading.full_table import FullTable, hashes_of, positions_of, read_full_table
from cohort.reading.header import PATIENT
from cohort.reading.suspicions import count_rows, find_seen_before, find_suspicions, find_twins
from cohort.segments import segment_columns
from cohort.split import Split, assign, draw_split
from spaces.errors import InputError, RefusedError
from spaces.sections import SplitSection
from spaces.study import Study

__all__ = ["Cohort", "Patients", "read_cohort", "read_external"]


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
        images_sha256: of the development patients' pixels (of an external cohort: of everybody's);
            None if images were not verified.
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

    @property
    def is_phantom(self) -> bool:
        """Whether the patients are invented: a drawn cohort has its truth beside it."""
        return (self.folder / "truth.json").exists()


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
            not, hashes of a cohort without a key differ in every process.

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
        if create_key:
            key = obtain_key(table.path)
        else:
            key = read_key(table.path) or passing_key(table.path)
        split = draw_split(
            everyone.ids, everyone.target, study.cohort.split, key=key, marks=table.marks
        )
        positions = positions_of(split.development, hash_ids(key, everyone.ids))
    else:
        positions = positions_of(split.development, hashes_of(table, split))
    development = everyone.take(positions)
    return Cohort(
        name=_name_of(table.path),
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


def read_external(study: Study, folder: Path, table: Path) -> tuple[Study, Cohort]:
    """Return another cohort, whose every patient is test, and the study that names its table.

    Its table needs the columns that the study uses, but for the split. A key for hashing ids is
    written beside it if there is none.

    Args:
        study: as run.
        folder: the folder of the study file.
        table: of the other cohort.

    Raises:
        InputError: as ``read_cohort``; or the frozen regressions lack their columns, or a class of
            the target is missing.
        RefusedError: a patient has an image of the study's own cohort.
    """
    update = {"path": str(table.resolve()), "split": SplitSection()}
    other = study.model_copy(update={"cohort": study.cohort.model_copy(update=update)})
    found = read_full_table(other, folder, verify_images=True)
    everyone = found.everyone
    if found.findings.count:
        raise found.error(np.zeros(len(everyone), dtype=bool))
    own = read_full_table(study, folder, verify_images=True)
    _check_external(study, own, found)
    key = obtain_key(found.path)
    nobody = np.array([], dtype=np.int64)
    split = Split((), nobody, hash_ids(key, everyone.ids), fingerprint(key))
    return other, Cohort(
        name=_name_of(found.path),
        folder=found.path.parent,
        development=everyone.take(nobody),
        split=split,
        test_size=len(everyone),
        flow={
            "collected": found.collected,
            "excluded": found.excluded,
            "included": len(everyone),
            "development": 0,
            "test": len(everyone),
            "missing_target": 0,
        },
        table_sha256=found.sha256,
        warnings=_seen_before(own, found),
        images_sha256=_digest_images(found, np.arange(len(everyone))),
    )


def _check_external(study: Study, own: FullTable, other: FullTable) -> None:
    ours = {fact.digest for facts in own.image_facts.values() for fact in facts}
    per_input = [[its.digest in ours for its in facts] for facts in other.image_facts.values()]
    is_ours = np.any(per_input, axis=0)
    if is_ours.any():
        raise RefusedError(
            other.path.name,
            f"{count_rows(other.row_numbers[is_ours], 'patient')} an image of the run's own cohort",
            "External patients must be others: give these rows an exclusion_reason",
        )
    for name in own.everyone.baseline_segments:
        if name not in other.everyone.baseline_segments:
            columns = segment_columns(study.cohort.baseline_segments[name])
            raise InputError(
                f"{other.path.name} row 1",
                f"columns {columns[0]} to {columns[-1]} are missing (the run's regressions see "
                "them)",
                "Give all 17, with empty cells where a value is unknown",
            )
    if not {0.0, 1.0} <= set(other.everyone.target.tolist()):
        raise InputError(
            other.path.name,
            f"'{study.cohort.target}' must have patients of both classes",
            "Add patients: nothing can be judged on one class",
        )


def _seen_before(own: FullTable, other: FullTable) -> tuple[str, ...]:
    is_near = find_seen_before(own.image_facts, other.image_facts)
    if not is_near.any():
        return ()
    text = (
        f"{count_rows(other.row_numbers[is_near], 'patient')} nearly the same picture as a patient "
        "of the run's own cohort: exclude whoever stands in both"
    )
    return (text,)


def _name_of(path: Path) -> str:
    return path.stem if path.stem != "cohort" else path.parent.name


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
