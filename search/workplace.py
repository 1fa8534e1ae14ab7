"""What any process needs to work for a run: the driver's versions, and the run's study, opened."""

from __future__ import annotations

import importlib
import platform
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from search.trial import Problem
from spaces.environment import LIBRARIES, hash_code, version_of
from spaces.errors import InputError, RefusedError
from spaces.run_files import RunFiles
from spaces.storage import outlasting

CODE = "polartune's code"
OPENER = "trainable.problem:open_problem"


@dataclass(frozen=True)
class Workplace:
    """What all work for a run shares, for any process to open.

    Attributes:
        run_root: the run directory.
        device: ``cpu`` or ``cuda``.
        opener: ``module:function`` that opens the problem from the two above.
        versions: the driver's; a node may join after they were compared. None on its own machine.
    """

    run_root: str
    device: str
    opener: str = OPENER
    versions: Mapping[str, str | None] | None = None

    def open(self) -> Problem:
        """Import the opener and open the problem, once the storage that it needs is there.

        Raises:
            InputError: the run is not there.
            RefusedError: this node has other versions or other code than the driver.
        """
        if self.versions is not None:
            refuse_other_versions(socket.gethostname(), versions(), self.versions)
        return outlasting(self._open)

    def _open(self) -> Problem:
        try:
            RunFiles(Path(self.run_root)).study.stat()
        except OSError as error:
            fault = f"its study.yaml cannot be seen ({error.strerror})"
            raise not_shared(socket.gethostname(), self.run_root, fault) from error
        module, function = self.opener.split(":")
        open_problem = getattr(importlib.import_module(module), function)
        return cast(Problem, open_problem(self.run_root, self.device))


def versions() -> dict[str, str | None]:
    """Return what has to be equal on all nodes, by name."""
    found = {name: version_of(name) for name in ("ray", *LIBRARIES)}
    return {"python": platform.python_version(), **found, CODE: hash_code()}


def not_shared(node: str, folder: str, fault: str) -> InputError:
    """Return what is said of a node that does not share a folder with the driver."""
    return InputError(
        f"node {node}",
        f"{folder} must be the driver's folder of that name, and {fault}",
        "Mount the shared storage on every node, and work in it",
    )


def refuse_other_versions(
    node: str, found: Mapping[str, str | None], expected: Mapping[str, str | None]
) -> None:
    """Make sure that a node computes with what the driver has.

    Raises:
        RefusedError: something differs; all of it is named.
    """
    unequal = [
        f"{name} must be equal to the driver's"
        if name == CODE
        else f"{name} must be {version or 'absent'} as on the driver, got {found.get(name)}"
        for name, version in expected.items()
        if found.get(name) != version
    ]
    if unequal:
        raise RefusedError(
            f"node {node}",
            "; ".join(unequal),
            "Start every node from one image, or install constraints.txt on each",
        )
