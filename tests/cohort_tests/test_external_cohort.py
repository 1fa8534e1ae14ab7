"""Another cohort is read with the study's columns; every one of its patients is test."""

import pytest
from small_cohort import study, table, write

from cohort.patient_key import hash_ids, is_private, read_key
from cohort.segments import segment_columns
from cohort.table import read_external
from spaces.errors import InputError, RefusedError


@pytest.fixture
def own(tmp_path):
    """The folder of the study's own cohort, whose split is a column."""
    frame = table()
    frame["split"] = ["test"] * 8 + ["development"] * 32
    return write(tmp_path / "own", frame)


@pytest.fixture
def other(tmp_path):
    """The table of 20 others, without that column; their pictures are no patient's of the own."""
    frame = table(60, seed=1)
    folder = write(tmp_path / "oslo", frame)
    frame.iloc[40:].to_csv(folder / "cohort.csv", index=False)
    return folder / "cohort.csv"


SPLIT = study(split={"column": "split", "folds": 3})


def test_everybody_is_test_whatever_splits_the_own_cohort(own, other):
    named, cohort = read_external(SPLIT, own, other)
    ids = table(60).iloc[40:]["patient_id"]
    assert cohort.name == "oslo"
    assert cohort.split.test == hash_ids(read_key(other), ids)
    assert (len(cohort.development), len(cohort.split.folds)) == (0, 0)
    assert (cohort.test_size, cohort.flow["included"], cohort.flow["development"]) == (20, 20, 0)
    assert is_private(other)
    assert named.cohort.path == str(other)
    assert not (own / "cohort.key").exists()


def test_columns_that_the_regressions_saw_must_be_there(own, other):
    rows = table(60, seed=1).iloc[40:].drop(columns=segment_columns("rest_mbf"))
    rows.to_csv(other, index=False)
    with pytest.raises(InputError, match=r"rest_mbf_01 to rest_mbf_17 are missing.*regressions"):
        read_external(SPLIT, own, other)
    assert not other.with_suffix(".key").exists()


def test_a_cohort_is_not_another_than_itself(own, other):
    with pytest.raises(RefusedError, match=r"40 patients \(rows 2, 3, .* and 30 more\) have an im"):
        read_external(SPLIT, own, own / "cohort.csv")
