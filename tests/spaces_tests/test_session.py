"""One driver holds a run, finds it clean, and is not kept out by those who only ask."""

import threading

import pytest

from spaces.errors import RefusedError
from spaces.run_files import RunFiles
from spaces.session import driving, is_driven


@pytest.fixture
def run(tmp_path):
    return RunFiles(tmp_path / "run")


def test_a_second_driver_is_refused(run):
    with (
        driving(run),
        pytest.raises(RefusedError, match="another polartune works on this run"),
        driving(run),
    ):
        pass


def test_who_asks_whether_a_run_is_driven_keeps_no_driver_out(run):
    run.root.mkdir()
    run.lock.touch()
    done = threading.Event()

    def ask():
        while not done.is_set():
            is_driven(run)

    asking = [threading.Thread(target=ask) for _ in range(2)]
    for thread in asking:
        thread.start()
    try:
        for _ in range(20):
            with driving(run):
                assert is_driven(run)
    finally:
        done.set()
        for thread in asking:
            thread.join()


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
