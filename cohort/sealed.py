"""The sealed test set: its images, its outcomes, and the ledger of who opened them.

Imported by ``analysis/judge/evaluate.py`` alone.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from filelock import FileLock

from cohort.patients import Patients
from cohort.reading.full_table import hashes_of, positions_of, read_full_table, table_path
from cohort.table import Cohort
from spaces.errors import RefusedError
from spaces.run_files import check_format, sha256_of
from spaces.study import Study

FORMAT = "polartune/openings/1"


@dataclass(frozen=True)
class Opening:
    """One time that the outcomes of a test set were read.

    Attributes:
        when: ISO 8601, UTC.
        run: the run that read them.
        frozen_sha256: digest of what that run had frozen before.
        test_sha256: names the test set: digest of its sorted patient hashes.
        count: 1 for the first opening of this test set. A result is exploratory from 2 on, and
            after any opening of the cohort under another split.
    """

    when: str
    run: str
    frozen_sha256: str
    test_sha256: str
    count: int


def ledger_path(study: Study, folder: Path) -> Path:
    """Return where the ledger lies, beside the table: ``<stem>.openings.jsonl``."""
    return table_path(study, folder).with_suffix(".openings.jsonl")


def sealed_images(cohort: Cohort, study: Study, folder: Path) -> Mapping[str, tuple[Path, ...]]:
    """Return the images of the test patients by input, in the order of ``cohort.split.test``.

    Predictions are made from them before the outcomes are opened; this is no opening.

    Raises:
        RefusedError: the table was changed since the cohort was read.
    """
    return _test_patients(cohort, study, folder).images


def open_outcomes(
    cohort: Cohort, study: Study, folder: Path, *, run: str, frozen_sha256: str
) -> Patients:
    """Return the test patients, in the order of ``cohort.split.test``: an opening.

    It stands in the ledger, on disk, before any outcome is returned. A call that follows directly
    on one of the same run with the same frozen files goes on under that entry: it was interrupted.

    Args:
        cohort: the cohort that the run was made with.
        study: the study of that run.
        folder: the folder of the study file.
        run: names the run in the ledger.
        frozen_sha256: digest of everything that was fixed beforehand.

    Raises:
        RefusedError: the table was changed since the cohort was read (then nothing is entered), or
            the ledger is damaged.
    """
    path = table_path(study, folder)
    _check_unchanged(cohort, path, sha256_of(path) if path.is_file() else "no file")
    _enter(cohort, study, folder, run=run, frozen_sha256=frozen_sha256)
    return _test_patients(cohort, study, folder)


def open_outcomes_together(
    members: Sequence[tuple[Cohort, Study]],
    folders: Sequence[Path],
    *,
    run: str,
    frozen_sha256: str,
    one_split: bool = True,
) -> list[Patients]:
    """Return the test patients with the outcomes of several studies, opened at the same time.

    Of one split it is one opening; of several, each test set has an entry, and none of them counts
    as an earlier look for the others: all was frozen before the first.

    Args:
        members: each study with its cohort; all of one table.
        folders: the folder of each study file.
        run: names them together in the ledger.
        frozen_sha256: digest of everything that was fixed beforehand, of all of them.
        one_split: whether they must share one split.

    Raises:
        RefusedError: they differ in table, or in the split that they must share, the table was
            changed since the cohorts were read (then nothing is entered), or the ledger is damaged.
    """
    path = table_path(members[0][1], folders[0])
    for other, _ in members:
        _check_unchanged(other, path, sha256_of(path) if path.is_file() else "no file")
    splits = {
        other.split.sha256: (other, its, at)
        for (other, its), at in zip(members, folders, strict=True)
    }
    if one_split and len(splits) != 1:
        raise RefusedError(run, "its studies must share one split", "Begin it anew")
    for cohort, study, folder in splits.values():
        _enter(cohort, study, folder, run=run, frozen_sha256=frozen_sha256)
    return [
        _test_patients(cohort, study, folder)
        for (cohort, study), folder in zip(members, folders, strict=True)
    ]


def openings(cohort: Cohort, study: Study, folder: Path) -> list[Opening]:
    """Return the openings of this cohort's test set, the first one first.

    Raises:
        RefusedError: the ledger is damaged.
    """
    test_sha256 = cohort.split.test_sha256
    ledger = _read_ledger(ledger_path(study, folder))
    return [opening for opening in ledger if opening.test_sha256 == test_sha256]


def openings_of_other_splits(cohort: Cohort, study: Study, folder: Path) -> list[Opening]:
    """Return the openings of this cohort's outcomes as other test sets, the first one first.

    Whoever splits anew after an opening has seen outcomes, though not of all these patients. Not
    so for test sets that were opened together with this one, when all was frozen.

    Raises:
        RefusedError: the ledger is damaged.
    """
    test_sha256 = cohort.split.test_sha256
    ledger = _read_ledger(ledger_path(study, folder))
    together = {
        (opening.run, opening.frozen_sha256)
        for opening in ledger
        if opening.test_sha256 == test_sha256
    }
    return [
        opening
        for opening in ledger
        if opening.test_sha256 != test_sha256
        and (opening.run, opening.frozen_sha256) not in together
    ]


def _test_patients(cohort: Cohort, study: Study, folder: Path) -> Patients:
    table = read_full_table(study, folder, verify_images=False)
    _check_unchanged(cohort, table.path, table.sha256)
    if table.findings.count:
        raise table.error(np.zeros(len(table.everyone), dtype=bool))
    hashes = hashes_of(table, cohort.split)
    return table.everyone.take(positions_of(cohort.split.test, hashes))


def _check_unchanged(cohort: Cohort, path: Path, found: str) -> None:
    if found != cohort.table_sha256:
        raise RefusedError(
            path.name,
            f"the table was changed since the cohort was read: sha256 must be "
            f"{cohort.table_sha256[:12]}.., got {found[:12]}",
            "Restore it, or start a new run",
        )


def _enter(cohort: Cohort, study: Study, folder: Path, *, run: str, frozen_sha256: str) -> None:
    path = ledger_path(study, folder)
    with FileLock(path.with_suffix(".lock"), mode=0o600):
        found = openings(cohort, study, folder)
        if found and (found[-1].run, found[-1].frozen_sha256) == (run, frozen_sha256):
            return  # interrupted after it had opened: nothing that was fixed has changed since
        opening = Opening(
            when=datetime.now(UTC).isoformat(timespec="seconds"),
            run=run,
            frozen_sha256=frozen_sha256,
            test_sha256=cohort.split.test_sha256,
            count=len(found) + 1,
        )
        lines = [asdict(opening)]
        if not path.exists() or not path.stat().st_size:
            lines.insert(0, {"format": FORMAT})
        with path.open("a", encoding="utf-8") as file:
            file.write("".join(json.dumps(line) + "\n" for line in lines))
            file.flush()
            os.fsync(file.fileno())


def _read_ledger(path: Path) -> list[Opening]:
    """Return the openings of every test set of the cohort.

    A damaged line is refused, the last one too: it may stand for outcomes that somebody has seen.
    """
    if not path.exists():
        return []
    found = []
    for at, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
        try:
            entry = json.loads(line)
            if at == 1:
                check_format(path, entry.get("format"), "openings")
                continue
            found.append(Opening(**entry))
        except (ValueError, TypeError, AttributeError):
            raise RefusedError(
                f"{path.name}:{at}",
                "a damaged line of the ledger of openings",
                "Restore the file from a copy",
            ) from None
    return found
