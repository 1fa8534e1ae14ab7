"""What a slot makes of an error: a failed trial, a lost process, or a node to be avoided."""

from __future__ import annotations

import errno
import os

import pytest
import torch

from search.report import lost

ILLEGAL = "CUDA error: an illegal memory access was encountered"


def torch_without_memory() -> Exception:
    """What torch itself raises where the computer has no more."""
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**60, dtype=torch.uint8)
    return caught.value


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (MemoryError(), "memory ran out (MemoryError)"),
        (OSError(errno.ENOMEM, os.strerror(errno.ENOMEM)), "memory ran out (OSError: Cannot "),
        (torch_without_memory(), "memory ran out (RuntimeError: "),
        (RuntimeError("std::bad_alloc"), "memory ran out (RuntimeError: std::bad_alloc)"),
        (torch.AcceleratorError(ILLEGAL), f"its GPU failed (AcceleratorError: {ILLEGAL})"),
        (RuntimeError("CUDA error: device lost"), "its GPU failed (RuntimeError: CUDA error"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_an_error_after_which_a_process_is_useless_is_a_loss(error: Exception, told: str) -> None:
    report = lost(3, error)
    assert report is not None
    assert report.lost.startswith(told)
    assert (report.number, report.failed, report.is_last) == (3, "", True)


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        ValueError("this configuration is impossible"),
        OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_depends_on_the_configuration_or_the_disk_is_no_loss(error: Exception) -> None:
    assert lost(3, error) is None
