"""How much a search does, counted: processes started, epochs trained."""

from __future__ import annotations

from collections import Counter

import pytest
from counted_workload import SLOTS
from search_studies import EPOCHS, make_study
from simulated_workload import notes

from search.place import Place
from search.run import search
from spaces.parameters import NAMES
from spaces.run_files import RunFiles
from spaces.trial_log import read_trials

TRIALS = 24


@pytest.fixture(scope="module")
def searched(two_slots: Place, tmp_path_factory: pytest.TempPathFactory) -> RunFiles:
    """A search with ASHA over many more trials than slots."""
    run = RunFiles(tmp_path_factory.mktemp("many"))
    run.study.write_text(make_study(trials=TRIALS).as_yaml())
    search(run, two_slots, console=None, opener="counted_workload:open_problem")
    return run


def test_many_trials_on_two_slots_start_two_processes(searched: RunFiles) -> None:
    assert len(read_trials(searched.trials)) == TRIALS
    opened = [note["pid"] for note in notes(searched.root, "opened")]
    assert len(opened) == len(set(opened)) == SLOTS
    assert {note["pid"] for note in notes(searched.root, "trained")} == set(opened)


def test_exactly_the_logged_epochs_were_trained(searched: RunFiles) -> None:
    trained = Counter(
        (*(note[name] for name in NAMES), note["epoch"]) for note in notes(searched.root, "trained")
    )
    trials = read_trials(searched.trials)
    logged = Counter(
        (*trial.configuration.as_dict().values(), epoch.epoch)
        for trial in trials
        for epoch in trial.epochs
    )
    assert trained == logged
    assert set(trained.values()) == {1}
    stopped = [trial for trial in trials if trial.state == "stopped"]
    assert stopped, "ASHA has stopped nobody, so the test says nothing"
    saved = sum(EPOCHS - len(trial.epochs) for trial in stopped)
    assert trained.total() == TRIALS * EPOCHS - saved < TRIALS * EPOCHS
