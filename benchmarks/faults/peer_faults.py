"""The faults of ``matrix`` on a plain Ray Tune script, as far as it has what they damage."""

from __future__ import annotations

import os
import resource
import signal
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from benchmarks.faults import peer_script
from benchmarks.faults.cluster import cluster
from benchmarks.faults.driver import named, processes_of
from benchmarks.faults.files import Damage, flip, truncate
from benchmarks.faults.limits import GONE_SECONDS, SPARE_BYTES, limit, size_of
from benchmarks.faults.peer import NotPlayedError, Peer
from benchmarks.faults.processes import HEAD, KILLS


def trial_killed(peer: Peer, _rates: Sequence[float]) -> None:
    """As in ``processes``."""
    driver = peer.begin()
    os.kill(peer.notes()[-1]["pid"], signal.SIGKILL)
    peer.finish(driver)
    peer.go_on()


def trial_stopped(peer: Peer, _rates: Sequence[float]) -> None:
    """As in ``processes``."""
    driver = peer.begin()
    os.kill(peer.notes()[-1]["pid"], signal.SIGSTOP)
    peer.finish(driver)


def _sent(
    number: signal.Signals, *, group: bool = False
) -> Callable[[Peer, Sequence[float]], None]:
    def play(peer: Peer, _rates: Sequence[float]) -> None:
        driver = peer.begin()
        driver.send(number, group=group)
        peer.finish(driver)
        peer.go_on()

    return play


def head_killed(peer: Peer, _rates: Sequence[float]) -> None:
    """As in ``processes``."""
    driver = peer.begin()
    for pid in named(processes_of(peer.mark), HEAD):
        os.kill(pid, signal.SIGKILL)
    peer.finish(driver)
    peer.go_on()


def two_drivers(peer: Peer, _rates: Sequence[float]) -> None:
    """As in ``processes``."""
    driver = peer.begin()
    peer.finish(peer.start())
    peer.finish(driver)


def driver_killed_ten_times(peer: Peer, _rates: Sequence[float]) -> None:
    """As in ``processes``."""
    for _ in range(KILLS):
        driver = peer.begin(notes=1)
        if driver.is_over:
            raise NotPlayedError("it was over before it could be killed")
        driver.send(signal.SIGKILL)
        driver.wait(5.0)
    peer.go_on()


def reused_process_killed(peer: Peer, _rates: Sequence[float]) -> None:
    """As in ``processes``."""
    driver = peer.begin(notes=peer_script.SLOTS * peer_script.EPOCHS)
    for pid in {note["pid"] for note in peer.notes()}:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    peer.finish(driver)
    peer.go_on()


def node_crashes(peer: Peer, _rates: Sequence[float]) -> None:
    """As in ``cluster``."""
    peer.more["RAY_AUTH_MODE"] = "disabled"  # this machine's own nodes only
    with cluster(peer.folder, peer.environment) as nodes:
        peer.more["RAY_ADDRESS"] = nodes.address
        driver = peer.begin()
        nodes.tell("crash")
        nodes.tell("return")
        peer.finish(driver)


def damaged(pattern: str, damage: Damage) -> Callable[[Peer, Sequence[float]], None]:
    """Return what kills the script, damages files of its experiment, and starts it again."""

    def play(peer: Peer, _rates: Sequence[float]) -> None:
        driver = peer.begin()
        driver.send(signal.SIGKILL)
        driver.wait(5.0)
        found = sorted(peer.storage.glob(pattern))
        if not found:
            raise NotPlayedError(f"no {pattern} to damage")
        for path in found:
            damage(path)
        peer.go_on()

    return play


def leave_half(path: Path) -> None:
    """Leave half a file in the folder that the next checkpoint would have."""
    folder = path.parent
    number = int(folder.name.rpartition("_")[2]) + 1
    following = folder.with_name(f"checkpoint_{number:06}")
    if not following.exists():
        following.mkdir()
        content = path.read_bytes()
        (following / path.name).write_bytes(content[: len(content) // 2])


def delete(path: Path) -> None:
    """Delete a file."""
    path.unlink()


def _goes_wrong(kind: str, *, everywhere: bool = False) -> Callable[[Peer, Sequence[float]], None]:
    def play(peer: Peer, rates: Sequence[float]) -> None:
        peer.inject(kind, None if everywhere else rates[0])
        peer.finish(peer.start())

    return play


def disk_full(peer: Peer, _rates: Sequence[float]) -> None:
    """As in ``limits``."""
    driver = peer.begin()
    for pid in {note["pid"] for note in peer.notes()}:
        limit(pid, resource.RLIMIT_FSIZE, 1)
    peer.finish(driver)
    peer.go_on()


def disk_full_for_the_driver(peer: Peer, _rates: Sequence[float]) -> None:
    """As in ``limits``."""
    driver = peer.begin()
    limit(driver.process.pid, resource.RLIMIT_FSIZE, 1)
    peer.finish(driver)
    peer.go_on()


def out_of_memory(peer: Peer, _rates: Sequence[float]) -> None:
    """As in ``limits``."""
    driver = peer.begin()
    pid = peer.notes()[-1]["pid"]
    limit(pid, resource.RLIMIT_AS, size_of(pid) + SPARE_BYTES)
    peer.finish(driver)


def storage_gone(peer: Peer, _rates: Sequence[float]) -> None:
    """As in ``limits``."""
    driver = peer.begin()
    away = peer.storage.with_name("away")
    peer.storage.rename(away)
    time.sleep(GONE_SECONDS)
    if peer.storage.exists():
        peer.storage.rename(peer.storage.with_name("ghost"))
    away.rename(peer.storage)
    peer.finish(driver)
    peer.go_on()


def changed(what: str) -> Callable[[Peer, Sequence[float]], None]:
    """Return what kills the script and starts it again with another ``what``."""

    def play(peer: Peer, _rates: Sequence[float]) -> None:
        driver = peer.begin()
        driver.send(signal.SIGKILL)
        driver.wait(5.0)
        peer.more[peer_script.CHANGED] = what
        peer.go_on()

    return play


@dataclass(frozen=True)
class PeerFault:
    """A fault of the peer.

    Attributes:
        name: as in ``matrix``, where there is one of the same kind.
        happens: plays it; the learning rates are those of the undisturbed run.
        changes: whether the script should refuse to go on.
    """

    name: str
    happens: Callable[[Peer, Sequence[float]], None]
    changes: bool = False


CHECKPOINTS = f"*/checkpoint_*/{peer_script.STATE}"
EXPERIMENT, SEARCHER = "experiment_state-*.json", "searcher-state-*.pkl"
FAULTS = (
    PeerFault("trial's process killed", trial_killed),
    PeerFault("trial's process stopped", trial_stopped),
    PeerFault("reused process killed", reused_process_killed),
    PeerFault("trials slow to clean up", _goes_wrong("slow", everywhere=True)),
    PeerFault("Ctrl-C", _sent(signal.SIGINT, group=True)),
    PeerFault("SIGTERM", _sent(signal.SIGTERM)),
    PeerFault("driver killed", _sent(signal.SIGKILL)),
    PeerFault("driver killed ten times", driver_killed_ten_times),
    PeerFault("head of Ray killed", head_killed),
    PeerFault("node crashes and returns", node_crashes),
    PeerFault("two drivers", two_drivers),
    PeerFault("experiment state truncated", damaged(EXPERIMENT, truncate)),
    PeerFault("experiment state, a bit flipped", damaged(EXPERIMENT, flip)),
    PeerFault("checkpoints truncated", damaged(CHECKPOINTS, truncate)),
    PeerFault("checkpoints, a bit flipped", damaged(CHECKPOINTS, flip)),
    PeerFault("checkpoint half written", damaged(CHECKPOINTS, leave_half)),
    PeerFault("searcher's state truncated", damaged(SEARCHER, truncate)),
    PeerFault("searcher's state deleted", damaged(SEARCHER, delete)),
    PeerFault("NaN in the first trial", _goes_wrong("diverge")),
    PeerFault("infinite loss", _goes_wrong("infinite")),
    PeerFault("configuration raises", _goes_wrong("raise")),
    PeerFault("configuration hangs", _goes_wrong("hang")),
    PeerFault("GPU memory full (raised)", _goes_wrong("memory")),
    PeerFault("memory full (limit)", out_of_memory),
    PeerFault("disk full for a trial", disk_full),
    PeerFault("disk full for the driver", disk_full_for_the_driver),
    PeerFault("storage gone for 5 s", storage_gone),
    PeerFault("cohort changed", changed("cohort"), changes=True),
    PeerFault("study changed", changed("study"), changes=True),
    PeerFault("code changed", changed("code"), changes=True),
)
