import errno
import json
import secrets
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from cohort.patient_key import fingerprint, hash_ids, key_path, obtain_key, read_key
from cohort.split import Split, draw_split, read_split, write_split
from spaces.errors import InputError, RefusedError
from spaces.sections import SplitSection

KEY = bytes(range(32))


def patients(count, positives=None):
    ids = [f"p{number:05d}" for number in range(count)]
    positives = count // 2 if positives is None else positives
    target = (np.arange(count) < positives).astype(float)
    return ids, np.random.default_rng(1).permutation(target)


def draw(ids, target, marks=None, key=KEY, **section):
    return draw_split(ids, target, SplitSection(**section), key=key, marks=marks)


@settings(max_examples=60)
@given(
    ids=st.lists(st.text(min_size=1, max_size=8), min_size=40, max_size=80, unique=True),
    test=st.one_of(st.integers(8, 20), st.floats(0.2, 0.5)),
    folds=st.integers(2, 5),
    seed=st.integers(0, 2**32),
    stratify=st.booleans(),
)
def test_no_patient_is_in_two_of_train_validation_and_test(ids, test, folds, seed, stratify):
    target = (np.arange(len(ids)) % 2).astype(float)
    try:
        split = draw(ids, target, test=test, folds=folds, seed=seed, stratify=stratify)
    except InputError:
        assume(False)
    everyone = set(hash_ids(KEY, ids))
    hashes = np.array(split.development)
    for fold in range(folds):
        train, validation = hashes[split.folds != fold], hashes[split.folds == fold]
        parts = [set(train), set(validation), set(split.test)]
        assert sum(map(len, parts)) == len(everyone)
        assert set.union(*parts) == everyone
    assert sorted(np.unique(split.folds)) == list(range(folds))
    assert np.ptp(np.bincount(split.folds)) <= 1


@settings(max_examples=30)
@given(order=st.permutations(range(50)), stratify=st.booleans())
def test_the_order_of_the_rows_changes_nothing_but_the_order(order, stratify):
    ids, target = patients(50)
    split = draw(ids, target, test=10, stratify=stratify)
    shuffled_ids = [ids[at] for at in order]
    other = draw(shuffled_ids, target[list(order)], test=10, stratify=stratify)
    assert set(split.test) == set(other.test)
    folds, other_folds = (dict(zip(s.development, s.folds, strict=True)) for s in (split, other))
    assert folds == other_folds
    assert split.sha256 == other.sha256
    hashes = hash_ids(KEY, shuffled_ids)
    inside = set(other.development)
    assert other.development == tuple(text for text in hashes if text in inside)


@pytest.mark.parametrize(("test", "count"), [(93, 93), (0.1, 94), (0.0985, 93), (1e-9, 1)])
@pytest.mark.parametrize("stratify", [False, True])
def test_the_test_set_has_exactly_the_size_asked(test, count, stratify):
    ids, target = patients(944)
    section = SplitSection(test=test, stratify=stratify)
    if count == 1:
        with pytest.raises(InputError, match="test set lacks a class"):
            draw_split(ids, target, section, key=KEY)
        return
    assert len(draw_split(ids, target, section, key=KEY).test) == count


def test_stratifying_balances_rare_classes_in_every_part():
    ids, target = patients(200, positives=30)
    target[np.flatnonzero(target == 0)[:20]] = np.nan
    split = draw(ids, target, test=40, folds=5, stratify=True)
    value = dict(zip(hash_ids(KEY, ids), target, strict=True))
    test = np.array([value[text] for text in split.test])
    assert [(test == 1).sum(), (test == 0).sum(), np.isnan(test).sum()] == [6, 30, 4]
    development = np.array([value[text] for text in split.development])
    counts = [(development[split.folds == fold] == 1).sum() for fold in range(5)]
    assert max(counts) - min(counts) <= 1


def test_another_seed_draws_another_split_and_the_key_does_not_matter():
    ids, target = patients(60)
    first, second = (draw(ids, target, seed=seed) for seed in (0, 1))
    assert set(first.test) != set(second.test)
    other_key = bytes(32)
    back = dict(zip(hash_ids(other_key, ids), hash_ids(KEY, ids), strict=True))
    other = draw(ids, target, key=other_key)
    assert tuple(back[text] for text in other.test) == first.test
    assert other.sha256 != first.sha256


def test_unstratified_draws_do_not_read_the_target():
    ids, target = patients(60)
    assert draw(ids, target).sha256 == draw(ids, 1 - target).sha256


def test_a_column_decides_who_is_test():
    ids, target = patients(60)
    marks = np.array(["test", "development", "development"] * 20, dtype=object)
    split = draw(ids, target, marks=marks, column="split")
    assert split.test == hash_ids(KEY, ids[::3])


def test_drawing_leaves_the_global_generator_alone():
    before = np.random.get_state()[1].tobytes()  # noqa: NPY002
    draw(*patients(60))
    assert np.random.get_state()[1].tobytes() == before  # noqa: NPY002


@pytest.mark.parametrize("stratify", [False, True])
def test_outer_folds_test_every_patient_exactly_once(stratify):
    ids, target = patients(103, positives=30)
    splits = [
        draw(ids, target, outer_fold=k, outer_folds=4, folds=3, stratify=stratify) for k in range(4)
    ]
    tested = [patient for split in splits for patient in split.test]
    assert sorted(tested) == sorted(hash_ids(KEY, ids))
    assert max(len(split.test) for split in splits) - min(len(split.test) for split in splits) <= 1
    for split in splits:
        assert set(split.test).isdisjoint(split.development)
        assert len(split.test) + len(split.development) == len(ids)
    if stratify:
        positive = set(np.array(hash_ids(KEY, ids))[target == 1])
        counts = [len(positive & set(split.test)) for split in splits]
        assert max(counts) - min(counts) <= 1


def test_a_fold_without_a_class_names_stratify():
    with pytest.raises(InputError, match=r"fold \d of 5 holds no .* target is 1.*stratify: true"):
        draw(*patients(100, positives=6), test=50)


def test_a_test_set_without_a_class_names_stratify_but_not_the_class():
    ids, target = patients(400, positives=8)
    with pytest.raises(InputError, match=r"test set lacks a class\. Set stratify: true") as error:
        draw(ids, target, test=2, folds=2, seed=3)
    assert "target is" not in str(error.value)


def test_too_few_positives_for_the_folds_are_not_mended_by_stratifying():
    with pytest.raises(InputError, match=r"fold \d of 5 .*stratify: true cannot help.*fewer folds"):
        draw(*patients(100, positives=3), test=1, folds=5, stratify=False)


def test_when_stratifying_cannot_help_the_error_says_so():
    with pytest.raises(InputError, match="cannot help here: use fewer folds"):
        draw(*patients(100, positives=3), test=50, stratify=True)


@pytest.mark.parametrize("test", [60, 61])
def test_a_test_set_as_large_as_the_cohort_is_refused(test):
    with pytest.raises(InputError, match=rf"smaller than the cohort of 60, got {test}"):
        draw(*patients(60), test=test)


def test_a_column_that_leaves_a_part_empty_is_refused():
    marks = np.full(60, "development", dtype=object)
    with pytest.raises(InputError, match="no patient is test"):
        draw(*patients(60), marks=marks, column="split")


def test_a_written_split_reads_back_equal_and_holds_no_id(tmp_path):
    ids, target = patients(60)
    split = draw(ids, target)
    write_split(tmp_path / "split.json", split)
    again = read_split(tmp_path / "split.json")
    assert (again.development, again.test) == (split.development, split.test)
    assert np.array_equal(again.folds, split.folds)
    assert again.sha256 == split.sha256
    text = (tmp_path / "split.json").read_text() + repr(split)
    assert not any(identity in text for identity in ids)
    assert KEY.hex() not in text


@pytest.mark.parametrize(
    "change",
    [
        lambda content: content["folds"].__setitem__(0, (content["folds"][0] + 1) % 5),
        lambda content: content["test"].append(content["development"][0]),
        lambda content: content["folds"].pop(),
        lambda content: content.pop("test"),
    ],
)
def test_a_changed_split_is_refused(tmp_path, change):
    path = tmp_path / "split.json"
    write_split(path, draw(*patients(60)))
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    with pytest.raises(RefusedError, match=r"split\.json: the split was changed"):
        read_split(path)


def test_the_digest_tells_a_moved_patient():
    split = draw(*patients(60))
    moved = Split(split.development[1:], split.folds[1:], split.test, split.key_fingerprint)
    assert moved.sha256 != split.sha256


def test_the_key_is_private_and_stays_the_same(tmp_path):
    table = tmp_path / "cohort.csv"
    assert read_key(table) is None
    key = obtain_key(table)
    assert len(key) == 32
    assert key_path(table).stat().st_mode & 0o777 == 0o600
    assert obtain_key(table) == read_key(table) == key
    assert fingerprint(key) != fingerprint(KEY)


def test_two_first_uses_at_once_get_one_key(tmp_path, monkeypatch):
    table, token_bytes, others = tmp_path / "cohort.csv", secrets.token_bytes, []

    def meanwhile(size):
        monkeypatch.setattr(secrets, "token_bytes", token_bytes)
        others.append(obtain_key(table))
        return token_bytes(size)

    monkeypatch.setattr(secrets, "token_bytes", meanwhile)
    assert [obtain_key(table)] == others == [read_key(table)]
    assert [path.name for path in tmp_path.iterdir()] == ["cohort.key"]


def test_a_first_use_that_is_stopped_leaves_no_key(tmp_path, monkeypatch):
    def stop(_):
        raise KeyboardInterrupt

    monkeypatch.setattr(secrets, "token_bytes", stop)
    with pytest.raises(KeyboardInterrupt):
        obtain_key(tmp_path / "cohort.csv")
    assert list(tmp_path.iterdir()) == []


def test_a_file_system_without_links_has_keys_too(tmp_path, monkeypatch):
    def refuse(*_):
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(Path, "hardlink_to", refuse)
    table = tmp_path / "cohort.csv"
    assert obtain_key(table) == obtain_key(table) == read_key(table)


def test_a_damaged_key_is_told(tmp_path):
    (tmp_path / "cohort.key").write_bytes(b"short")
    with pytest.raises(InputError, match=r"cohort\.key: a key must have 32 bytes, got 5"):
        obtain_key(tmp_path / "cohort.csv")


def test_hashes_are_hmac_sha256():
    expected = "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7"
    assert hash_ids(bytes([0x0B] * 20), ["Hi There"]) == (expected,)  # RFC 4231, case 1
