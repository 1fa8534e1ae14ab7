"""A node that crashes and returns, on a cluster of several Ray nodes."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from benchmarks.faults.scene import Scene

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
def _cluster(scene: Scene) -> Iterator[Nodes]:
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.faults.nodes"],
        env=scene.environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=(scene.folder / "stderr_nodes").open("w"),
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
    with _cluster(scene) as nodes:
        driver = scene.start("--address", nodes.address)
        scene.until_epochs(driver, EPOCHS_BEFORE)
        scene.strike()
        nodes.tell("crash")
        nodes.tell("return")
        scene.finish(driver)
    scene.expect(scene.events("lost"), "no event says that a node was lost")
