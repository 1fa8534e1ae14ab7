"""How a Ray is reached: an own one, started and ended here, or a cluster's, joined."""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import shutil
import signal
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import ray
from filelock import FileLock, Timeout
from ray.exceptions import RayError

from search.head import cluster_head_watched, knock_at, own_head_watched
from search.refusal import authenticated, first_line, refused_at_once
from spaces.environment import PACKAGES, package_folder
from spaces.errors import InputError, RefusedError
from spaces.sections import ResourcesSection

OBJECT_STORE_BYTES = 256 * 1024 * 1024
KNOCK_SECONDS = 10
SCRATCH, LOCK, SESSION = "polartune-", "lock", "session_"
UNNAMED_SECONDS = 60.0
# A socket's path may have 107 characters; this is what Ray puts behind its folder, at the longest.
SOCKET = "/session_2026-01-01_00-00-00_000000_4194304/sockets/plasma_store"
LONGEST_BASE = 107 - len(SOCKET) - len(f"/{SCRATCH}12345678")

_log = logging.getLogger(__name__)


@contextmanager
def reached(
    resources: ResourcesSection, address: str | None, *, ends_process: bool
) -> Iterator[None]:
    """Be connected to an own Ray, ended with the block, or to the cluster at ``address``.

    Raises:
        InputError: the address does not answer.
        RefusedError: this process uses a Ray already.
        RayLostError: see ``head.own_head_watched``.
    """
    if ray.is_initialized():
        raise RefusedError(
            "Ray", "this process is connected to one already", "Call ray.shutdown() first"
        )
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # Tune would move every worker into a folder of its own, and relative paths would break.
    os.environ.setdefault("RAY_CHDIR_TO_TRIAL_DIR", "0")
    with ExitStack() as opened:
        folder = None if address else opened.enter_context(_scratch(_short_base()))
        opened.enter_context(_raylet_muted())  # until Ray has ended, too
        opened.callback(ray.shutdown)
        with _keeping_signals():
            if folder:
                _start(resources, folder)
            else:
                _join(str(address))
        watched = own_head_watched if folder else cluster_head_watched
        opened.enter_context(watched(ends_process=ends_process))
        yield


def _short_base() -> Path:
    """Return where Ray's sockets can lie: what TMPDIR says, or /tmp where that is too long.

    Raises:
        InputError: both are too long, or there is no /tmp.
    """
    usual = Path(tempfile.gettempdir())
    for base in (usual, Path("/tmp")):  # noqa: S108  a fresh folder of our own is made in it
        if len(str(base)) <= LONGEST_BASE and os.access(base, os.W_OK):
            return base
    raise InputError(
        "TMPDIR",
        f"its path must have at most {LONGEST_BASE} characters for Ray's sockets, got {usual}",
        "Set TMPDIR to a folder with a shorter path",
    )


@contextmanager
def _scratch(base: Path) -> Iterator[Path]:
    """Give Ray a folder for its sockets and logs, and remove those that killed drivers left.

    The lock inside lives as long as its driver, however that ends. A folder is locked before it
    gets its name, so that no other driver finds it in between; one that has been without a name
    for long has lost its driver there.
    """
    _sweep(base)
    unnamed = Path(tempfile.mkdtemp(prefix=f".{SCRATCH}", dir=base))
    folder = unnamed.with_name(unnamed.name.removeprefix("."))
    with FileLock(unnamed / LOCK):
        unnamed.rename(folder)
        try:
            yield folder
        finally:
            _remove(folder)
            _sweep(base)  # what processes of a killed Ray still wrote into when this one began


def _sweep(base: Path) -> None:
    """Remove the folders of dead drivers."""
    for left in base.glob(f"{SCRATCH}*"):
        with contextlib.suppress(OSError):
            if (left / LOCK).exists() or _holds_only_sessions(left):
                _remove_unlocked(left)
    for left in base.glob(f".{SCRATCH}*"):
        with contextlib.suppress(OSError):
            if time.time() - left.stat().st_mtime > UNNAMED_SECONDS:
                _remove_unlocked(left)


def _holds_only_sessions(folder: Path) -> bool:
    """Whether all that is there is what a dying Ray wrote after its folder was removed."""
    names = [path.name for path in folder.iterdir()]
    return bool(names) and all(name.startswith(SESSION) for name in names)


def _remove_unlocked(folder: Path) -> None:
    """Remove a folder of this user whose driver is dead."""
    with contextlib.suppress(OSError, Timeout):
        if folder.stat().st_uid == os.getuid():
            with FileLock(folder / LOCK, timeout=0):
                _remove(folder)


def _remove(folder: Path) -> None:
    """Remove a scratch folder, or leave its lock in it, by which it is found again.

    Processes of a Ray that was killed may still write into it.
    """
    with contextlib.suppress(OSError):
        for path in folder.iterdir():
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            elif path.name != LOCK:
                path.unlink(missing_ok=True)
        (folder / LOCK).unlink(missing_ok=True)
        try:
            folder.rmdir()
        except OSError:
            (folder / LOCK).touch()


@contextmanager
def _keeping_signals() -> Iterator[None]:
    """Keep the driver's answer to SIGTERM, which Ray replaces by its own exit code."""
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if before is not None and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, before)


@contextmanager
def _raylet_muted() -> Iterator[None]:
    """Log what Ray prints about dead processes, which none of its options can silence."""
    worker: Any = ray._private.worker
    before = getattr(worker, "print_to_stdstream", None)
    worker.print_to_stdstream = _log_raylet
    try:
        yield
    finally:
        worker.print_to_stdstream = before


def _log_raylet(data: Mapping[str, Any], **_: Any) -> None:
    _log.warning("%s", "\n".join(data["lines"]))


def _start(resources: ResourcesSection, folder: Path) -> None:
    _require_token()
    slots = resources.slots
    with authenticated("Ray"), _on_loopback():
        ray.init(
            num_cpus=None if slots == "auto" else slots * resources.cpus_per_trial,
            include_dashboard=False,
            object_store_memory=OBJECT_STORE_BYTES,
            runtime_env={"env_vars": {"PYTHONPATH": _python_path()}},
            _temp_dir=str(folder),
            **_quiet(),
        )


@contextmanager
def _on_loopback() -> Iterator[None]:
    """Make a Ray that starts here listen on 127.0.0.1, as it does where it knows no clusters.

    Nobody else is meant to join, and Ray has no option for it: it takes 127.0.0.1 for any address.
    """
    constants: Any = ray._private.ray_constants
    before = constants.ENABLE_RAY_CLUSTER
    constants.ENABLE_RAY_CLUSTER = False
    try:
        yield
    finally:
        constants.ENABLE_RAY_CLUSTER = before


def _join(address: str) -> None:
    try:
        if address != "auto":  # Ray itself would wait for minutes where nobody listens
            knock_at(address, KNOCK_SECONDS)
        with authenticated(f"--address {address}"), refused_at_once():
            ray.init(address=address, runtime_env=cluster_environment(), **_quiet())
    except (OSError, ValueError, RuntimeError, RayError) as error:
        raise InputError(
            f"--address {address}",
            f"no Ray cluster answers ({first_line(error)})",
            "Start one with `ray up cluster.yaml` and give host:port or auto; or give no --address",
        ) from None


def _quiet() -> dict[str, Any]:
    return {
        "log_to_driver": False,
        "logging_level": logging.ERROR,
        "configure_logging": True,
    }


def _require_token() -> None:
    """Keep other users of this machine out of our Ray, without a token file in the home."""
    if not {"RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"} & set(os.environ):
        os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)


def cluster_environment() -> dict[str, Any]:
    """Return what a cluster's workers are sent: our packages, and no other file."""
    return {
        "py_modules": [str(package_folder(package)) for package in PACKAGES],
        "env_vars": {"RAY_CHDIR_TO_TRIAL_DIR": "0"},
    }


def _python_path() -> str:
    """Return a PYTHONPATH that finds our packages, whatever folder the driver was started in."""
    inherited = os.environ.get("PYTHONPATH", "")
    return os.pathsep.join(filter(None, [str(package_folder("search").parent), inherited]))
