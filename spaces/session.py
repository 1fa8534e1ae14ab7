"""One driver at a time: the run's lock, and its log."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from spaces.errors import RefusedError, UserError
from spaces.run_files import RunFiles
from spaces.storage import FULL, unwritable

LOG = logging.getLogger("polartune")


@contextmanager
def driving(run: RunFiles) -> Iterator[None]:
    """Hold the lock of a run and write run.log; make the directory if there is none.

    An error that is no user error gets its traceback into run.log, and a note that says so.

    Raises:
        InputError: the disk is full, or fails.
        RefusedError: another driver holds the run.
    """
    run.root.mkdir(parents=True, exist_ok=True)
    try:
        lock = FileLock(run.lock, timeout=0).acquire()
    except Timeout:
        raise RefusedError(
            str(run.root), "another polartune works on this run", "Wait for it, or end it"
        ) from None
    with lock, _logging_to(run.log):
        yield


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
