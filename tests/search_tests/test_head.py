"""When Ray counts as gone, and what then becomes of the work, and of the process."""

from __future__ import annotations

import socket
import time

import pytest

from search import head
from search.head import KNOCKS, Doorbell, _watched, knock_at
from spaces.errors import RayLostError


def test_a_head_is_gone_after_some_knocks_in_a_row_without_an_answer() -> None:
    answers = iter([False] * (KNOCKS - 1) + [True] + [False] * KNOCKS)

    def knock(address: str, _: float) -> None:
        assert address == "10.0.0.7:6379"
        if not next(answers):
            raise ConnectionRefusedError

    look = Doorbell("10.0.0.7:6379", knock=knock)
    assert [look() for _ in range(2 * KNOCKS - 1)] == [""] * (2 * KNOCKS - 1)
    assert look() == "the head at 10.0.0.7:6379 has gone"


def test_a_knock_is_answered_by_who_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        knock_at(address, 1.0)
    with pytest.raises(ConnectionRefusedError):
        knock_at(address, 1.0)


GONE = r"^Ray: its raylet ended\. The same command goes on from here\.$"


@pytest.fixture
def ended(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was ended of a Ray; a fake one, at which is looked all the time."""
    monkeypatch.setattr(head, "LOOK_SECONDS", 0.01)
    return []


def test_work_is_interrupted_where_the_process_lives_on(ended: list[str]) -> None:
    began = time.monotonic()
    with (
        pytest.raises(RayLostError, match=GONE),
        _watched(lambda: "its raylet ended", lambda: ended.append("Ray"), ends_process=False),
    ):
        time.sleep(60)
    assert time.monotonic() - began < 30
    assert ended == ["Ray"]
    time.sleep(0.05)  # no interrupt comes later


def test_what_work_meets_first_is_told_as_what_it_is(
    ended: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(head, "LOOK_SECONDS", 60)
    for why, raised in (("its raylet ended", RayLostError), ("", ConnectionError)):
        with (
            pytest.raises(raised),
            _watched(lambda why=why: why, lambda: ended.append("Ray"), ends_process=False),  # type: ignore[misc]
        ):
            raise ConnectionError("no socket")
    assert ended == ["Ray"]


def test_nothing_is_raised_while_ray_lives(ended: list[str]) -> None:
    with _watched(lambda: "", lambda: ended.append("Ray"), ends_process=False):
        time.sleep(0.05)
    assert ended == []
