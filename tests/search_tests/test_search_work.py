"""How much a search does, counted: processes started, epochs trained."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path

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


@pytest.mark.slow
def test_a_resumed_search_trains_only_what_had_not_ended(
    searched: RunFiles, two_slots: Place, tmp_path: Path
) -> None:
    """The log is cut after half of the trials, as a killed driver leaves it."""
    run = RunFiles(tmp_path / "resumed")
    shutil.copytree(searched.root, run.root)
    (run.root / "workers.jsonl").unlink()
    lines = run.trials.read_text(encoding="utf-8").splitlines(keepends=True)
    ends = [at for at, line in enumerate(lines) if '"event": "ended"' in line]
    run.trials.write_text("".join(lines[: ends[TRIALS // 2 - 1] + 1]), encoding="utf-8")
    finished = [trial for trial in read_trials(run.trials) if trial.state]
    assert len(finished) == TRIALS // 2
    search(run, two_slots, console=None, opener="counted_workload:open_problem")
    trained = {tuple(note[name] for name in NAMES) for note in notes(run.root, "trained")}
    assert not trained & {tuple(trial.configuration.as_dict().values()) for trial in finished}
    assert len(trained) == TRIALS - len(finished)
    assert len(notes(run.root, "opened")) == SLOTS
    assert [(t.configuration, t.score, t.state) for t in read_trials(run.trials)] == [
        (t.configuration, t.score, t.state) for t in read_trials(searched.trials)
    ]
