"""A function at work in a process of its own, from where it hands out work to slots."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ray
from ray.exceptions import GetTimeoutError, RayError, RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from spaces.errors import NoModelError


class Driver:
    """Runs a function beside this process, on the same node, where it sees the same files.

    It takes no slot. It ends with this process's Ray, however that ends.

    Args:
        function: importable by name.
        arguments: small; they travel.
    """

    def __init__(self, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
        here = ray.get_runtime_context().get_node_id()
        task: Any = ray.remote(function).options(
            num_cpus=0,
            max_retries=0,
            scheduling_strategy=NodeAffinitySchedulingStrategy(here, soft=False),
        )
        self._result = task.remote(*arguments)

    @property
    def has_ended(self) -> bool:
        """Whether it returned, raised or died."""
        return bool(ray.wait([self._result], timeout=0)[0])

    def result(self) -> Any:
        """Return what the function returned, once it has.

        Raises:
            Exception: what the function raised, as it was raised.
            NoModelError: its process was lost.
        """
        try:
            return ray.get(self._result)
        except RayTaskError as error:
            raise error.cause from None
        except RayError as error:
            raise NoModelError(
                "memory",
                f"the process that drove it was lost ({str(error).strip().splitlines()[0]})",
                "Often memory ran out. What was finished is kept",
            ) from None

    def stop(self, *, within: float) -> None:
        """Interrupt the function as Ctrl-C does, and wait for its end, so many seconds at most."""
        ray.cancel(self._result)
        try:
            ray.get(self._result, timeout=within)
        except (RayError, GetTimeoutError):
            return
