"""A disk that is full, or away, is the machine's fault: no trial fails for it."""

from __future__ import annotations

import pytest
from driving import Driver
from search_studies import MakeRun
from test_run import EVERY, run_search

from search.place import Place
from search.trial import Assignment, Trial
from spaces.errors import InputError
from spaces.parameters import Configuration
from spaces.run_files import RunFiles
from spaces.trial_log import read_trials


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait for no storage."""
    for module in ("spaces.trial_log", "search.trial"):
        monkeypatch.setattr(f"{module}.outlasting", lambda work: work())


@pytest.mark.usefixtures("impatient")
def test_a_log_that_cannot_be_written_is_what_ends_the_search(make_run: MakeRun) -> None:
    """Tune wraps what its hooks raise, so the board keeps it."""
    run = make_run(trials=4)
    driver = Driver(run)
    driver.fill()
    run.trials.rename(run.root / "away")
    with pytest.raises(InputError, match="cannot be written") as raised:
        driver.advance(min(driver.running))
    assert driver.board.obstacle is raised.value


@pytest.mark.usefixtures("impatient")
def test_a_trial_makes_no_run_directory_where_one_has_gone(make_run: MakeRun) -> None:
    from simulated_workload import Problem

    run = make_run()
    configuration = Configuration(0.25, 1e-3, 1e-3, 0.5)
    trial = Trial(Problem(run.root), run, Assignment(0, configuration), epochs=6)
    trial.advance()
    away = run.root.rename(run.root.with_name("away"))
    with pytest.raises(FileNotFoundError):
        trial.advance()
    assert not run.root.exists()
    away.rename(run.root)
    assert RunFiles(run.root).out_of_fold_of(0).exists()


@pytest.mark.slow
def test_a_full_disk_ends_the_search_and_not_the_trials(
    make_run: MakeRun, two_slots: Place
) -> None:
    run = make_run(trials=4, scheduler="none", retries=0)
    told = r"^run directory, on .*: cannot be written \(No space left on device\)\."
    with pytest.raises(InputError, match=told):
        run_search(run, two_slots, 2, [{"lambda": EVERY, "full": True}])
    assert all(trial.state is None for trial in read_trials(run.trials))
    assert run_search(run, two_slots, 2).complete == 4
