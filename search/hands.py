"""Pieces of work, dealt to processes in slots; what a lost process had is dealt again."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from typing import Any

import ray
from ray.exceptions import RayError, RayTaskError, TaskCancelledError

LOSSES = 2
COUNT_SECONDS = 5.0

Start = Callable[[], Any]


def is_loss(error: BaseException) -> bool:
    """Whether an error says that a process or node was lost, and nothing of the piece it had.

    Ray says it in many ways: the process that its memory monitor kills is an ``OutOfMemoryError``.
    """
    other = isinstance(error, RayTaskError | TaskCancelledError)
    return isinstance(error, RayError) and not other


class Hand:
    """A process in a slot, with a function to call."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function

    def ready(self) -> None:
        """Resolve when the process has its slot."""

    def work(self, argument: tuple[Any, ...]) -> Any:
        """Do one piece."""
        return self._function(*argument)


class Deal:
    """Gives each hand the next piece whenever it is free; one without a slot yet gets none.

    A hand that is lost is replaced, and its piece is the next to be given, to whoever is free;
    Ray's own retries would be used up before it has noticed that a node is gone. A hand for which
    nothing is left ends at once: a replacement may be waiting for its slot.

    Args:
        start: starts a hand.
        slots: says how many hands there may be; asked now and again.
        arguments: of each piece.
        progress: called with (done, total) after each piece.
    """

    def __init__(
        self,
        start: Start,
        slots: Callable[[], int],
        arguments: Sequence[tuple[Any, ...]],
        progress: Callable[[int, int], None] | None,
    ) -> None:
        self._start = start
        self._slots = slots
        self._arguments = arguments
        self._progress = progress
        self._waiting = deque(range(len(arguments)))
        self._results: dict[int, Any] = {}
        self._losses: Counter[int | None] = Counter()
        # What each hand will resolve, and the piece it has; None while it waits for its slot.
        self._busy: dict[Any, tuple[Any, int | None]] = {}

    def play(self) -> list[Any]:
        """Return the result of every piece, in order.

        Raises:
            RayTaskError: the function raised.
            RayError: a piece was lost more than ``LOSSES`` times, see ``is_loss``.
        """
        total = len(self._arguments)
        most, counted = 0, -COUNT_SECONDS
        try:
            while len(self._results) < total:
                if time.monotonic() - counted >= COUNT_SECONDS:
                    most, counted = self._slots(), time.monotonic()
                for _ in range(min(most, total - len(self._results)) - len(self._busy)):
                    hand = self._start()
                    self._busy[hand.ready.remote()] = (hand, None)
                resolved, _ = ray.wait(list(self._busy), num_returns=1, timeout=COUNT_SECONDS)
                for future in resolved:
                    self._take(future)
        finally:
            for hand, _ in self._busy.values():
                ray.kill(hand)
        return [self._results[index] for index in range(total)]

    def _take(self, future: Any) -> None:
        """Take in what a hand has done, and give it the next piece."""
        hand, index = self._busy.pop(future)
        try:
            value = ray.get(future)
        except BaseException as error:
            ray.kill(hand)  # it may be alive, and only out of reach
            if not is_loss(error) or self._is_lost_too_often(index):
                raise
            return
        if index is not None:
            self._results[index] = value
            if self._progress:
                self._progress(len(self._results), len(self._arguments))
        if self._waiting:
            index = self._waiting.popleft()
            self._busy[hand.work.remote(self._arguments[index])] = (hand, index)
        else:
            ray.kill(hand)

    def _is_lost_too_often(self, index: int | None) -> bool:
        """Count a loss; let the lost piece be the next, unless it was lost too often."""
        self._losses[index] += 1
        # That hands are lost before they have a piece must end some time, too.
        allowed = LOSSES * (len(self._arguments) if index is None else 1)
        if index is not None:
            self._waiting.appendleft(index)
        return self._losses[index] > allowed
