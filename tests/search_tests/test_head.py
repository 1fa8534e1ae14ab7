"""When the head of a cluster counts as gone, by knocks that the tests answer or not."""

from __future__ import annotations

import socket

import pytest

from search.head import KNOCKS, Doorbell, knock_at


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
