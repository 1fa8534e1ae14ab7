import ast
import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from small_cohort import row_of, study, table, write_without_images

import cohort.sealed
from cohort.patient_key import hash_ids, read_key
from cohort.sealed import (
    open_outcomes,
    open_outcomes_together,
    openings,
    openings_of_other_splits,
    sealed_images,
)
from cohort.segments import segment_columns
from cohort.split import Split
from cohort.table import read_cohort
from spaces.errors import RefusedError
from spaces.sections import DerivedTarget

PACKAGE = Path(cohort.sealed.__file__).parent


@pytest.fixture
def frame():
    return table()


@pytest.fixture
def folder(tmp_path, frame):
    return write_without_images(tmp_path, frame)


@pytest.fixture
def sealed(folder):
    """A cohort, its study and its folder: the first three arguments of every function here."""
    return read_cohort(study(), folder, verify_images=False, create_key=True), study(), folder


def opened(sealed, run="runs/a"):
    return open_outcomes(*sealed, run=run, frozen_sha256="f" * 64)


def test_outcomes_are_the_test_rows_in_the_order_of_the_split(sealed, frame, folder):
    patients = opened(sealed)
    split = sealed[0].split
    assert hash_ids(read_key(folder / "cohort.csv"), patients.ids) == split.test
    own = frame.iloc[[row_of(frame, identity) for identity in patients.ids]]
    assert np.array_equal(patients.target, own["sex"].to_numpy(dtype=float))
    assert np.array_equal(patients.segments, own[segment_columns("mfr")].to_numpy(dtype=float))
    assert set(patients.ids).isdisjoint(sealed[0].development.ids)


def test_images_come_in_the_same_order_and_are_no_opening(sealed):
    images = sealed_images(*sealed)
    assert openings(*sealed) == []
    assert images == dict(opened(sealed).images)


def test_a_run_that_was_interrupted_goes_on_under_its_entry_and_another_gets_its_own(
    sealed, folder
):
    for run in ("runs/a", "runs/a", "runs/b", "runs/a"):
        opened(sealed, run)
    found = openings(*sealed)
    assert [(o.run, o.count) for o in found] == [("runs/a", 1), ("runs/b", 2), ("runs/a", 3)]


def test_other_frozen_files_of_the_same_run_are_another_opening(sealed, folder):
    opened(sealed)
    open_outcomes(*sealed, run="runs/a", frozen_sha256="e" * 64)
    found = openings(*sealed)
    assert [o.count for o in found] == [1, 2]
    assert {o.test_sha256 for o in found} == {sealed[0].split.test_sha256}
    first, *lines = (folder / "cohort.openings.jsonl").read_text().splitlines()
    assert json.loads(first) == {"format": "polartune/openings/1"}
    keys = {"when", "run", "frozen_sha256", "test_sha256", "count"}
    assert all(set(json.loads(line)) == keys for line in lines)


def test_another_test_set_is_counted_apart_and_row_order_is_not_another(sealed, frame, folder):
    opened(sealed)
    other_study = study(split={"test": 8, "folds": 3, "seed": 4})
    other = read_cohort(other_study, folder, verify_images=False), other_study, folder
    assert openings(*other) == []
    assert openings_of_other_splits(*other) == openings(*sealed)
    opened(other, "runs/b")
    assert [(o.run, o.count) for o in openings(*other)] == [("runs/b", 1)]
    write_without_images(folder, frame.iloc[::-1])
    again = read_cohort(study(), folder, verify_images=False), study(), folder
    assert [opening.count for opening in openings(*again)] == [1]
    assert [opening.run for opening in openings_of_other_splits(*again)] == ["runs/b"]


def test_the_ledger_is_on_disk_before_anything_is_read(sealed, monkeypatch):
    def read_full_table(*_, **__):
        assert len(openings(*sealed)) == 1
        raise KeyboardInterrupt

    monkeypatch.setattr(cohort.sealed, "read_full_table", read_full_table)
    with pytest.raises(KeyboardInterrupt):
        opened(sealed)
    assert len(openings(*sealed)) == 1


def test_simultaneous_openings_are_all_counted(sealed):
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda number: opened(sealed, f"runs/{number}"), range(8)))
    assert [opening.count for opening in openings(*sealed)] == list(range(1, 9))


def test_a_changed_table_is_refused_and_not_entered(sealed, frame, folder):
    frame.loc[0, "sex"] = 1 - frame.loc[0, "sex"]
    write_without_images(folder, frame)
    with pytest.raises(RefusedError, match=r"cohort\.csv: the table was changed"):
        opened(sealed)
    with pytest.raises(RefusedError, match=r"cohort\.csv: the table was changed"):
        sealed_images(*sealed)
    assert openings(*sealed) == []


def test_a_lost_key_is_refused(sealed, folder):
    (folder / "cohort.key").write_bytes(bytes(32))
    with pytest.raises(RefusedError, match="fingerprint"):
        sealed_images(*sealed)


@pytest.mark.parametrize("damage", ["cut", "line"])
def test_a_damaged_ledger_is_refused(sealed, folder, damage):
    opened(sealed)
    ledger = folder / "cohort.openings.jsonl"
    text = ledger.read_text()
    ledger.write_text(text[:-20] if damage == "cut" else text + "{}\n")
    for act in (openings, openings_of_other_splits, lambda *where: opened(where)):
        with pytest.raises(RefusedError, match=r"cohort\.openings\.jsonl:\d: a damaged line"):
            act(*sealed)


def test_a_ledger_that_was_created_but_not_written_is_begun_again(sealed, folder):
    (folder / "cohort.openings.jsonl").touch()
    opened(sealed)
    assert [opening.count for opening in openings(*sealed)] == [1]


def test_the_ledger_names_no_patient(sealed, folder):
    opened(sealed)
    assert "SECRET" not in (folder / "cohort.openings.jsonl").read_text()


def test_the_digest_of_a_test_set_forgets_its_order():
    first = Split((), np.array([], dtype=int), ("a", "b"), "k")
    second = Split((), np.array([], dtype=int), ("b", "a"), "k")
    assert first.test_sha256 == second.test_sha256


def test_the_full_table_is_read_by_table_and_sealed_alone():
    root = PACKAGE.parent
    importers = set()
    for package in ("cohort", "trainable", "search", "analysis", "polartune", "benchmarks"):
        for path in (root / package).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                names = [node.module] if isinstance(node, ast.ImportFrom) else []
                if isinstance(node, ast.ImportFrom):
                    names += [f"{node.module}.{alias.name}" for alias in node.names]
                if isinstance(node, ast.Import):
                    names += [alias.name for alias in node.names]
                if "cohort.reading.full_table" in names:
                    importers.add(path.relative_to(root).as_posix())
    assert importers == {"cohort/table.py", "cohort/sealed.py"}


class TestTogether:
    """Several studies of one test set are opened by one entry."""

    @pytest.fixture
    def members(self, sealed):
        cohort, its_study, folder = sealed
        derived = {"target": "low", "derive": {"low": DerivedTarget(below=2.0)}}
        section = its_study.cohort.model_copy(update=derived)
        other = its_study.model_copy(update={"cohort": section})
        return [(cohort, its_study), (cohort, other)], [folder, folder]

    def test_all_outcomes_come_under_one_entry(self, sealed, members):
        one, two = open_outcomes_together(*members, run="all", frozen_sha256="f" * 64)
        assert one.ids == two.ids
        assert np.array_equal(one.target, opened(sealed, "x").target)
        assert not np.array_equal(one.target, two.target)
        assert [opening.run for opening in openings(*sealed)] == ["all", "x"]

    def test_the_same_frozen_files_go_on_under_the_same_entry(self, sealed, members):
        for digest in ("f" * 64, "f" * 64, "e" * 64):
            open_outcomes_together(*members, run="all", frozen_sha256=digest)
        assert [opening.count for opening in openings(*sealed)] == [1, 2]

    def test_an_opening_in_between_makes_it_a_new_one(self, sealed, members):
        open_outcomes_together(*members, run="all", frozen_sha256="f" * 64)
        opened(sealed, "somebody else")
        open_outcomes_together(*members, run="all", frozen_sha256="f" * 64)
        assert [opening.count for opening in openings(*sealed)] == [1, 2, 3]

    def test_studies_of_different_splits_are_refused(self, sealed, members):
        (first, second), folders = members
        cohort, its_study = second
        another = replace(cohort, split=replace(cohort.split, folds=cohort.split.folds[::-1]))
        with pytest.raises(RefusedError, match="must share one split"):
            open_outcomes_together(
                [first, (another, its_study)], folders, run="all", frozen_sha256="f" * 64
            )
        assert openings(*sealed) == []

    @pytest.fixture
    def outer(self, folder):
        """Two outer folds of one cohort: other test sets, opened together."""
        members = []
        for k in range(2):
            section = study().cohort
            split = section.split.model_copy(update={"outer_fold": k, "outer_folds": 2})
            its = study().model_copy(update={"cohort": section.model_copy(update={"split": split})})
            members.append((read_cohort(its, folder, verify_images=False, create_key=True), its))
        return members, [folder, folder]

    def test_test_sets_that_are_opened_together_are_no_earlier_look_for_each_other(self, outer):
        members, folders = outer
        patients = open_outcomes_together(
            members, folders, run="nested", frozen_sha256="f" * 64, one_split=False
        )
        assert set(patients[0].ids).isdisjoint(patients[1].ids)
        for member, folder in zip(members, folders, strict=True):
            assert [opening.count for opening in openings(*member, folder)] == [1]
            assert openings_of_other_splits(*member, folder) == []
        open_outcomes(*members[0], folders[0], run="later", frozen_sha256="e" * 64)
        assert len(openings_of_other_splits(*members[1], folders[1])) == 1
