"""The signals that stop a search: Tune ends in order after one, and tells nobody that it came."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from ray import tune


class Signals(tune.Callback):
    """Notes SIGINT and SIGTERM, and turns the second, which Tune ignores, into the first.

    Attributes:
        received: which have come, in their order.
    """

    def __init__(self) -> None:
        self.received: list[int] = []
        self._answer: Any = None

    def __reduce__(self) -> tuple[type[tune.Callback], tuple[()]]:
        """Stay out of Tune's snapshots."""
        return tune.Callback, ()

    @contextmanager
    def noted(self) -> Iterator[None]:
        """Answer in this block, and leave the answers of before; Tune would leave its own."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
        signal.signal(signal.SIGTERM, self._forward)
        try:
            yield
        finally:
            for number, answer in before.items():
                signal.signal(number, signal.SIG_DFL if answer is None else answer)

    def setup(self, *_: object, **__: object) -> None:
        """Come before Tune, which has its answer to SIGINT in place by now."""
        if threading.current_thread() is threading.main_thread():
            self._answer = signal.signal(signal.SIGINT, self._note)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.received.append(number)
        if callable(self._answer):
            self._answer(number, frame)

    def _forward(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002
        self.received.append(number)
        signal.raise_signal(signal.SIGINT)
