"""Storage that goes away and comes back, that takes no more, or holds somebody's file already."""

from __future__ import annotations

import errno
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from spaces.errors import InputError, RefusedError

AWAY_SECONDS = 30.0
AGAIN_SECONDS = 0.5
# What a folder of a server that restarts, or is mounted again, answers meanwhile.
AWAY = frozenset({errno.ENOENT, errno.EIO, errno.ESTALE, errno.ENOTCONN, errno.ETIMEDOUT})
FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO, errno.ESTALE})
T = TypeVar("T")


def outlasting(
    work: Callable[[], T],
    *,
    seconds: float = AWAY_SECONDS,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> T:
    """Return ``work()``, tried again while the storage that it needs is away.

    A search of hours must not end because a server restarts. A full disk, or a missing right, is
    not waited for.

    Args:
        work: safe to be tried again.
        seconds: for how long.
        clock: seconds that pass.
        sleep: waits.

    Raises:
        Exception: what ``work`` raised, as it is still away, or it is something else.
    """
    end = clock() + seconds
    while True:
        try:
            return work()
        except Exception as error:
            if not is_away(error) or clock() >= end:
                raise
        sleep(AGAIN_SECONDS)


def is_away(error: BaseException | None) -> bool:
    """Return whether storage that is away is behind an error, which may tell it in other words."""
    while error is not None and not isinstance(error, OSError):
        error = error.__cause__ or error.__context__
    return error is not None and error.errno in AWAY


def refuse_overwriting(path: Path, remedy: str) -> None:
    """Make sure that a command writes over nothing that was there before it.

    Raises:
        RefusedError: there is a file of that name.
    """
    if path.exists():
        raise RefusedError(str(path), "exists already", remedy)


def unwritable(where: str, error: OSError) -> InputError:
    """Return what a user reads when ``where`` takes no more; an error's file name stays unsaid."""
    problem = f"cannot be written ({error.strerror or type(error).__name__})"
    return InputError(where, problem, "Mend the storage, and the same command goes on")
