"""Which nodes no work can go on on, as their own processes say: they get no more of it."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import replace

import ray

from search.report import Unfit
from spaces.errors import UserError

MOST_UNFIT = 100
"""What may come back from one unfit node: the work that it had, and that was on its way to it."""
NODE = "ray.io/node-id"
"""Ray's own label of every node."""

_log = logging.getLogger(__name__)


class Fitness:
    """Keeps work from unfit nodes, and says when no other is left.

    Args:
        nodes: says which nodes have slots now; none if all are this computer's.

    Attributes:
        unfit: nodes on which no work can go on, by Ray's id, and why.
    """

    def __init__(self, nodes: Callable[[], Collection[str]]) -> None:
        self.unfit: dict[str, UserError] = {}
        self._nodes = nodes
        self._came_back: Counter[str] = Counter()

    def avoid(self, told: Unfit) -> UserError | None:
        """Give a node no more work; return why none can go on anywhere, None if it can."""
        _log.warning("node %s gets no more work: %s\n%s", told.node, told.why, told.traceback)
        self.unfit[told.node] = told.why
        self._came_back[told.node] += 1
        if not self._nodes() or self._came_back[told.node] > MOST_UNFIT:
            return told.why
        return self.obstacle()

    def obstacle(self) -> UserError | None:
        """Return why work can go on on none of the nodes that are there; None if it can."""
        if self.unfit and (there := set(self._nodes())) and there <= self.unfit.keys():
            return next(reversed(self.unfit.values()))
        return None


def others_than(unfit: Collection[str]) -> dict[str, str]:
    """Return the labels of all nodes but the unfit ones; empty for all nodes."""
    return {NODE: f"!in({','.join(unfit)})"} if unfit else {}


def of_this_node(told: Unfit) -> Unfit:
    """Return what is told, of the node that this process of Ray's is on."""
    return replace(told, node=ray.get_runtime_context().get_node_id())
