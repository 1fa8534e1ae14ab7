"""What of Ray's errors counts as the loss of a process, with hands that are none."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import ray
from ray.exceptions import (
    ActorDiedError,
    ActorUnschedulableError,
    NodeDiedError,
    OutOfMemoryError,
    RayError,
    RayTaskError,
    TaskCancelledError,
)

from search.hands import LOSSES, is_loss
from search.place import Place
from spaces.errors import NoModelError

LOST = [
    OutOfMemoryError("Task was killed due to the node running low on memory.\nMore for developers"),
    NodeDiedError("its node is gone"),
    ActorUnschedulableError("its node is gone"),
    ActorDiedError(),
]


class Method:
    """Answers a call with a function, as a future that is resolved at once."""

    def __init__(self, does: Callable[..., Any]) -> None:
        self._does = does

    def remote(self, *arguments: Any) -> Callable[[], Any]:
        return lambda: self._does(*arguments)


class FakeHand:
    """Does a piece; raises the next error first, as long as there is one."""

    def __init__(self, errors: Iterator[RayError]) -> None:
        def work(function: Callable[..., Any], argument: tuple[Any, ...]) -> Any:
            for error in errors:
                raise error
            return function(*argument)

        self.ready = Method(lambda: None)
        self.work = Method(work)


@pytest.fixture
def killed(monkeypatch: pytest.MonkeyPatch) -> Callable[[list[RayError]], list[Any]]:
    """Replace Ray by fakes that raise these errors, one a piece; return the hands it kills."""

    def replace(errors: list[RayError]) -> list[Any]:
        killed: list[Any] = []
        left = iter(errors)

        class Remote:
            def options(self, **_: object) -> Remote:
                return self

            def remote(self, _: None) -> FakeHand:
                return FakeHand(left)

        monkeypatch.setattr(ray, "remote", lambda _: Remote())
        monkeypatch.setattr(ray, "wait", lambda futures, **_: (futures[:1], futures[1:]))
        monkeypatch.setattr(ray, "get", lambda future: future())
        monkeypatch.setattr(ray, "kill", killed.append)
        return killed

    return replace


PLACE = Place(slots=1, device="cpu", cpus=1, gpus=0.0, is_own=True)


@pytest.mark.parametrize("error", LOST, ids=lambda error: type(error).__name__)
def test_a_lost_piece_is_dealt_again(
    killed: Callable[[list[RayError]], list[Any]], error: RayError
) -> None:
    hands = killed([error] * LOSSES)
    assert PLACE.run_on_slots(divmod, [(7, 2), (9, 2)]) == [(3, 1), (4, 1)]
    assert len(hands) == LOSSES + 1


def test_a_piece_that_is_lost_again_and_again_says_what_ray_said(
    killed: Callable[[list[RayError]], list[Any]],
) -> None:
    killed([LOST[0]] * (LOSSES + 1))
    told = rf"lost {LOSSES + 1} times .*low on memory\). Often memory ran out: use fewer"
    with pytest.raises(NoModelError, match=told):
        PLACE.run_on_slots(divmod, [(7, 2)])


def test_what_a_piece_raised_and_a_cancelled_piece_are_no_losses(
    killed: Callable[[list[RayError]], list[Any]],
) -> None:
    raised = RayTaskError("divmod", "traceback", ZeroDivisionError("division by zero"))
    assert not is_loss(raised)
    killed([raised])
    with pytest.raises(ZeroDivisionError):
        PLACE.run_on_slots(divmod, [(7, 0)])
    killed([TaskCancelledError()])
    with pytest.raises(TaskCancelledError):
        PLACE.run_on_slots(divmod, [(7, 2)])
