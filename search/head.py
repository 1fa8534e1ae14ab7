"""The head of Ray, watched: once it is gone, a search could do nothing but wait for it."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import ray

from spaces.errors import TERMINATED

LOOK_SECONDS = 1.0
KNOCK_SECONDS = 2.0
KNOCKS = 5
HEAD = {"gcs_server", "raylet"}

_log = logging.getLogger(__name__)


@contextmanager
def own_head_watched() -> Iterator[None]:
    """End this process soon after its own Ray; Ray itself would wait a minute, then say much."""
    node: Any = ray._private.worker._global_node

    def look() -> str:
        ended = HEAD & {kind for kind, _ in node.dead_processes()}
        return f"its {min(ended)} ended" if ended else ""

    def end() -> None:
        for root in [info.process.pid for kind in node.all_processes.values() for info in kind]:
            _kill_family(root)

    with _watched(look, end):
        yield


@contextmanager
def cluster_head_watched() -> Iterator[None]:
    """End this process soon after the head of the cluster that it has joined."""
    address = ray.get_runtime_context().gcs_address
    with _watched(Doorbell(address), lambda: None):
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
def _watched(look: Callable[[], str], end: Callable[[], None]) -> Iterator[None]:
    """Give up when ``look`` says why; ``end`` what Ray would leave behind."""
    done = threading.Event()

    def watch() -> None:
        while not done.wait(LOOK_SECONDS):
            why = look()
            if why:
                _give_up(why, end)

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        done.set()
        watcher.join()


def _give_up(why: str, end: Callable[[], None]) -> None:
    """Leave without Ray, which waits for what is gone; every event is in trials.jsonl already."""
    line = f"Ray: {why}. The same command goes on from here."
    _log.error("%s", line)
    end()
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
