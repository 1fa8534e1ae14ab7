"""A signal that comes while a search ends is not lost with it."""

from __future__ import annotations

import signal

import pytest
from ray.tune.tune import _setup_signal_catching
from search_studies import MakeRun
from test_run import run_search

from search.board import Board
from search.place import Place
from search.signals import Signals
from spaces.errors import TERMINATED
from spaces.trial_log import read_trials

NUMBERS = (signal.SIGINT, signal.SIGTERM)


@pytest.mark.parametrize(
    ("sent", "received"),
    [(signal.SIGINT, [signal.SIGINT]), (signal.SIGTERM, [signal.SIGTERM, signal.SIGINT])],
)
def test_tune_stops_and_what_came_is_known(sent: signal.Signals, received: list[int]) -> None:
    before = [signal.getsignal(number) for number in NUMBERS]
    signals = Signals()
    with signals.noted():
        stops = _setup_signal_catching()
        signals.setup()
        assert not stops.is_set()
        signal.raise_signal(sent)
        assert stops.is_set()
    assert signals.received == received
    assert [signal.getsignal(number) for number in NUMBERS] == before


@pytest.mark.slow
def test_a_signal_at_the_end_of_the_last_trial_stops_the_command(
    make_run: MakeRun, two_slots: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, end = make_run(trials=2, scheduler="none"), Board.end

    def end_with_a_signal(board: Board, *how: object) -> None:
        end(board, *how)  # type: ignore[arg-type]
        if board.is_over:
            signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(Board, "end", end_with_a_signal)
    with pytest.raises(SystemExit) as stopped:
        run_search(run, two_slots)
    assert stopped.value.code == TERMINATED
    assert [trial.state for trial in read_trials(run.trials)] == ["complete", "complete"]
    assert run_search(run, two_slots).complete == 2
