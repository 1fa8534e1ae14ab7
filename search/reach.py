"""How a Ray is reached: an own one, started and ended here, or a cluster's, joined."""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import shutil
import signal
import socket
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import ray
from filelock import FileLock, Timeout

from spaces.environment import PACKAGES, package_folder
from spaces.errors import TERMINATED, InputError, RefusedError
from spaces.sections import ResourcesSection

OBJECT_STORE_BYTES = 256 * 1024 * 1024
KNOCK_SECONDS = 10
HEAD_SECONDS = 1
HEAD = {"gcs_server", "raylet"}
SCRATCH, LOCK = "polartune-", "lock"
# A socket's path may have 107 characters; this is what Ray puts behind its folder, at the longest.
SOCKET = "/session_2026-01-01_00-00-00_000000_4194304/sockets/plasma_store"
LONGEST_BASE = 107 - len(SOCKET) - len(f"/{SCRATCH}12345678")

_log = logging.getLogger(__name__)


@contextmanager
def reached(resources: ResourcesSection, address: str | None) -> Iterator[None]:
    """Be connected to an own Ray, ended with the block, or to the cluster at ``address``.

    Raises:
        InputError: the address does not answer.
        RefusedError: this process uses a Ray already.
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
        opened.callback(ray.shutdown)
        with _keeping_signals():
            if folder:
                _start(resources, folder)
            else:
                _join(str(address))
        opened.enter_context(_raylet_muted())
        if folder:
            opened.enter_context(_head_watched())
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
    gets its name, so that no other driver finds it in between.
    """
    for left in base.glob(f"{SCRATCH}*"):
        with contextlib.suppress(OSError, Timeout):
            if left.stat().st_uid == os.getuid() and (left / LOCK).exists():
                with FileLock(left / LOCK, timeout=0):
                    shutil.rmtree(left, ignore_errors=True)
    unnamed = Path(tempfile.mkdtemp(prefix=f".{SCRATCH}", dir=base))
    folder = unnamed.with_name(unnamed.name.removeprefix("."))
    with FileLock(unnamed / LOCK):
        unnamed.rename(folder)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _keeping_signals() -> Iterator[None]:
    """Keep the driver's answer to SIGTERM, which Ray replaces by its own exit code."""
    before = signal.getsignal(signal.SIGTERM)
    yield
    if before is not None and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, before)


@contextmanager
def _head_watched() -> Iterator[None]:
    """End this process soon after its own Ray; Ray itself would wait a minute, then say much."""
    node: Any = ray._private.worker._global_node
    done = threading.Event()

    def watch() -> None:
        while not done.wait(HEAD_SECONDS):
            ended = HEAD & {kind for kind, _ in node.dead_processes()}
            if ended:
                _give_up(node, min(ended))

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        done.set()
        watcher.join()


def _give_up(node: Any, ended: str) -> None:
    """Leave without Ray, which waits for what is gone; every event is in trials.jsonl already."""
    line = f"Ray: its {ended} ended. The same command goes on from here."
    _log.error("%s", line)
    for root in [info.process.pid for kind in node.all_processes.values() for info in kind]:
        _kill_family(root)
    if sys.stdout.isatty():
        sys.stdout.write("\x1b[?25h")  # a progress bar hides the cursor
        sys.stdout.flush()
    below = "\n" if sys.stderr.isatty() else ""
    sys.stderr.write(f"{below}polartune: {line}\n")
    sys.stderr.flush()
    os._exit(TERMINATED)


def _kill_family(root: int) -> None:
    """Kill a process and all that it started; without a head, Ray's agents would stay for long."""
    import psutil  # type: ignore[import-untyped]  # Ray brings it

    with contextlib.suppress(psutil.Error):
        head = psutil.Process(root)
        for process in [*head.children(recursive=True), head]:
            with contextlib.suppress(psutil.Error):
                process.kill()


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
    with _on_loopback():
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
        _knock(address)
        ray.init(address=address, runtime_env=cluster_environment(), **_quiet())
    except (OSError, ValueError, RuntimeError) as error:
        raise InputError(
            f"--address {address}",
            f"no Ray cluster answers ({error})",
            "Start one with `ray up cluster.yaml` and give host:port or auto, or give no --address",
        ) from None


def _knock(address: str) -> None:
    """Fail at once if nobody listens at ``host:port``; Ray itself would wait for minutes."""
    if address == "auto":
        return
    host, _, port = address.rpartition(":")
    socket.create_connection((host, int(port)), timeout=KNOCK_SECONDS).close()


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
