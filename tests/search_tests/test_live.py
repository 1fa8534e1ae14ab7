from __future__ import annotations

import io

import pytest
from driving import Driver
from rich.console import Console
from search_studies import MakeRun

from search.board import Board
from search.live import Display, Pace, idle_slots, table
from search.report import Report
from spaces.sections import SearchSection


def drawn(driver: Driver, slots: int = 2) -> str:
    console = Console(width=80, file=io.StringIO(), record=True)
    console.print(table(driver.board, elapsed=3725.0, left=61.0, slots=slots))
    return console.export_text()


@pytest.fixture
def driver(make_run: MakeRun) -> Driver:
    driver = Driver(make_run(trials=20, grace=2, eta=3), slots=2)
    driver.run(events=80)
    return driver


def test_the_table_fits_80_columns(driver: Driver) -> None:
    lines = drawn(driver).splitlines()
    assert max(map(len, lines)) <= 80
    assert lines[0].strip() == "simulated"
    rows = [line.split() for line in lines if line.strip()[:1].isdigit()]
    assert len(rows) >= 8


def test_the_header_counts_and_the_best_row_is_marked(driver: Driver) -> None:
    text = drawn(driver)
    board = driver.board
    best = board.best()
    assert best is not None
    done = sum(trial.state is not None for trial in board.trials)
    assert f"{done} done / {len(board.trials)} asked / 20" in text
    assert f"best {best.score:.4f} (trial {best.number})" in text
    assert "1:02:05 elapsed" in text
    assert "0:01:01 left" in text
    (marked,) = [line for line in text.splitlines() if line.startswith("*")]
    assert marked.split()[1] == str(best.number)
    assert "default" in marked or "sampler" in marked or "single_task" in marked


def test_running_trials_are_shown(driver: Driver) -> None:
    text = drawn(driver)
    running = [trial.number for trial in driver.board.running]
    assert running
    for number in running:
        start = [str(number), "sampler"]
        (row,) = [line for line in text.splitlines() if line.split()[:2] == start]
        assert row.rstrip().endswith("running")


def test_stopped_trials_say_why(driver: Driver) -> None:
    assert "stopped rung 2" in drawn(driver)


def test_idle_slots_are_named_with_the_cure(driver: Driver) -> None:
    assert "search.generation: 6 would use them all" in " ".join(drawn(driver, slots=6).split())
    assert "idle" not in drawn(driver, slots=4)
    assert idle_slots(SearchSection(order="asynchronous", generation=1), 6) == ""


def test_a_long_study_name_is_cut(make_run: MakeRun) -> None:
    run = make_run()
    run.study.write_text(run.study.read_text().replace("name: simulated", "name: " + "x" * 64))
    driver = Driver(run)
    driver.run()
    assert max(map(len, drawn(driver).splitlines())) <= 80


def test_time_left_is_missing_epochs_over_slots(make_run: MakeRun) -> None:
    driver = Driver(make_run(trials=8, scheduler="none"), slots=2)
    pace = Pace(driver.board, slots=2)
    assert pace.left() is None
    driver.run(events=12)
    pace.see(driver.board.trials[0].epochs[0])
    assert pace.left() == pytest.approx(0.001 * 6 * 6 / 2)


def lines_of(run_driver: Driver, *, terminal: bool) -> str:
    file = io.StringIO()
    display = Display(Console(file=file, force_terminal=terminal, width=80), slots=2)
    board = Board(run_driver.study, run_driver.board.run, observers=[display])
    run_driver.board = board
    run_driver.searcher._board = run_driver.scheduler._board = board
    display.open(board)
    run_driver.run()
    display.tick()
    display.close()
    return file.getvalue()


def test_without_a_terminal_each_ended_trial_is_a_line(make_run: MakeRun) -> None:
    text = lines_of(Driver(make_run(trials=5, scheduler="none")), terminal=False)
    lines = text.splitlines()
    assert len(lines) == 5
    assert lines[0].startswith("[1/5] trial 0: complete score 0.")


@pytest.mark.parametrize("terminal", [True, False])
def test_why_a_trial_failed_is_shown_to_the_letter(make_run: MakeRun, terminal: bool) -> None:
    """A path in brackets, as markup, would end the search; a tag or an emoji would vanish."""
    told = "[/x] [b]:x:"
    driver = Driver(make_run(trials=1), report=lambda t, _: Report(t.number, "here", failed=told))
    assert told in lines_of(driver, terminal=terminal)


def test_on_a_terminal_the_last_table_stays(make_run: MakeRun) -> None:
    text = lines_of(Driver(make_run(trials=5, scheduler="none")), terminal=True)
    assert "5 done / 5 asked / 5" in text
