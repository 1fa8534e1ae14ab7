"""Where work runs: slots of a Ray of our own, or of a cluster that somebody started."""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import os
import secrets
import shutil
import signal
import socket
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
from filelock import FileLock, Timeout
from ray.exceptions import RayTaskError

from spaces.errors import InputError, RefusedError
from spaces.sections import ResourcesSection

PACKAGES = ("spaces", "cohort", "trainable", "search", "analysis")
OBJECT_STORE_BYTES = 256 * 1024 * 1024
RESTARTS = 2
KNOCK_SECONDS = 10
SCRATCH, LOCK = "polartune-", "lock"

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Place:
    """Equal slots, each of which runs one trial or one piece of work at a time.

    Attributes:
        slots: how many pieces of work run at once.
        device: ``cpu`` or ``cuda``, for every slot.
        cpus: CPUs of a slot.
        gpus: GPUs of a slot, whole or 1/n; 0 on ``cpu``.
        is_own: whether they are this computer's, and see what the driver sees.
    """

    slots: int
    device: str
    cpus: int
    gpus: float
    is_own: bool = False

    def run_on_slots(
        self,
        function: Callable[..., Any],
        arguments: Sequence[tuple[Any, ...]],
        *,
        progress: Callable[[int, int], None] | None = None,
    ) -> list[Any]:
        """Return ``function(*a)`` for each ``a``, in order, computed on all slots.

        A process serves a slot for the whole call, so that it imports and opens things once, and
        ends with the call, so that it keeps no GPU memory.

        Args:
            function: importable by name.
            arguments: small; they travel to the slots.
            progress: called with (done, total) after each piece.

        Raises:
            Exception: what ``function`` raised first, as it was raised.
        """
        count = min(self.slots, len(arguments))
        options = {
            "num_cpus": self.cpus,
            "num_gpus": self.gpus,
            "max_restarts": RESTARTS,
            "max_task_retries": RESTARTS,
        }
        hand: Any = ray.remote(_Hand).options(**options)
        hands = [hand.remote(function) for _ in range(count)]
        try:
            return _deal(hands, arguments, progress)
        except RayTaskError as error:
            raise error.cause from None
        finally:
            for started in hands:
                ray.kill(started)


class _Hand:
    """A process in a slot, with a function to call."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function

    def ready(self) -> None:
        """Resolve when the process has its slot."""

    def work(self, argument: tuple[Any, ...]) -> Any:
        """Do one piece."""
        return self._function(*argument)


def _deal(
    hands: Sequence[Any],
    arguments: Sequence[tuple[Any, ...]],
    progress: Callable[[int, int], None] | None,
) -> list[Any]:
    """Give each hand the next piece whenever it is free; one without a slot yet gets none."""
    results: list[Any] = [None] * len(arguments)
    busy: dict[Any, tuple[Any, int | None]] = {hand.ready.remote(): (hand, None) for hand in hands}
    following = iter(range(len(arguments)))
    done = 0
    while done < len(arguments):
        [future], _ = ray.wait(list(busy), num_returns=1)
        hand, index = busy.pop(future)
        value = ray.get(future)
        if index is not None:
            results[index] = value
            done += 1
            if progress:
                progress(done, len(arguments))
        index = next(following, None)
        if index is not None:
            busy[hand.work.remote(arguments[index])] = (hand, index)
    return results


@contextmanager
def connected(resources: ResourcesSection, *, address: str | None = None) -> Iterator[Place]:
    """Give the slots of an own Ray, ended with the block, or of the cluster at ``address``.

    Raises:
        InputError: the address does not answer, or it offers not one slot.
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
        folder = None if address else opened.enter_context(_scratch())
        opened.callback(ray.shutdown)
        with _keeping_signals():
            if folder:
                _start(resources, folder)
            else:
                _join(str(address))
        opened.enter_context(_raylet_muted())
        yield _place(resources, _offered(), is_own=address is None)


@contextmanager
def _scratch() -> Iterator[Path]:
    """Give Ray a folder for its sockets and logs, and remove those that killed drivers left.

    The lock inside lives as long as its driver, however that ends. A folder is locked before it
    gets its name, so that no other driver finds it in between.
    """
    for left in Path(tempfile.gettempdir()).glob(f"{SCRATCH}*"):
        with contextlib.suppress(OSError, Timeout):
            if left.stat().st_uid == os.getuid() and (left / LOCK).exists():
                with FileLock(left / LOCK, timeout=0):
                    shutil.rmtree(left, ignore_errors=True)
    unnamed = Path(tempfile.mkdtemp(prefix=f".{SCRATCH}"))
    folder = unnamed.with_name(unnamed.name.removeprefix("."))
    with FileLock(unnamed / LOCK):
        unnamed.rename(folder)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def _offered() -> dict[str, float]:
    return dict(ray.cluster_resources())  # type: ignore[no-untyped-call]


def _slots(resources: ResourcesSection, offered: Mapping[str, float], share: float) -> int:
    """Return the slots that were asked for, or as many as fit."""
    if resources.slots != "auto":
        return resources.slots
    by_cpus = int(offered.get("CPU", 0.0) // resources.cpus_per_trial)
    # A third of a GPU fits three times, whatever the last bit says.
    return min(by_cpus, int(offered.get("GPU", 0.0) / share + 1e-6)) if share else by_cpus


@contextmanager
def _keeping_signals() -> Iterator[None]:
    """Keep the driver's answer to SIGTERM, which Ray replaces by its own exit code."""
    before = signal.getsignal(signal.SIGTERM)
    yield
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
        "py_modules": [str(_folder_of(package)) for package in PACKAGES],
        "env_vars": {"RAY_CHDIR_TO_TRIAL_DIR": "0"},
    }


def _python_path() -> str:
    """Return a PYTHONPATH that finds our packages, whatever folder the driver was started in."""
    inherited = os.environ.get("PYTHONPATH", "")
    return os.pathsep.join(filter(None, [str(_folder_of("search").parent), inherited]))


def _folder_of(package: str) -> Path:
    found = importlib.util.find_spec(package)
    if found is None or not found.submodule_search_locations:
        raise InputError(package, "this package of polartune is missing", "Install it again")
    return Path(found.submodule_search_locations[0]).resolve()


def _place(resources: ResourcesSection, offered: Mapping[str, float], *, is_own: bool) -> Place:
    """Return the slots that the offered CPUs and GPUs make."""
    gpus = offered.get("GPU", 0.0)
    has_gpus = gpus >= resources.gpus_per_trial
    device = resources.device
    if device == "auto":
        device = "cuda" if has_gpus else "cpu"
    if device == "cuda" and not has_gpus and (is_own or resources.slots == "auto"):
        raise InputError(
            "resources.device",
            f"a trial needs {resources.gpus_per_trial:g} GPU on cuda, and there are {gpus:g}",
            "Use device: cpu; on a cluster that adds GPUs when asked, set resources.slots",
        )
    share = resources.gpus_per_trial if device == "cuda" else 0.0
    slots = _slots(resources, offered, share)
    if slots < 1:
        raise InputError(
            "resources.cpus_per_trial",
            f"a trial needs {resources.cpus_per_trial} CPUs, {offered.get('CPU', 0.0):g} are there",
            "Lower it; on a cluster that adds nodes when asked, set resources.slots",
        )
    return Place(slots, device, resources.cpus_per_trial, share, is_own)
