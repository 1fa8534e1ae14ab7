"""Files are written whole or not at all, and read only if they are what they claim to be."""

import numpy as np
import pytest

from spaces.errors import InputError, RefusedError
from spaces.run_files import (
    VERSIONS,
    RunFiles,
    read_json,
    read_out_of_fold,
    replacing,
    write_json,
    write_out_of_fold,
)

LOGITS = np.random.default_rng(0).normal(size=(3, 7, 2)).astype(np.float32)
FOLDS = np.arange(7) % 3


def test_out_of_fold_logits_are_read_back_bit_for_bit(tmp_path):
    path = RunFiles(tmp_path).out_of_fold_of(4)
    digest = write_out_of_fold(path, LOGITS, FOLDS)
    assert np.array_equal(read_out_of_fold(path, digest), LOGITS)


def test_a_flipped_bit_in_the_logits_is_noticed(tmp_path):
    path = RunFiles(tmp_path).out_of_fold_of(4)
    digest = write_out_of_fold(path, LOGITS, FOLDS)
    content = bytearray(path.read_bytes())
    content[40] ^= 1
    path.write_bytes(bytes(content))
    with pytest.raises(RefusedError, match=r"digest differs .* trials\.jsonl"):
        read_out_of_fold(path, digest)


def test_without_a_digest_no_flipped_bit_gives_other_logits(tmp_path):
    """A trial that has not ended has no digest yet; its pages have checksums."""
    path = RunFiles(tmp_path).out_of_fold_of(4)
    write_out_of_fold(path, LOGITS, FOLDS)
    whole, noticed = path.read_bytes(), 0
    for at in range(0, len(whole), 5):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        try:
            assert np.array_equal(read_out_of_fold(path), LOGITS)
        except RefusedError:
            noticed += 1
    assert noticed > 100


def test_equal_logits_give_equal_bytes(tmp_path):
    one = write_out_of_fold(tmp_path / "a.parquet", LOGITS, FOLDS)
    assert write_out_of_fold(tmp_path / "b.parquet", LOGITS.copy(), FOLDS) == one


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "file.json"
    write_json(path, "best", {"value": 1})

    def write_half():
        with replacing(path) as partial:
            partial.write_text("half")
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        write_half()
    assert read_json(path, "best")["value"] == 1
    assert list(tmp_path.iterdir()) == [path]


def test_kind_and_version_are_checked(tmp_path):
    write_json(tmp_path / "file.json", "best", {}, version=2)
    with pytest.raises(RefusedError, match="format must be polartune/best/1, got polartune/best/2"):
        read_json(tmp_path / "file.json", "best")


@pytest.mark.parametrize("kind", sorted(VERSIONS))
def test_what_was_written_before_a_format_changed_is_refused(kind, tmp_path):
    path = tmp_path / "file.json"
    write_json(path, kind, {"value": 1}, version=VERSIONS[kind] - 1)
    with pytest.raises(RefusedError, match=f"format must be polartune/{kind}/{VERSIONS[kind]}"):
        read_json(path, kind)
    write_json(path, kind, {"value": 1})
    assert read_json(path, kind)["value"] == 1


def test_a_missing_or_damaged_file_is_bad_input(tmp_path):
    (tmp_path / "file.json").write_text("{")
    for name in ("file.json", "absent.json"):
        with pytest.raises(InputError, match="cannot be read"):
            read_json(tmp_path / name, "best")


def test_nan_is_never_written(tmp_path):
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "file.json", "best", {"value": float("nan")})


def test_nothing_is_made_outside_of_what_is_there(tmp_path):
    """Storage that is away must not be begun anew beside it."""
    root = tmp_path / "run"
    with pytest.raises(FileNotFoundError):
        write_json(root / "a" / "b" / "file.json", "best", {}, within=root)
    assert not root.exists()
    root.mkdir()
    write_json(root / "a" / "b" / "file.json", "best", {}, within=root)
    assert read_json(root / "a" / "b" / "file.json", "best")
    with pytest.raises(FileNotFoundError):
        write_json(root / "c" / "file.json", "best", {}, within=root / "c")
    assert not (root / "c").exists()


def test_unfinished_files_of_two_computers_have_two_names(tmp_path, monkeypatch):
    """Containers that share storage have the same process numbers."""
    names = set()
    for host in ("one", "two"):
        monkeypatch.setattr("socket.gethostname", lambda host=host: host)
        with replacing(tmp_path / "file") as partial:
            partial.touch()
            names.add(partial.name)
    assert len(names) == 2
