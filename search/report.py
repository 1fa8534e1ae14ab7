"""What a slot says after each epoch: its measurements, or why there are none."""

from __future__ import annotations

import errno
import math
import socket
import traceback
from dataclasses import dataclass, replace

from spaces.errors import InputError, UserError
from spaces.storage import unwritable
from spaces.trial_log import Epoch


@dataclass(frozen=True)
class Report:
    """What a trial says after each epoch.

    Attributes:
        epoch: the epoch's measurements; None if there are none.
        oof_sha256: digest of oof/<number>.parquet, None while there is no such file.
        failed: why the trial cannot go on; empty while it can.
        traceback: where it failed, for run.log.
        lost: why its process can compute no more, so that the trial starts again; empty if it can.
        obstacle: why no trial of the study can go on on this node; None if they can.
        node: Ray's id of the node, beside an obstacle.
    """

    number: int
    host: str
    epoch: Epoch | None = None
    oof_sha256: str | None = None
    failed: str = ""
    traceback: str = ""
    lost: str = ""
    obstacle: UserError | None = None
    node: str = ""

    @property
    def score(self) -> float:
        """The score so far; NaN without an epoch."""
        return self.epoch.score if self.epoch else math.nan

    @property
    def is_last(self) -> bool:
        """Whether the process that says this ends itself: it can compute nothing here."""
        return bool(self.lost) or self.obstacle is not None


def failure(number: int, error: Exception) -> Report:
    """Return the report of a trial that raised ``error``."""
    # An operating system's message names the file, and a file's name may be a patient's.
    told = error.strerror or "" if isinstance(error, OSError) else str(error)
    summary = told.strip().split("\n")[0]
    reason = f"{type(error).__name__}: {summary}" if summary else type(error).__name__
    written = "".join(traceback.format_tb(error.__traceback__)) + reason
    return Report(number, socket.gethostname(), failed=reason, traceback=written)


def lost(number: int, error: Exception) -> Report | None:
    """Return the report of a process that ``error`` leaves useless; None if it does not.

    Where memory ran out the kernel may as well have killed the process, and after most of CUDA's
    errors every later call fails: so both are a loss, after which the trial starts again.
    """
    if _says_memory(error):
        cause = "memory ran out"
    elif _breaks_cuda(error):
        cause = "its GPU failed"
    else:
        return None
    found = failure(number, error)
    return replace(found, failed="", lost=f"{cause} ({found.failed})")


def _says_memory(error: Exception) -> bool:
    """Whether the computer's memory ran out; a GPU's is a matter of the configuration."""
    if isinstance(error, MemoryError) or getattr(error, "errno", None) == errno.ENOMEM:
        return True
    # What torch's allocator raises is a RuntimeError.
    return any(sign in str(error) for sign in ("allocate memory", "bad_alloc"))


def _breaks_cuda(error: Exception) -> bool:
    """By name: a process that computes without torch must not import it to find out."""
    names = {kind.__name__ for kind in type(error).__mro__}
    return "AcceleratorError" in names or "CUDA error" in str(error)


def unopened(number: int, error: Exception) -> Report:
    """Return the report of a slot in which the study cannot be opened, whatever the trial."""
    if isinstance(error, UserError):
        return Report(number, socket.gethostname(), obstacle=error)
    found = failure(number, error)
    obstacle = InputError(
        "the study",
        f"cannot be opened on {found.host} ({found.failed})",
        "run.log says where; mend it, and the same command goes on",
    )
    return replace(found, failed="", obstacle=obstacle)


def unwritten(number: int, error: OSError) -> Report:
    """Return the report of a slot whose storage fails, whatever the trial."""
    found = failure(number, error)
    return replace(found, failed="", obstacle=unwritable(f"run directory, on {found.host}", error))
