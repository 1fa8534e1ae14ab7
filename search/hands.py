"""Pieces of work, dealt to processes in slots; what a lost process had is dealt again."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from typing import Any

import ray
from ray.exceptions import RayError, RayTaskError, TaskCancelledError

from search.fitness import Fitness, of_this_node
from search.report import Unfit, unopened, unwritten
from search.workplace import Workplace
from spaces.errors import RefusedError

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
    """A process in a slot, that calls what it is given.

    Args:
        workplace: opened first; where it cannot be, or files are not as they must be, the process
            says that its node is unfit. None where no other node could do better.
    """

    def __init__(self, workplace: Workplace | None) -> None:
        self._workplace = workplace

    def ready(self) -> Unfit | None:
        """Resolve when the process has its slot and knows whether it can work there."""
        try:
            if self._workplace is not None:
                self._workplace.open()
        except Exception as error:  # noqa: BLE001  no piece was looked at yet
            return of_this_node(unopened(error))
        return None

    def work(self, function: Callable[..., Any], argument: tuple[Any, ...]) -> Any:
        """Do one piece; an input error is the piece's own, on whatever node."""
        try:
            return function(*argument)
        except (OSError, RefusedError) as error:
            if self._workplace is None:
                raise
            told = Unfit(error) if isinstance(error, RefusedError) else unwritten(error)
            return of_this_node(told)


class Deal:
    """Gives each hand the next piece whenever it is free; one without a slot yet gets none.

    A hand that is lost is replaced, and its piece is the next to be given, to whoever is free;
    Ray's own retries would be used up before it has noticed that a node is gone. So is one whose
    node is unfit. A hand for which nothing is left ends at once: a replacement may be waiting for
    its slot.

    Args:
        start: starts a hand, on none of the unfit nodes.
        function: does one piece.
        arguments: of each piece.
        slots: says how many hands there may be; asked now and again.
        fitness: keeps the unfit nodes.
        progress: called with (done, total) after each piece.
    """

    def __init__(
        self,
        start: Start,
        function: Callable[..., Any],
        arguments: Sequence[tuple[Any, ...]],
        *,
        slots: Callable[[], int],
        fitness: Fitness,
        progress: Callable[[int, int], None] | None = None,
    ) -> None:
        self._start = start
        self._function = function
        self._slots = slots
        self._fitness = fitness
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
            UserError: no node is left that is fit.
        """
        total = len(self._arguments)
        most, counted = 0, -COUNT_SECONDS
        try:
            while len(self._results) < total:
                if time.monotonic() - counted >= COUNT_SECONDS:
                    if (why := self._fitness.obstacle()) is not None:
                        raise why
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
        if isinstance(value, Unfit):
            ray.kill(hand)
            self._give_back(index)
            if (why := self._fitness.avoid(value)) is not None:
                raise why
            return
        if index is not None:
            self._results[index] = value
            if self._progress:
                self._progress(len(self._results), len(self._arguments))
        if self._waiting:
            index = self._waiting.popleft()
            self._busy[hand.work.remote(self._function, self._arguments[index])] = (hand, index)
        else:
            ray.kill(hand)

    def _is_lost_too_often(self, index: int | None) -> bool:
        """Count a loss; let the lost piece be the next, unless it was lost too often."""
        self._losses[index] += 1
        # That hands are lost before they have a piece must end some time, too.
        allowed = LOSSES * (len(self._arguments) if index is None else 1)
        self._give_back(index)
        return self._losses[index] > allowed

    def _give_back(self, index: int | None) -> None:
        """Let a piece be the next to be given."""
        if index is not None:
            self._waiting.appendleft(index)
