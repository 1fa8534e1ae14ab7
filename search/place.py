"""Where work runs: equal slots, each for one trial or one piece of work at a time."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayError, RayTaskError

from search.driver import Driver
from search.fitness import Fitness, others_than
from search.hands import COUNT_SECONDS, LOSSES, Deal, Hand, is_loss
from search.reach import reached
from search.refusal import first_line
from search.workplace import OPENER, Workplace, versions
from spaces.errors import InputError, NoModelError
from spaces.sections import ResourcesSection

Resources = Mapping[str, float]

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Place:
    """Equal slots, each of which runs one trial or one piece of work at a time.

    Attributes:
        slots: how many pieces of work run at once; if it grows, when it was opened.
        device: ``cpu`` or ``cuda``, for every slot.
        cpus: CPUs of a slot.
        gpus: GPUs of a slot, whole or 1/n; 0 on ``cpu``.
        is_own: whether they are this computer's, and see what the driver sees.
        grows: whether the slots are all that a cluster has, and change with its nodes.
    """

    slots: int
    device: str
    cpus: int
    gpus: float
    is_own: bool = False
    grows: bool = False

    def slots_now(self, unfit: Collection[str] = ()) -> int:
        """Return the slots that there are now, of a place that grows; at least one to wait for.

        Args:
            unfit: nodes that do not count, by Ray's id.
        """
        if not self.grows:
            return self.slots
        return max(1, slots_of(living_nodes(unfit), self.cpus, self.gpus))

    def nodes_now(self) -> list[str]:
        """Return Ray's ids of the nodes that have slots; of this computer's own slots, none."""
        return [] if self.is_own else [node["NodeID"] for node in nodes_with_slots(self)]

    def workplace(self, run_root: Path, opener: str = OPENER) -> Workplace:
        """Return what a process in a slot opens before it works for a run."""
        expected = None if self.is_own else versions()
        return Workplace(str(run_root.resolve()), self.device, opener, expected)

    def run_on_slots(
        self,
        function: Callable[..., Any],
        arguments: Sequence[tuple[Any, ...]],
        *,
        workplace: Workplace | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> list[Any]:
        """Return ``function(*a)`` for each ``a``, in order, computed on all slots.

        A process serves a slot until no piece is left, so that it imports and opens things once,
        and then ends, so that it keeps no GPU memory. A cluster's node on which no work for the
        run can go on gets no more of it, as in a search.

        Args:
            function: importable by name.
            arguments: small; they travel to the slots.
            workplace: of the run that it is for; on a cluster opened first, if it is given.
            progress: called with (done, total) after each piece.

        Raises:
            Exception: what ``function`` raised first, as it was raised.
            NoModelError: a piece was lost again and again with its process or node.
            UserError: the work can go on on no node; why.
        """
        fitness, hand = Fitness(self.nodes_now), ray.remote(Hand)
        # On its own computer a slot sees what the driver has seen.
        opened = None if self.is_own else workplace

        def start() -> Any:
            fit = others_than(fitness.unfit) or None
            sized = hand.options(num_cpus=self.cpus, num_gpus=self.gpus, label_selector=fit)
            return sized.remote(opened)

        def slots() -> int:
            return self.slots_now(fitness.unfit)

        try:
            return Deal(
                start, function, arguments, slots=slots, fitness=fitness, progress=progress
            ).play()
        except RayTaskError as error:
            raise error.cause from None
        except RayError as error:
            if not is_loss(error):
                raise
            raise NoModelError(
                "slots",
                f"the same piece of work was lost {LOSSES + 1} times with its process or node "
                f"({first_line(error)})",
                "Often memory ran out: use fewer resources.slots. What was finished is kept",
            ) from None

    def drive(self, function: Callable[..., Any], arguments: tuple[Any, ...]) -> Driver:
        """Start ``function(*arguments)`` in a process of its own, which may use all slots."""
        return Driver(function, arguments)


class SlotCount:
    """Counts the slots of a place that grows now and again, and tells who hands them out.

    Those of nodes that are unfit, as ``unfit`` says by then, do not count.
    """

    def __init__(
        self,
        place: Place,
        tell: Sequence[Callable[[int], object]],
        *,
        unfit: Collection[str] = (),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._place = place
        self._tell = tell
        self._unfit = unfit
        self._clock = clock
        self._counted = clock()
        self._slots = place.slots

    def look(self) -> None:
        """Count, if it is time to, and tell a new number."""
        if not self._place.grows or self._clock() - self._counted < COUNT_SECONDS:
            return
        self._counted = self._clock()
        slots = self._place.slots_now(self._unfit)
        if slots != self._slots:
            _log.info("%d slots, %d before: nodes have joined or left", slots, self._slots)
            self._slots = slots
            for tell in self._tell:
                tell(slots)


@contextmanager
def connected(
    resources: ResourcesSection, *, address: str | None = None, ends_process: bool = True
) -> Iterator[Place]:
    """Give the slots of an own Ray, ended with the block, or of the cluster at ``address``.

    Args:
        resources: says what a slot is.
        address: of a running Ray cluster.
        ends_process: whether this process leaves at once where its Ray ends, as a command does.

    Raises:
        InputError: the address does not answer, or it offers not one slot.
        RefusedError: this process uses a Ray already.
        RayLostError: Ray has ended, and the process has not.
    """
    with reached(resources, address, ends_process=ends_process):
        yield place_of(resources, living_nodes(), is_own=address is None)


def living_nodes(unfit: Collection[str] = ()) -> list[Resources]:
    """Return what each node that is alive offers, in use or not; without the unfit ones."""
    return [node["Resources"] for node in _living() if node["NodeID"] not in unfit]


def nodes_with_slots(place: Place) -> list[dict[str, Any]]:
    """Return what Ray says of the living nodes on which a trial fits."""
    return [node for node in _living() if slots_of([node["Resources"]], place.cpus, place.gpus)]


def _living() -> list[dict[str, Any]]:
    nodes: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]
    return [node for node in nodes if node["Alive"]]


def slots_of(nodes: Sequence[Resources], cpus: int, gpus: float) -> int:
    """Return how many slots fit, each whole on one node.

    >>> slots_of([{"CPU": 3.0}, {"CPU": 3.0}], cpus=2, gpus=0)
    2
    """
    return sum(_fitting(node, cpus, gpus) for node in nodes)


def _fitting(node: Resources, cpus: int, gpus: float) -> int:
    by_cpus = int(node.get("CPU", 0.0) // cpus)
    # A third of a GPU fits three times, whatever the last bit says.
    return min(by_cpus, int(node.get("GPU", 0.0) / gpus + 1e-6)) if gpus else by_cpus


def place_of(resources: ResourcesSection, nodes: Sequence[Resources], *, is_own: bool) -> Place:
    """Return the slots that were asked for, or as many as the nodes have.

    Raises:
        InputError: there is none, or what they compute on cannot be known.
    """
    device = _device(resources, nodes, is_own=is_own)
    share = resources.gpus_per_trial if device == "cuda" else 0.0
    slots = resources.slots
    if slots == "auto":
        slots = slots_of(nodes, resources.cpus_per_trial, share)
    if slots < 1:
        most = max((node.get("CPU", 0.0) for node in nodes), default=0.0)
        raise InputError(
            "resources.cpus_per_trial",
            f"a trial needs {resources.cpus_per_trial} CPUs"
            + (f" and {share:g} GPU on one node" if share else "")
            + f", {most:g} are there",
            "Lower it; on a cluster that adds nodes when asked, set resources.slots",
        )
    grows = not is_own and resources.slots == "auto"
    return Place(slots, device, resources.cpus_per_trial, share, is_own, grows)


def _device(resources: ResourcesSection, nodes: Sequence[Resources], *, is_own: bool) -> str:
    """Return what slots compute on: what was asked for, or GPUs if some node has enough."""
    most = max((node.get("GPU", 0.0) for node in nodes), default=0.0)
    has_gpus = most >= resources.gpus_per_trial
    if resources.device == "cuda" and not has_gpus and (is_own or resources.slots == "auto"):
        raise InputError(
            "resources.device",
            f"a trial needs {resources.gpus_per_trial:g} GPU on cuda, and there are {most:g}",
            "Use device: cpu; on a cluster that adds GPUs when asked, set resources.slots",
        )
    if resources.device != "auto":
        return resources.device
    is_empty = not slots_of(nodes, resources.cpus_per_trial, 0.0)
    if not has_gpus and not is_own and is_empty and resources.slots != "auto":
        raise InputError(
            "resources.device",
            "auto takes what the nodes have, and none that could run a trial is there yet",
            "Say cuda or cpu",
        )
    return "cuda" if has_gpus else "cpu"
