"""Who is development and who is test, and the folds inside development."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from cohort.patient_key import fingerprint, hash_ids
from spaces.errors import InputError, RefusedError
from spaces.run_files import read_json, write_json
from spaces.sections import SplitSection

WHERE = "cohort.split"


@dataclass(frozen=True, eq=False)
class Split:
    """An assignment of patients, by the keyed hash of their ids.

    Attributes:
        development: hashes, in table order.
        folds: int64 (n_development,), the validation fold (from 0) of each development patient.
        test: hashes, in table order.
        key_fingerprint: names the key that made the hashes.
    """

    development: tuple[str, ...] = field(repr=False)
    folds: np.ndarray = field(repr=False)
    test: tuple[str, ...] = field(repr=False)
    key_fingerprint: str

    @property
    def sha256(self) -> str:
        """Digest of who is where; the order of the table's rows does not matter."""
        content = {
            "development": sorted(zip(self.development, self.folds.tolist(), strict=True)),
            "test": sorted(self.test),
            "key_fingerprint": self.key_fingerprint,
        }
        return hashlib.sha256(json.dumps(content, separators=(",", ":")).encode()).hexdigest()

    @property
    def test_sha256(self) -> str:
        """Digest of the set of test patients."""
        return hashlib.sha256("\n".join(sorted(self.test)).encode()).hexdigest()


def draw_split(
    ids: Sequence[str],
    target: np.ndarray,
    section: SplitSection,
    *,
    key: bytes,
    marks: np.ndarray | None = None,
) -> Split:
    """Return the split of a cohort; it depends on seed and ids, not on the order of the rows.

    Args:
        ids: distinct patient ids.
        target: float64 (n,), 0, 1 or nan; read for the class check and by ``stratify`` only.
        section: the study's settings.
        key: hashes the ids.
        marks: (n,) ``development`` or ``test``, if the study names a column.

    Raises:
        InputError: a part would be empty, or lacks one of the two classes.
    """
    is_test, folds = assign(ids, target, section, marks=marks)
    _check_classes(target, is_test, folds, section)
    hashes = np.array(hash_ids(key, ids), dtype=object)
    return Split(
        development=tuple(hashes[~is_test]),
        folds=folds[~is_test],
        test=tuple(hashes[is_test]),
        key_fingerprint=fingerprint(key),
    )


def assign(
    ids: Sequence[str],
    target: np.ndarray,
    section: SplitSection,
    *,
    marks: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Return who is test, bool (n,), and the folds, int64 (n,) with -1 for test patients.

    Raises:
        InputError: the test set, or development, would be empty.
    """
    order = np.array(sorted(range(len(ids)), key=ids.__getitem__), dtype=np.intp)
    strata = np.where(np.isnan(target), 2, target).astype(int) if section.stratify else None
    strata = np.zeros(len(ids), dtype=int) if strata is None else strata
    for_test, for_folds = np.random.SeedSequence(section.seed).spawn(2)
    generator = np.random.default_rng(for_test)
    if section.outer_fold is not None:
        outer = np.empty(len(ids), dtype=np.int64)
        everyone = np.concatenate(_shuffled_strata(order, strata, generator=generator))
        outer[everyone] = np.arange(len(everyone)) % section.outer_folds
        is_test = outer == section.outer_fold
    elif marks is None:
        is_test = _draw_test(order, strata, _test_count(section, len(ids)), generator=generator)
    else:
        is_test = np.asarray(marks == "test")
    if not is_test.any() or is_test.all():
        empty = "test" if not is_test.any() else "development"
        raise InputError(WHERE, f"no patient is {empty}", "Both parts need patients")
    inside = order[~is_test[order]]
    folds = np.full(len(ids), -1, dtype=np.int64)
    generator = np.random.default_rng(for_folds)
    shuffled = np.concatenate(_shuffled_strata(inside, strata, generator=generator))
    folds[shuffled] = np.arange(len(shuffled)) % section.folds
    return is_test, folds


def _test_count(section: SplitSection, patients: int) -> int:
    if section.test >= 1:
        count = int(section.test)
    else:
        count = max(1, math.floor(section.test * patients + 0.5))
    if count >= patients:
        raise InputError(
            f"{WHERE}.test",
            f"the test set must be smaller than the cohort of {patients}, got {count}",
            "Give a smaller count or a fraction",
        )
    return count


def _shuffled_strata(
    members: np.ndarray, strata: np.ndarray, *, generator: np.random.Generator
) -> list[np.ndarray]:
    return [
        generator.permutation(members[strata[members] == stratum])
        for stratum in np.unique(strata[members])
    ]


def _draw_test(
    order: np.ndarray, strata: np.ndarray, count: int, *, generator: np.random.Generator
) -> np.ndarray:
    """Return exactly ``count`` test patients, shared out over the strata by largest remainder."""
    groups = _shuffled_strata(order, strata, generator=generator)
    shares = np.array([count * len(group) / len(order) for group in groups])
    counts = np.floor(shares).astype(int)
    by_remainder = np.argsort(counts - shares, kind="stable")
    counts[by_remainder[: count - counts.sum()]] += 1
    is_test = np.zeros(len(order), dtype=bool)
    for group, share in zip(groups, counts, strict=True):
        is_test[group[:share]] = True
    return is_test


def _check_classes(
    target: np.ndarray, is_test: np.ndarray, folds: np.ndarray, section: SplitSection
) -> None:
    inside = target[~is_test]
    negative, positive = (int((inside == value).sum()) for value in (0, 1))
    if not negative or not positive:
        raise InputError(
            "cohort.target",
            f"the {len(inside)} development patients must have both classes, got {negative} with "
            f"0, {positive} with 1, {int(np.isnan(inside).sum())} unknown",
            "Choose another target, or a split that leaves both in development",
        )
    helpless = "stratify: true cannot help here: use fewer folds or a larger test set"
    stratify = helpless if section.stratify else "Set stratify: true"
    scarce = min(negative, positive) < section.folds
    for fold in range(section.folds):
        values = target[folds == fold]
        for value in (0, 1):
            if not (values == value).any():
                raise InputError(
                    WHERE,
                    f"fold {fold + 1} of {section.folds} holds no development patient whose "
                    f"target is {value}",
                    helpless if scarce else stratify,
                )
    if not {0.0, 1.0} <= set(target[is_test].tolist()):
        by_column = f"Change the column '{section.column}': stratify: true cannot help"
        raise InputError(
            WHERE, "the test set lacks a class", by_column if section.column else stratify
        )


def write_split(path: Path, split: Split) -> None:
    """Write split.json, whole or not at all."""
    content = {
        "sha256": split.sha256,
        "key_fingerprint": split.key_fingerprint,
        "development": list(split.development),
        "folds": split.folds.tolist(),
        "test": list(split.test),
    }
    write_json(path, "split", content)


def read_split(path: Path) -> Split:
    """Return what ``write_split`` was given.

    Raises:
        InputError: the file is missing or no JSON.
        RefusedError: it is of another format, or was changed after it was written.
    """
    content = read_json(path, "split")
    try:
        split = Split(
            development=tuple(content["development"]),
            folds=np.array(content["folds"], dtype=np.int64),
            test=tuple(content["test"]),
            key_fingerprint=content["key_fingerprint"],
        )
        intact = split.sha256 == content["sha256"]
    except (KeyError, TypeError, ValueError):
        intact = False
    if not intact:
        raise RefusedError(path.name, "the split was changed after it was written", "Restore it")
    return split
