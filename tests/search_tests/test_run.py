"""The whole search through Ray, with a workload that costs nothing."""

from __future__ import annotations

import dataclasses
import gc
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState
from patience import until
from ray.tune.experiment import Trial
from rich.console import Console
from search_studies import MakeRun, make_study
from simulated_workload import notes

from search.place import Place
from search.run import SearchOutcome, Ticker, search
from spaces.errors import InputError
from spaces.parameters import NAMES, first_configurations
from spaces.run_files import RunFiles, read_out_of_fold
from spaces.trial_log import TrialLog, TrialRecord, read_trials

OPENER = "simulated_workload:open_problem"
EVERY = [0.0, 1.0]
# The driver counts at most a quarter of it of any pause, so a healthy trial outlasts three.
STALLED = 4.0


def run_search(run: RunFiles, place: Place, slots: int = 2, faults: Any = ()) -> SearchOutcome:
    (run.root / "faults.json").write_text(json.dumps(list(faults)))
    return search(run, dataclasses.replace(place, slots=slots), console=None, opener=OPENER)


def outcome(trials: list[TrialRecord]) -> list[tuple[object, ...]]:
    """What must not depend on where and when trials ran."""
    return [
        (
            t.number,
            t.configuration,
            t.source,
            t.state,
            t.reason,
            t.score,
            t.best_epoch,
            t.oof_sha256,
            [dataclasses.replace(epoch, seconds=0.0) for epoch in t.epochs],
        )
        for t in trials
    ]


def wait_until_gone(processes: list[int]) -> None:
    """Ray takes five seconds to end a process that is stopped."""
    until(lambda: not any(Path(f"/proc/{process}").exists() for process in processes), 120)


@pytest.fixture(scope="module")
def searched(
    two_slots: Place, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[int], RunFiles]:
    """The same study searched on one or two slots, each once."""

    runs: dict[int, RunFiles] = {}

    def on(slots: int) -> RunFiles:
        if slots not in runs:
            run = RunFiles(tmp_path_factory.mktemp(f"slots{slots}"))
            run.study.write_text(make_study(trials=8, generation=2, eta=3).as_yaml())
            run_search(run, two_slots, slots, [{"lambda": EVERY, "seconds": 0.05}])
            runs[slots] = run
        return runs[slots]

    return on


@pytest.mark.slow
def test_one_and_two_slots_give_the_same(searched: Callable[[int], RunFiles]) -> None:
    one, two = (read_trials(searched(slots).trials) for slots in (1, 2))
    assert outcome(one) == outcome(two)
    assert len(one) == 8
    assert {trial.state for trial in one} == {"complete", "stopped"}


@pytest.mark.slow
def test_idle_slots_keep_their_processes_and_tune_no_trial_that_has_ended(
    make_run: MakeRun, two_slots: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Six generations of two: Tune alone would end and start a process in each.

    It would also keep all twelve trials, so that the driver's memory grew with every one.
    """
    kept: list[int] = []

    def count(ticker: Ticker, trials: list[Any], **_: Any) -> None:
        gc.collect()
        kept.append(sum(type(one) is Trial for one in gc.get_objects()))

    monkeypatch.setattr(Ticker, "on_experiment_end", count)
    run = make_run(trials=12, generation=2, scheduler="none")
    run_search(run, two_slots, 2, [{"lambda": EVERY, "seconds": 0.05}])
    # Two, and on a busy machine those that Tune replaces while they still start.
    assert len(notes(run.root, "opened")) <= 4
    # Those that ran when the last was added.
    assert len(kept) == 1
    assert 1 <= kept[0] <= 4


def test_every_fold_gets_the_logged_configuration_to_the_last_bit(
    searched: Callable[[int], RunFiles],
) -> None:
    run = searched(2)
    started = {tuple(note[name] for name in NAMES) for note in notes(run.root, "started")}
    logged = {tuple(t.configuration.as_dict().values()) for t in read_trials(run.trials)}
    assert started == logged


def test_logits_of_every_epoch_match_their_digest(searched: Callable[[int], RunFiles]) -> None:
    run = searched(2)
    for trial in read_trials(run.trials):
        logits = read_out_of_fold(run.out_of_fold_of(trial.number), trial.oof_sha256)
        assert len(logits) == len(trial.epochs)
        assert not run.checkpoint_folder(trial.number).exists()


def test_the_journal_holds_the_study(searched: Callable[[int], RunFiles]) -> None:
    run = searched(2)
    storage = JournalStorage(JournalFileBackend(str(run.optuna_journal)))
    study = optuna.load_study(study_name="simulated", storage=storage)
    trials = read_trials(run.trials)
    assert [trial.value for trial in study.trials] == [trial.score for trial in trials]
    stopped = [t.number for t in study.trials if t.state == TrialState.PRUNED]
    assert stopped == [trial.number for trial in trials if trial.state == "stopped"]


def test_a_finished_search_changes_nothing(
    searched: Callable[[int], RunFiles], two_slots: Place
) -> None:
    run = searched(2)
    before = run.trials.read_bytes()
    again = search(run, two_slots, console=None, opener="nowhere:nothing")
    assert run.trials.read_bytes() == before
    assert again.asked == 8


@pytest.mark.slow
def test_nothing_but_our_lines_reaches_the_terminal(
    make_run: MakeRun, two_slots: Place, capfd: pytest.CaptureFixture[str]
) -> None:
    run = make_run(trials=2)
    faults = [{"lambda": [1.0, 1.0], "raise": True}, {"lambda": [0.5, 0.5], "kill": True}]
    (run.root / "faults.json").write_text(json.dumps(faults))
    console = Console(file=io.StringIO(), width=80)
    found = search(run, two_slots, console=console, opener=OPENER)
    assert found == SearchOutcome(asked=2, complete=1, stopped=0, failed=1)
    captured = capfd.readouterr()
    assert captured.out + captured.err == ""
    assert isinstance(console.file, io.StringIO)
    assert len(console.file.getvalue().splitlines()) == 2


FAULTS = [
    {"lambda": [0.5, 0.5], "kill": True},
    {"lambda": [1.0, 1.0], "raise": True},
    {"lambda": [0.0, 0.4], "nan": True},
    {"lambda": [0.6, 0.8], "kill_after": True},
    {"lambda": [0.8, 0.95], "raise_after": True},
]


def faulty(number: int, lambda_: float) -> tuple[str, str, int]:
    """State, reason and retries that a trial of the faulty study must end with."""
    if number == 1:
        return "failed", "RuntimeError: this configuration is impossible", 0
    if lambda_ <= 0.4:
        return "failed", "non-finite loss at epoch 2", 0
    return "complete", "all epochs done", int(number == 0)


@pytest.mark.slow
def test_every_fault_ends_its_own_trial_once(make_run: MakeRun, two_slots: Place) -> None:
    """An error, a NaN, a process killed in a trial, one killed between two, a bad ending."""
    run = make_run(trials=8, scheduler="none", sampler="random", seed=10)
    found = run_search(run, two_slots, 1, FAULTS)
    trials = read_trials(run.trials)
    assert len(trials) == found.asked == 8
    kinds = set()
    for trial in trials:
        state, reason, retries = faulty(trial.number, trial.configuration.lambda_)
        kinds.add(reason)
        assert (trial.state, trial.reason) == (state, reason)
        if not retries:
            continue
        assert trial.retries == retries
        assert [epoch.epoch for epoch in trial.epochs] == [1, 2, 3, 4, 5, 6]
    assert len(kinds) == 3
    assert list(run.root.glob("kill_after-*"))
    assert run.trials.read_text().count('"event": "ended"') == 8
    assert "this configuration is impossible" in run.log.read_text()
    assert "Traceback" in run.log.read_text()


@pytest.mark.slow
@pytest.mark.parametrize("slots", [1, 2])
def test_a_stopped_trial_that_takes_5_seconds_to_close_costs_no_other_trial(
    make_run: MakeRun, two_slots: Place, slots: int
) -> None:
    run = make_run(trials=6, generation=2, eta=2, sampler="random")
    found = run_search(run, two_slots, slots, [{"lambda": EVERY, "close_seconds": 5.0}])
    trials = read_trials(run.trials)
    assert found.asked == found.complete + found.stopped == 6
    assert found.stopped >= 1
    started = [tuple(note[name] for name in NAMES) for note in notes(run.root, "started")]
    assert len(started) == len(set(started)) == 6
    assert set(started) == {tuple(t.configuration.as_dict().values()) for t in trials}


@pytest.mark.slow
def test_a_trial_whose_process_always_dies_fails_after_all_retries(
    make_run: MakeRun, two_slots: Place
) -> None:
    run = make_run(trials=2, retries=1, scheduler="none")
    run_search(run, two_slots, 1, [{"lambda": [0.5, 0.5], "die": True}])
    lost, other = read_trials(run.trials)
    assert (lost.state, lost.retries) == ("failed", 1)
    assert lost.reason == "lost: its process or node died, 2 of 2"
    assert other.state == "complete"


@pytest.mark.slow
def test_a_process_that_can_compute_no_more_gets_no_other_trial(
    make_run: MakeRun, two_slots: Place
) -> None:
    """A broken GPU would fail all that follow; memory that ran out is retried, then failed."""
    run = make_run(trials=3, retries=1, scheduler="none", sampler="random", seed=10)
    faults = [{"lambda": [0.5, 0.5], "cuda": True}, {"lambda": [1.0, 1.0], "memory": True}]
    run_search(run, two_slots, 1, faults)
    cuda, memory, other = read_trials(run.trials)
    assert (cuda.state, cuda.retries) == ("complete", 1)
    assert (memory.state, memory.reason) == ("failed", "memory ran out (MemoryError), 2 of 2")
    assert other.state == "complete"
    assert "its GPU failed (RuntimeError: CUDA error: an illegal memory" in run.trials.read_text()
    assert "Traceback" not in run.trials.read_text()
    assert "simulated_workload.py" in run.log.read_text()
    # Each of the three losses ended a process, which trained nothing after it.
    started = [(note["pid"], note["lambda"]) for note in notes(run.root, "started")]
    processes = [pid for pid, _ in started]
    assert len(set(processes)) == 4
    for pid in set(processes):
        at = [place for place, other in enumerate(processes) if other == pid]
        assert at == list(range(at[0], at[-1] + 1))


@pytest.mark.slow
@pytest.mark.parametrize(("fault", "retries"), [("hang", 1), ("freeze", 0)])
def test_a_trial_that_hangs_is_ended_with_a_reason(
    make_run: MakeRun, two_slots: Place, fault: str, retries: int
) -> None:
    """Its neighbour is not disturbed; one start is repeated, as after any loss."""
    run = make_run(trials=2, retries=retries, scheduler="none", stalled_after=STALLED)
    run_search(run, two_slots, 2, [{"lambda": [0.5, 0.5], fault: True}])
    hung, other = read_trials(run.trials)
    starts = retries + 1
    assert (hung.state, hung.retries) == ("failed", retries)
    assert hung.reason == f"stalled: no progress for {STALLED:g} s, {starts} of {starts}"
    assert (other.state, other.retries) == ("complete", 0)
    lost = f'"event": "lost", "number": 0, "reason": "stalled: no progress for {STALLED:g} s"'
    assert run.trials.read_text().count(lost) == retries
    wait_until_gone([n["pid"] for n in notes(run.root, "started") if n["lambda"] == 0.5])
    assert not run.heartbeats.exists()


@pytest.mark.slow
def test_a_process_that_stops_while_it_opens_the_data_is_ended(
    make_run: MakeRun, two_slots: Place
) -> None:
    """There is no batch yet, so nothing but the start itself can have left a sign."""
    run = make_run(trials=2, scheduler="none", stalled_after=600.0)
    (run.root / "frozen").touch()
    place = dataclasses.replace(two_slots, slots=1)
    found = search(run, place, console=None, opener=OPENER, stalled_after=STALLED)
    assert (found.complete, [trial.retries for trial in read_trials(run.trials)]) == (2, [1, 0])
    wait_until_gone([notes(run.root, "opened")[0]["pid"]])


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["hang", "dawdle"])
def test_a_trial_over_its_time_limit_fails_and_names_it(
    make_run: MakeRun, two_slots: Place, fault: str
) -> None:
    run = make_run(trials=2, scheduler="none", trial_minutes=0.1)
    run_search(run, two_slots, 2, [{"lambda": [0.5, 0.5], fault: True}])
    slow, other = read_trials(run.trials)
    assert (slow.state, slow.retries, other.state) == ("failed", 0, "complete")
    assert slow.reason.startswith("over search.trial_minutes: ")
    assert slow.reason.endswith(" > 0.1")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("obstacle", "told"),
    [
        ("obstacle", r"^network\.weights\.file: no such file: w\.pth\."),
        (
            "broken",
            r"^the study: cannot be opened on .* \(ImportError: libcudnn\.so: cannot open\)",
        ),
    ],
)
def test_what_keeps_every_trial_from_starting_ends_the_search_not_the_trials(
    make_run: MakeRun, two_slots: Place, obstacle: str, told: str
) -> None:
    run = make_run(trials=4, scheduler="none", retries=0)
    (run.root / obstacle).touch()
    with pytest.raises(InputError, match=told):
        run_search(run, two_slots, 2)
    assert all(trial.state is None for trial in read_trials(run.trials))
    assert ("simulated_workload.py" in run.log.read_text()) == (obstacle == "broken")
    (run.root / obstacle).unlink()
    assert run_search(run, two_slots, 2).complete == 4


@pytest.mark.slow
def test_retries_go_on_counting_after_the_driver_was_restarted(
    make_run: MakeRun, two_slots: Place
) -> None:
    run = make_run(trials=2, retries=1, scheduler="none")
    log = TrialLog(run.trials)
    first, second = first_configurations(make_study().space, has_segments=True)
    for number, (source, configuration) in enumerate((first, second)):
        log.asked(number, configuration, source)
    log.lost(0, "lost: its process or node died")
    # In its first epoch: a new one would make up for the loss before.
    run_search(run, two_slots, 2, [{"lambda": [0.5, 0.5], "die": True, "epoch": 1}])
    lost, _ = read_trials(run.trials)
    assert (lost.reason, lost.retries) == ("lost: its process or node died, 2 of 2", 1)
    assert len(notes(run.root, "started")) == 2
