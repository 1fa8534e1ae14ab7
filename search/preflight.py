"""Before a search on a cluster: a slot can be had, and every node is fit to run trials.

What would else end a search after an hour ends it here, and is said of the node it is true of.
"""

from __future__ import annotations

import logging
import platform
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import (
    AuthenticationError,
    GetTimeoutError,
    RayError,
    RayTaskError,
    RuntimeEnvSetupError,
)
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from search.place import Place, nodes_with_slots
from search.refusal import first_line
from search.workplace import not_shared, refuse_other_versions, versions
from spaces.errors import InputError

SLOT_MINUTES = 20.0
NODE_MINUTES = 5.0
MARK = ".preflight-"

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Node:
    """A node of the cluster that has slots.

    Attributes:
        id: Ray's own.
        name: what people call it.
    """

    id: str
    name: str


@dataclass(frozen=True)
class Answer:
    """What a process on a node found.

    Attributes:
        versions: of what scores depend on.
        faults: for each folder that cannot be used there, why.
    """

    versions: Mapping[str, str | None]
    faults: Mapping[str, str] = field(default_factory=dict)


def preflight(
    place: Place,
    folders: Sequence[Path],
    *,
    say: Callable[[str], None],
    minutes: float = SLOT_MINUTES,
) -> None:
    """Make sure that a cluster can run trials, or say of which node and why it cannot.

    First a task asks for one slot, which lets a cluster that grows on demand start a node. Then a
    task on each node with slots looks at the folders and compares versions with the driver's.
    Nodes that join later are compared when they open the study.

    Args:
        place: slots of a cluster.
        folders: that every node must see and write to; made here if they are missing.
        say: is told that a slot is waited for, and how long at most.
        minutes: to wait for the slot.

    Raises:
        InputError: there is no slot in time, or a node does not share a folder.
        RefusedError: a node has other versions or other code.
    """
    say(f"Waiting for a slot of {_size(place)}, at most {minutes:g} minutes.")
    _wait_for_slot(place, minutes)
    expected = versions()
    with ExitStack() as marked:
        marks = [marked.enter_context(_marked(folder)) for folder in folders]
        answers = ask_nodes(place, marks)
        for node, answer in answers.items():
            refuse_faults(node.name, answer.faults)
            refuse_other_versions(node.name, answer.versions, expected)
            for folder, mark in zip(folders, marks, strict=True):
                if not _written_by(mark, node.id).exists():
                    raise not_shared(node.name, str(folder), "what it writes does not arrive here")
    _log.info("preflight: %d nodes are fit: %s", len(answers), ", ".join(n.name for n in answers))
    if not answers:
        raise InputError("the cluster", "its last node has left", "Run the same command again")


def _wait_for_slot(place: Place, minutes: float) -> None:
    """Run a task of a trial's size."""
    task: Any = ray.remote(try_slot).options(
        num_cpus=place.cpus, num_gpus=place.gpus, max_retries=-1
    )
    future = task.remote(place.device)
    try:
        missing = ray.get(future, timeout=60 * minutes)
    except GetTimeoutError:
        ray.cancel(future)
        raise InputError(
            "the cluster",
            f"no slot of {_size(place)} was free within {minutes:g} minutes",
            "`ray status` says what there is and what is asked for; see resources in the study",
        ) from None
    except (RayTaskError, RuntimeEnvSetupError) as error:
        raise _unable("a node", error) from None
    except RayError as error:
        raise _unreachable(error) from None
    if missing:
        raise InputError("resources.device", missing, "Install a torch for its driver, or use cpu")


def try_slot(device: str) -> str:
    """Return why a slot cannot compute, in that slot; empty if it can."""
    if device == "cpu":
        return ""
    import torch

    if torch.cuda.is_available():
        return ""
    return f"torch {torch.__version__} on {platform.node()} must see the slot's GPU, and sees none"


@contextmanager
def _marked(folder: Path) -> Iterator[Path]:
    """Give a folder in ``folder`` of a name that nobody can know, removed with the block."""
    mark = folder.resolve() / f"{MARK}{secrets.token_hex(8)}"
    try:
        mark.mkdir(parents=True)
    except OSError as error:
        raise InputError(
            str(folder), f"cannot be written to ({error.strerror})", "Use another folder"
        ) from None
    try:
        yield mark
    finally:
        with suppress(OSError):
            for path in mark.iterdir():
                path.unlink()
            mark.rmdir()


def _written_by(mark: Path, node: str) -> Path:
    return mark / node


def look(marks: Sequence[Path], node: str) -> Answer:
    """Return what a process on ``node`` finds: versions, and which folders it cannot use."""
    faults = {}
    for mark in marks:
        folder = str(mark.parent)
        if not mark.parent.is_dir():
            faults[folder] = "it is not there"
        elif not mark.is_dir():
            faults[folder] = "another folder is in its place"
        else:
            try:
                _written_by(mark, node).touch()
            except OSError as error:
                faults[folder] = f"it cannot write there ({error.strerror})"
    return Answer(versions(), faults)


def ask_nodes(place: Place, marks: Sequence[Path]) -> dict[Node, Answer]:
    """Return the answer of each node with slots that is still there; it needs no free slot.

    Raises:
        InputError: a node cannot run our code, or does not answer in time.
    """
    task: Any = ray.remote(look)
    asked = {
        node: task.options(
            num_cpus=0,
            max_retries=0,
            scheduling_strategy=NodeAffinitySchedulingStrategy(node.id, soft=False),
        ).remote(marks, node.id)
        for node in map(_named, nodes_with_slots(place))
    }
    answers = {}
    for node, future in asked.items():
        try:
            answers[node] = ray.get(future, timeout=60 * NODE_MINUTES)
        except GetTimeoutError:
            raise InputError(
                f"node {node.name}",
                f"does not answer within {NODE_MINUTES:g} minutes",
                "Look at it, or take it out of the cluster",
            ) from None
        except (RayTaskError, RuntimeEnvSetupError) as error:
            raise _unable(f"node {node.name}", error) from None
        except AuthenticationError as error:
            raise _unreachable(error) from None
        except RayError as error:  # it has left, as nodes may
            _log.warning("node %s left during the preflight: %s", node.name, error)
    return answers


def _named(node: Mapping[str, Any]) -> Node:
    return Node(node["NodeID"], f"{node['NodeManagerHostname']} ({node['NodeManagerAddress']})")


def refuse_faults(node: str, faults: Mapping[str, str]) -> None:
    """Raise for the first folder that a node does not share with the driver."""
    for folder, fault in faults.items():
        raise not_shared(node, folder, fault)


def _unable(where: str, error: Exception) -> InputError:
    """Return what to say when a process starts on a node and fails in our code's imports."""
    cause = getattr(error, "cause", None) or error
    last = str(cause).strip().split("\n")[-1]
    return InputError(
        where,
        f"cannot run polartune ({type(cause).__name__}: {last})",
        "Install it with its dependencies on every node, or start all from one image",
    )


def _unreachable(error: RayError) -> InputError:
    """Return what to say when the cluster itself does not do what it is asked."""
    return InputError(
        "the cluster",
        f"does not run what it is given ({type(error).__name__}: {first_line(error)})",
        "`ray status` says how it is; when it is well, run the same command again",
    )


def _size(place: Place) -> str:
    gpus = f" and {place.gpus:.3g} GPU" if place.gpus else ""
    return f"{place.cpus} CPU{'s' if place.cpus > 1 else ''}{gpus}"
