"""One driver holds a run, finds it clean, and is not kept out by those who only ask."""

import threading

import pytest
from filelock import FileLock

from spaces import session
from spaces.errors import RefusedError
from spaces.run_files import RunFiles
from spaces.session import driving, is_driven


@pytest.fixture
def run(tmp_path):
    return RunFiles(tmp_path / "run")


def test_a_second_driver_is_refused(run, monkeypatch):
    monkeypatch.setattr(session, "LOCK_SECONDS", 0.1)
    with (
        driving(run),
        pytest.raises(RefusedError, match="another polartune works on this run"),
        driving(run),
    ):
        pass


def test_who_asks_whether_a_run_is_driven_keeps_no_driver_out(run, monkeypatch):
    """Whoever asks has the lock for an instant, here for a long one; a driver waits for it."""
    monkeypatch.setattr(session, "LOCK_SECONDS", 60.0)
    run.root.mkdir()
    asking = FileLock(run.lock, thread_local=False)
    asking.acquire()
    threading.Timer(0.2, asking.release).start()
    with driving(run):
        assert not asking.is_locked
        assert is_driven(run)
    assert not is_driven(run)
    monkeypatch.setattr(session, "LOCK_SECONDS", 0.0)
    with driving(run):
        pass


def test_what_killed_writers_left_is_removed_from_this_run_and_from_no_other(run):
    inner = RunFiles(run.root / "studies" / "inner")
    left = [
        run.out_of_fold / ".3.parquet.node.17.partial",
        run.model / ".model.safetensors.node.17.partial",
        run.root / ".optuna.log.node.17.partial.lock",
    ]
    kept = [
        run.out_of_fold / "3.parquet",
        run.root / "notes.partial",
        inner.out_of_fold / ".3.parquet.node.17.partial",
        inner.lock,
    ]
    for path in (*left, *kept):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    with driving(run):
        assert [path for path in left if path.exists()] == []
        assert [path for path in kept if not path.exists()] == []
