"""The head of Ray, watched: once it is gone, a search could do nothing but wait for it."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

import ray

from spaces.errors import RayLostError

LOOK_SECONDS = 1.0
INTERRUPT_SECONDS = 5.0
KNOCK_SECONDS = 2.0
KNOCKS = 5
HEAD = {"gcs_server", "raylet"}

_log = logging.getLogger(__name__)


@contextmanager
def own_head_watched(*, ends_process: bool) -> Iterator[None]:
    """Give up soon after the own Ray has ended; Ray itself would wait a minute, then say much.

    Args:
        ends_process: leave at once, as a command does. Else the work in the block is interrupted.

    Raises:
        RayLostError: Ray has ended, and the process has not.
    """
    node: Any = ray._private.worker._global_node

    def look() -> str:
        ended = HEAD & {kind for kind, _ in node.dead_processes()}
        return f"its {min(ended)} ended" if ended else ""

    def end() -> None:
        for root in [info.process.pid for kind in node.all_processes.values() for info in kind]:
            _kill_family(root)

    with _watched(look, end, ends_process=ends_process):
        yield


@contextmanager
def cluster_head_watched(*, ends_process: bool) -> Iterator[None]:
    """Give up soon after the head of the cluster that this process has joined, likewise."""
    address = ray.get_runtime_context().gcs_address
    with _watched(Doorbell(address), lambda: None, ends_process=ends_process):
        yield


def knock_at(address: str, seconds: float) -> None:
    """Connect to ``host:port``, and hang up.

    Raises:
        OSError: nobody listens there, or does not answer within so many seconds.
        ValueError: it is no address.
    """
    host, _, port = address.rpartition(":")
    socket.create_connection((host.strip("[]"), int(port)), timeout=seconds).close()


class Doorbell:
    """Says that a head is gone once nobody has answered at its address, several times in a row.

    Times, not seconds: a computer that slept has missed no answer.
    """

    def __init__(self, address: str, *, knock: Callable[[str, float], None] = knock_at) -> None:
        self._address = address
        self._knock = knock
        self._missed = 0

    def __call__(self) -> str:
        """Return what has ended; empty while there may be an answer."""
        try:
            self._knock(self._address, KNOCK_SECONDS)
        except OSError:
            self._missed += 1
        else:
            self._missed = 0
        return f"the head at {self._address} has gone" if self._missed >= KNOCKS else ""


@contextmanager
def _watched(
    look: Callable[[], str], end: Callable[[], None], *, ends_process: bool
) -> Iterator[None]:
    """Give up when ``look`` says why; ``end`` what Ray would leave behind."""
    watcher = _Watcher(look, end, ends_process=ends_process)
    watcher.start()
    try:
        try:
            yield
        finally:
            watcher.stop()
    except (Exception, KeyboardInterrupt):
        watcher.stop()  # its interrupt may have come while it was stopped
        if watcher.lost is None:
            watcher.look()  # the block may have met it first
        if watcher.lost is None:
            raise
    if watcher.lost is not None:
        raise watcher.lost


class _Watcher(threading.Thread):
    """Looks after Ray for the thread that makes it, see ``_watched``.

    Attributes:
        lost: what to raise once Ray has ended.
    """

    def __init__(
        self, look: Callable[[], str], end: Callable[[], None], *, ends_process: bool
    ) -> None:
        super().__init__(daemon=True)
        self.lost: RayLostError | None = None
        self._look = look
        self._end = end
        self._ends_process = ends_process
        self._caller = threading.current_thread()
        self._done = threading.Event()

    def run(self) -> None:
        """Look until it is stopped, or Ray has ended; then interrupt what would wait for it."""
        while self.lost is None:
            if self._done.wait(LOOK_SECONDS):
                return
            self.look()
        # After the first interrupt Tune ends in order, which takes long without Ray.
        while self._caller is threading.main_thread():
            signal.pthread_kill(self._caller.ident or 0, signal.SIGINT)
            if self._done.wait(INTERRUPT_SECONDS):
                return

    def look(self) -> None:
        """Give up if there is why."""
        why = self._look()
        if not why:
            return
        lost = RayLostError("Ray", why, "The same command goes on from here")
        if self._ends_process:
            _leave(lost, self._end)
        self._end()
        _refuse_calls()
        self.lost = lost

    def stop(self) -> None:
        """Look no more."""
        self._done.set()
        self.join()


def _refuse_calls() -> None:
    """Let later calls to Ray fail at once.

    One to a head that is gone waits for a minute, and then Ray ends the process. Nor may a late
    call, from what Tune leaves, start another Ray: from now on that takes ``ray.init()``.
    """
    ray._private.auto_init_hook.enable_auto_connect = False
    ray._private.worker.global_worker.set_is_connected(False)


def _leave(error: RayLostError, end: Callable[[], None]) -> NoReturn:
    """Leave without Ray, which waits for what is gone; every event is in trials.jsonl already."""
    _log.error("%s", error)
    end()
    if sys.stdout.isatty():
        sys.stdout.write("\x1b[?25h")  # a progress bar hides the cursor
        sys.stdout.flush()
    below = "\n" if sys.stderr.isatty() else ""
    sys.stderr.write(f"{below}polartune: {error}\n")
    sys.stderr.flush()
    os._exit(error.exit_code)


def _kill_family(root: int) -> None:
    """Kill a process and all that it started; without a head, Ray's agents would stay for long."""
    import psutil  # type: ignore[import-untyped]  # Ray brings it

    with contextlib.suppress(psutil.Error):
        head = psutil.Process(root)
        for process in [*head.children(recursive=True), head]:
            with contextlib.suppress(psutil.Error):
                process.kill()
