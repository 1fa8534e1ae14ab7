"""The key that turns patient ids into hashes; it lies beside the cohort and never in a run."""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
import tempfile
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from spaces.errors import InputError

KEY_BYTES = 32


def key_path(table: Path) -> Path:
    """Return where the key of a cohort table lies: ``cohort.csv`` -> ``cohort.key``."""
    return table.with_suffix(".key")


@cache
def passing_key(table: Path) -> bytes:  # noqa: ARG001  a key for each table
    """Return a key for looking at a cohort without changing its folder.

    It is written nowhere, and the same for as long as this process lives: the studies of a campaign
    that is only checked share one split.
    """
    return secrets.token_bytes(KEY_BYTES)


def read_key(table: Path) -> bytes | None:
    """Return the 32 bytes of a table's key, None if there is no key.

    Raises:
        InputError: the file is no key.
    """
    path = key_path(table)
    try:
        key = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        reason = error.strerror or "unreadable"
        raise InputError(
            path.name, f"the key cannot be read ({reason})", "Run as the user who owns it"
        ) from None
    if len(key) != KEY_BYTES:
        raise InputError(
            path.name,
            f"a key must have {KEY_BYTES} bytes, got {len(key)}",
            "Restore it from a copy, or delete it: runs made with it can then not be continued",
        )
    return key


def obtain_key(table: Path) -> bytes:
    """Return the key of a table; create it, readable by its owner alone, if there is none.

    Raises:
        InputError: the file is no key, or the folder cannot be written.
    """
    key, path = read_key(table), key_path(table)
    if key is not None:
        return key
    try:
        _create(path)
    except OSError as error:
        reason = error.strerror or "not writable"
        raise InputError(
            path.name, f"the key cannot be created ({reason})", "Make the cohort's folder writable"
        ) from None
    key = read_key(table)
    if key is None:
        raise InputError(path.name, "the key was created and is gone", "See what removes it")
    return key


def _create(path: Path) -> None:
    """Write a new key, whole or not at all; one that another process wrote first stays."""
    # Its name ends like a key's: what a killed process leaves is sent nowhere either.
    descriptor, name = tempfile.mkstemp(path.suffix, f".{path.stem}.", path.parent)
    whole = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(secrets.token_bytes(KEY_BYTES))
            file.flush()
            os.fsync(file.fileno())
        _name(whole, path)
    finally:
        whole.unlink(missing_ok=True)


def _name(whole: Path, path: Path) -> None:
    try:
        path.hardlink_to(whole)
    except FileExistsError:
        return
    except OSError:  # a file system without links, where two first uses at once are not told apart
        if not path.exists():
            whole.rename(path)


def is_private(table: Path) -> bool:
    """Return whether nobody but its owner may read the key of a table."""
    return key_path(table).stat().st_mode & 0o077 == 0


def fingerprint(key: bytes) -> str:
    """Return 16 hex digits that name a key and tell nothing of it."""
    return hashlib.sha256(b"polartune key fingerprint" + key).hexdigest()[:16]


def hash_ids(key: bytes, ids: Iterable[str]) -> tuple[str, ...]:
    """Return the HMAC-SHA256 of each patient id, as hex, in the given order."""
    return tuple(hmac.digest(key, text.encode(), "sha256").hex() for text in ids)
