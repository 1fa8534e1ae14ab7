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
class Unfit:
    """What a process says of its node: no work for its run can go on there.

    Attributes:
        why: what the user reads.
        traceback: where it met that, for run.log; empty where ``why`` says it all.
        node: Ray's id of the node.
    """

    why: UserError
    traceback: str = ""
    node: str = ""


@dataclass(frozen=True)
class Report:
    """What a trial says after each epoch.

    Attributes:
        epoch: the epoch's measurements; None if there are none.
        oof_sha256: digest of oof/<number>.parquet, None while there is no such file.
        failed: why the trial cannot go on; empty while it can.
        traceback: where it failed, for run.log.
        lost: why its process can compute no more, so that the trial starts again; empty if it can.
        unfit: why no trial of the study can go on on this node; None if they can.
    """

    number: int
    host: str
    epoch: Epoch | None = None
    oof_sha256: str | None = None
    failed: str = ""
    traceback: str = ""
    lost: str = ""
    unfit: Unfit | None = None

    @property
    def score(self) -> float:
        """The score so far; NaN without an epoch."""
        return self.epoch.score if self.epoch else math.nan

    @property
    def is_last(self) -> bool:
        """Whether the process that says this ends itself: it can compute nothing here."""
        return bool(self.lost) or self.unfit is not None


def failure(number: int, error: Exception) -> Report:
    """Return the report of a trial that raised ``error``."""
    reason = _reason(error)
    return Report(number, socket.gethostname(), failed=reason, traceback=_written(error, reason))


def _reason(error: Exception) -> str:
    # An operating system's message names the file, and a file's name may be a patient's.
    told = error.strerror or "" if isinstance(error, OSError) else str(error)
    summary = told.strip().split("\n")[0]
    return f"{type(error).__name__}: {summary}" if summary else type(error).__name__


def _written(error: Exception, reason: str) -> str:
    return "".join(traceback.format_tb(error.__traceback__)) + reason


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


def unopened(error: Exception) -> Unfit:
    """Return what a slot says in which the study cannot be opened, whatever the work."""
    if isinstance(error, UserError):
        return Unfit(error)
    reason = _reason(error)
    why = InputError(
        "the study",
        f"cannot be opened on {socket.gethostname()} ({reason})",
        "run.log says where; mend it, and the same command goes on",
    )
    return Unfit(why, _written(error, reason))


def unwritten(error: OSError) -> Unfit:
    """Return what a slot says whose storage fails, whatever the work."""
    why = unwritable(f"run directory, on {socket.gethostname()}", error)
    return Unfit(why, _written(error, _reason(error)))
