"""A node that crashes and returns, on a cluster of several Ray nodes."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from benchmarks.faults.driver import end_all, named
from benchmarks.faults.processes import HEAD, kill
from benchmarks.faults.scene import AGAIN, Scene
from spaces import errors

NODES = "benchmarks.faults.nodes"
EPOCHS_BEFORE = 4
ENDING_SECONDS = 30.0


class Nodes:
    """A cluster in a process of its own; see ``benchmarks.faults.nodes``."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self.address = self._answer()

    def tell(self, word: str) -> None:
        """Say ``crash`` or ``return``, and wait until it is done."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{word}\n")
        self._process.stdin.flush()
        self._answer()

    def _answer(self) -> str:
        assert self._process.stdout is not None
        # Ray prints warnings of its own; an answer is one word.
        for line in self._process.stdout:
            if len(line.split()) == 1:
                return line.strip()
        raise RuntimeError("the cluster ended")


@contextmanager
def cluster(folder: Path, environment: Mapping[str, str]) -> Iterator[Nodes]:
    """Give a cluster of this machine's own nodes, and end it; ``folder`` holds its stderr."""
    process = subprocess.Popen(  # noqa: S603  our own interpreter
        [sys.executable, "-m", NODES],
        env=dict(environment),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=(folder / "stderr_nodes").open("w"),
        text=True,
    )
    try:
        yield Nodes(process)
    finally:
        try:
            process.communicate(timeout=ENDING_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()


def node_crashes(scene: Scene) -> None:
    """The only node that runs trials crashes and returns; the command waits and goes on."""
    scene.more_environment["RAY_AUTH_MODE"] = "disabled"  # this machine's own nodes only
    with cluster(scene.folder, scene.environment) as nodes:
        driver = scene.start("--address", nodes.address)
        scene.until_epochs(driver, EPOCHS_BEFORE)
        scene.strike()
        nodes.tell("crash")
        nodes.tell("return")
        scene.finish(driver)
    scene.expect(scene.events("lost"), "no event says that a node was lost")


def cluster_lost(scene: Scene) -> None:
    """The command dies and its cluster lives on; then the head of the cluster dies below it.

    The same command goes on each time: there, then without a cluster.
    """
    scene.more_environment["RAY_AUTH_MODE"] = "disabled"  # this machine's own nodes only
    with cluster(scene.folder, scene.environment) as nodes:
        driver = scene.start("--address", nodes.address)
        scene.until_epochs(driver, EPOCHS_BEFORE)
        driver.send(signal.SIGKILL)
        driver.wait(5.0)
        driver = scene.start("--address", nodes.address)
        scene.until_epochs(driver, EPOCHS_BEFORE)
        scene.strike()
        kill(scene, HEAD)
        scene.finish(driver, errors.TERMINATED, AGAIN)
        end_all(named(scene.processes(), NODES))  # it would wait for its head, and long
    end_all(scene.processes())
    scene.go_on()
