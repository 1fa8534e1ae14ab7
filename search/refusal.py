"""What Ray says to a user whose token is missing or wrong: on one line, and at once."""

from __future__ import annotations

import logging
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import ray
from ray.exceptions import AuthenticationError

from spaces.errors import InputError

_log = logging.getLogger(__name__)


@contextmanager
def authenticated(where: str) -> Iterator[None]:
    """Say on one line what Ray says of a token that is missing or wrong."""
    try:
        yield
    except AuthenticationError as error:
        raise InputError(
            where,
            f"Ray refuses this user ({first_line(error.message)})",
            "Set RAY_AUTH_MODE=token, and put the token of the cluster into ~/.ray/auth_token, or "
            "name its file in RAY_AUTH_TOKEN_PATH",
        ) from None


class _TokenRefused(BaseException):
    """Ray tries to connect again after any other ``Exception``."""


@contextmanager
def refused_at_once() -> Iterator[None]:
    """End ``ray.init`` when a cluster refuses the token; Ray would ask again for 20 seconds.

    Each time its client would write to stderr, and at last Ray would say that nobody answers.

    Raises:
        AuthenticationError: what Ray says of the token.
    """
    node: Any = ray._private.node
    connect = node.GcsClient

    def connect_or_leave(*arguments: Any, **options: Any) -> Any:
        try:
            with _stderr_logged():
                return connect(*arguments, **options)
        except AuthenticationError as error:
            raise _TokenRefused(error.message) from None

    node.GcsClient = connect_or_leave
    try:
        yield
    except _TokenRefused as refused:
        raise AuthenticationError(str(refused)) from None
    finally:
        node.GcsClient = connect


@contextmanager
def _stderr_logged() -> Iterator[None]:
    """Log what is written to stderr in the block, even by code that is not Python's."""
    if sys.stderr is None:  # it was closed before Python began
        yield
        return
    sys.stderr.flush()
    with tempfile.TemporaryFile() as written:
        stderr = os.dup(2)
        os.dup2(written.fileno(), 2)
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(stderr, 2)
            os.close(stderr)
            written.seek(0)
            if text := written.read().decode(errors="replace").strip():
                _log.info("%s", text)  # a warning might be shown on stderr after all


def first_line(told: object) -> str:
    """Return the first line of what Ray says; the others are for its developers."""
    return next(iter(str(told).strip().splitlines()), type(told).__name__).rstrip(".")
