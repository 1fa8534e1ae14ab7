"""trials.jsonl keeps every event, and a torn last line costs nothing but itself."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spaces.errors import RefusedError
from spaces.parameters import Configuration
from spaces.trial_log import Epoch, TrialLog, TrialRecord, best_epoch, read_trials, scores

CONFIGURATION = Configuration(0.3, 1e-3, 1e-2, 0.5)
areas = st.lists(st.floats(0, 1), min_size=1, max_size=12)


def epoch_of(number: int) -> Epoch:
    return Epoch(
        epoch=number,
        auc=(0.7, 0.8),
        pooled_auc=0.75,
        loss={"train_total": (0.1, 0.2)},
        score=0.75,
        seconds=1.5,
    )


def filled(path):
    log = TrialLog(path)
    log.asked(0, CONFIGURATION, "default")
    log.epoch(0, epoch_of(1), "")
    log.epoch(0, epoch_of(2), "node-2")
    ended = TrialRecord(0, CONFIGURATION, "default", state="complete", reason="all epochs done")
    ended.score, ended.best_epoch = 0.75, 2
    log.ended(ended)
    log.asked(1, CONFIGURATION, "sampler")
    return log


def test_what_is_written_is_read(tmp_path):
    filled(tmp_path / "trials.jsonl")
    first, second = read_trials(tmp_path / "trials.jsonl")
    assert first.epochs == [epoch_of(1), epoch_of(2)]
    assert (first.state, first.score, first.best_epoch) == ("complete", 0.75, 2)
    assert first.configuration == CONFIGURATION
    assert second.state is None


def test_a_trial_that_has_not_ended_remembers_the_machine_of_its_last_epoch(tmp_path):
    path = tmp_path / "trials.jsonl"
    filled(path).epoch(1, epoch_of(1), "node-3")
    assert read_trials(path)[1].host == "node-3"


def test_a_new_epoch_makes_up_for_losses_and_an_unfit_node_is_no_loss(tmp_path):
    path = tmp_path / "trials.jsonl"
    log = filled(path)
    log.lost(1, "lost: its process or node died")
    log.epoch(1, epoch_of(1), "")
    log.lost(1, "its node is unfit", counts=False)
    assert [(t.retries, t.fruitless) for t in read_trials(path)] == [(0, 0), (2, 0)]
    log.lost(1, "lost: its process or node died")
    assert (read_trials(path)[1].retries, read_trials(path)[1].fruitless) == (3, 1)


def test_a_torn_last_line_is_ignored(tmp_path):
    path = tmp_path / "trials.jsonl"
    filled(path)
    whole = read_trials(path)
    with path.open("a") as file:
        file.write('{"event": "epoch", "num')
    assert read_trials(path) == whole


def test_an_event_after_a_torn_line_stands_on_its_own(tmp_path):
    path = tmp_path / "trials.jsonl"
    log = filled(path)
    with path.open("a") as file:
        file.write('{"event": "epoch", "num')
    log = TrialLog(path)
    log.epoch(1, epoch_of(1), "")
    assert read_trials(path)[1].epochs == [epoch_of(1)]


@pytest.mark.parametrize(
    "line",
    [
        "not json",
        '{"event": "ended", "number": 0}',
        '{"event": "asked", "number": 0, "config": {}, "source": ""}',
        '{"event": "epoch", "number": 7, "epoch": 1}',
        '{"event": "dreamt", "number": 1}',
        '{"event": "lost", "number": 1, "reason": "lost"}',
        '{"event": "lost", "number": "1", "counts": true}',
        '{"event": "lost", "number": 1e999, "counts": true}',
        '{"event": "asked", "number": 2, "config": {"lambda": NaN}, "source": ""}',
        "[" * 3000,
        "[]",
    ],
)
def test_any_other_damage_is_refused_with_its_line(tmp_path, line):
    path = tmp_path / "trials.jsonl"
    filled(path)
    with path.open("a") as file:
        file.write(line + "\n")
    with pytest.raises(RefusedError, match=r"trials\.jsonl:7: a damaged line"):
        read_trials(path)


def test_another_version_is_refused(tmp_path):
    path = tmp_path / "trials.jsonl"
    path.write_text('{"format": "polartune/trials/2"}\n')
    with pytest.raises(RefusedError, match="format must be polartune/trials/1"):
        read_trials(path)


@given(areas, st.integers(1, 12))
def test_the_score_is_the_best_moving_average_so_far(means, epochs):
    epochs = max(epochs, len(means))
    window = min(3, epochs)
    found = scores(means, epochs)
    for end in range(1, len(means) + 1):
        full = [math.fsum(means[stop - window : stop]) / window for stop in range(window, end + 1)]
        expected = max(full) if full else math.fsum(means[:end]) / end
        assert found[end - 1] == pytest.approx(expected)


@given(areas)
def test_the_best_epoch_ends_the_window_that_gave_the_score(means):
    epochs = len(means)
    window = min(3, epochs)
    last = best_epoch(means, epochs)
    assert window <= last <= epochs
    average = math.fsum(means[last - window : last]) / window
    assert average == pytest.approx(scores(means, epochs)[-1])
