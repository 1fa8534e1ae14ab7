"""One driver at a time: the run's lock, and its log."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from spaces.errors import RefusedError, UserError
from spaces.run_files import PARTIAL, RunFiles
from spaces.storage import FULL, unwritable

LOG = logging.getLogger("polartune")
LOCK_SECONDS = 1.0
"""Whoever asks ``is_driven`` has the lock for an instant; a driver has it for longer than this."""


@contextmanager
def driving(run: RunFiles) -> Iterator[None]:
    """Hold the lock of a run and write run.log; make the directory if there is none.

    What killed drivers left unfinished in it is removed.

    An error that is no user error gets its traceback into run.log, and a note that says so.

    Raises:
        InputError: the disk is full, or fails.
        RefusedError: another driver holds the run.
    """
    run.root.mkdir(parents=True, exist_ok=True)
    try:
        lock = FileLock(run.lock, timeout=LOCK_SECONDS).acquire()
    except Timeout:
        raise RefusedError(
            str(run.root), "another polartune works on this run", "Wait for it, or end it"
        ) from None
    with lock, _logging_to(run.log):
        _remove_partial(run)
        yield


def _remove_partial(run: RunFiles) -> None:
    """Remove the unfinished files of writers that were killed.

    Runs inside this one, as a campaign has them, have drivers of their own.
    """
    for folder, folders, names in os.walk(run.root):
        folders[:] = [name for name in folders if not RunFiles(Path(folder, name)).lock.exists()]
        for name in names:
            if name.startswith(".") and PARTIAL in name:  # Optuna leaves a lock beside its own
                with suppress(OSError):
                    Path(folder, name).unlink()


def is_driven(run: RunFiles) -> bool:
    """Return whether a driver holds the run."""
    if not run.lock.exists():
        return False
    try:
        with FileLock(run.lock, timeout=0):
            return False
    except Timeout:
        return True


class LogFile(logging.FileHandler):
    """run.log; a line that a full disk does not take is lost, and nothing else with it."""

    def __init__(self, path: Path, *, delay: bool = False) -> None:
        super().__init__(path, delay=delay, encoding="utf-8")
        self.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802
        """Stay silent, where the base would print a traceback for each line."""

    def close(self) -> None:
        """Close the file; what it did not take by now it will not take."""
        with suppress(OSError):
            super().close()


@contextmanager
def _logging_to(path: Path) -> Iterator[None]:
    handler = LogFile(path)
    root = logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    try:
        yield
    except UserError as error:
        LOG.error(str(error))  # noqa: TRY400  a traceback would tell the user nothing
        raise
    except Exception as error:
        LOG.exception("unexpected")
        if isinstance(error, OSError) and error.errno in FULL:
            raise unwritable(str(path.parent), error) from None
        error.add_note(f"details in {path}")
        raise
    finally:
        root.setLevel(level)
        root.removeHandler(handler)
        handler.close()
