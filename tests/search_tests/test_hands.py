"""Pieces of work where a node may be unfit for them: it gets no more, and others go on."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import ray
from ray.exceptions import RayTaskError
from search_studies import MakeRun

from search.fitness import Fitness
from search.hands import Deal, Hand
from search.place import Place
from spaces.errors import InputError, RefusedError
from spaces.run_files import RunFiles

pytestmark = pytest.mark.slow

SIMULATED = "simulated_workload:open_problem"
ERRORS = {
    1: OSError(errno.EROFS, os.strerror(errno.EROFS), "a name"),
    2: RefusedError("bank", "a part cannot be read", "Run the study again"),
}


def fails_once(root: str, number: int) -> int:
    """The second piece cannot be written, the third cannot read the bank, each at first."""
    struck = Path(root) / f"struck{number}"
    if number not in ERRORS or struck.exists():
        return number
    struck.touch()
    raise ERRORS[number]


def diverges(_: str, number: int) -> int:
    if number == 1:
        raise InputError("retrain", "it diverged", "Choose another")
    return number


def deal(place: Place, run: RunFiles, function: Callable[..., Any], fitness: Fitness) -> list[Any]:
    """Four pieces, as on a cluster where another node is fit, which in truth is this one."""
    hand: Any = ray.remote(Hand).options(num_cpus=1)
    workplace = place.workplace(run.root, SIMULATED)
    pieces = [(str(run.root), number) for number in range(4)]
    start, slots = (lambda: hand.remote(workplace)), (lambda: 2)
    return Deal(start, function, pieces, slots=slots, fitness=fitness).play()


def test_a_piece_that_cannot_be_done_on_its_node_is_done_on_another(
    make_run: MakeRun, two_slots: Place, caplog: pytest.LogCaptureFixture
) -> None:
    assert deal(two_slots, make_run(), fails_once, Fitness(lambda: ["another"])) == [0, 1, 2, 3]
    told = [record.getMessage() for record in caplog.records]
    for why in (
        "gets no more work: bank: a part cannot be read.",
        f"more work: run directory, on {socket.gethostname()}: cannot be written (Read-only file",
    ):
        assert sum(why in line for line in told) == 1


def test_what_is_wrong_with_the_work_itself_is_tried_on_no_other_node(
    make_run: MakeRun, two_slots: Place
) -> None:
    fitness = Fitness(lambda: pytest.fail("its node was found unfit"))
    with pytest.raises(RayTaskError, match="it diverged"):
        deal(two_slots, make_run(), diverges, fitness)


def test_work_ends_where_no_fit_node_is_left_and_says_why(
    make_run: MakeRun, two_slots: Place
) -> None:
    run = make_run()
    (run.root / "obstacle").touch()
    cluster = replace(two_slots, is_own=False)
    with pytest.raises(InputError, match=r"^network\.weights\.file: no such file: w\.pth\."):
        cluster.run_on_slots(
            diverges, [(str(run.root), 0)], workplace=cluster.workplace(run.root, SIMULATED)
        )
    with pytest.raises(OSError, match="Read-only"):  # on its own computer, as it was raised
        two_slots.run_on_slots(
            fails_once, [(str(run.root), 1)], workplace=two_slots.workplace(run.root, SIMULATED)
        )
