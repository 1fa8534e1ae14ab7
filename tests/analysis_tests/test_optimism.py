"""The correction of the winner's score, on candidates whose worth is known."""

import numpy as np
import pytest
from finished_run import Run

from analysis.judge.optimism import corrected_score, read_scores
from spaces.trial_log import read_trials

GENERATOR = np.random.default_rng(0)
N = 250
POSITIVE = GENERATOR.permutation(N) < N // 2
FOLDS = GENERATOR.permutation(N) % 5


def mean_fold_auc(score: np.ndarray) -> float:
    found = []
    for fold in range(5):
        here = fold == FOLDS
        pairs = score[here & POSITIVE][:, None] > score[here & ~POSITIVE][None]
        found.append(pairs.mean())
    return float(np.mean(found))


def test_the_best_of_many_worthless_candidates_is_corrected_to_chance() -> None:
    naive, corrected = [], []
    for seed in range(8):
        generator = np.random.default_rng(seed)
        worthless = generator.normal(size=(60, N))
        naive.append(max(mean_fold_auc(score) for score in worthless))
        corrected.append(
            corrected_score(
                worthless[:, None], POSITIVE, FOLDS, window=1, generator=generator, bootstraps=50
            )
        )
    assert np.mean(naive) > 0.56
    assert np.mean(corrected) == pytest.approx(0.5, abs=0.025)


def corrected(*trials: np.ndarray, window: int = 1) -> float:
    generator = np.random.default_rng(1)
    return corrected_score(trials, POSITIVE, FOLDS, window=window, generator=generator)


def test_a_single_candidate_keeps_its_score() -> None:
    score = POSITIVE + GENERATOR.normal(size=N)
    assert corrected(score[None]) == pytest.approx(mean_fold_auc(score), abs=0.01)


def test_a_far_better_candidate_is_chosen_in_every_resample() -> None:
    good = POSITIVE * 3.0 + GENERATOR.normal(size=N)
    others = GENERATOR.normal(size=(10, N))
    assert corrected(others, good[None]) == pytest.approx(corrected(good[None]))


def test_a_candidate_is_judged_over_its_window_like_the_one_score() -> None:
    good = POSITIVE * 3.0 + GENERATOR.normal(size=N)
    one_good_epoch = np.stack([GENERATOR.normal(size=N), good, GENERATOR.normal(size=N)])
    expected = np.mean([mean_fold_auc(score) for score in one_good_epoch])
    assert corrected(one_good_epoch, window=3) == pytest.approx(expected, abs=0.02)
    assert np.isnan(corrected(one_good_epoch, window=4))


def test_stopped_trials_were_candidates_and_failed_ones_were_not(run: Run) -> None:
    trials = read_trials(run.files.trials)
    assert {trial.state for trial in trials} == {"complete", "stopped", "failed"}
    known = np.ones(len(run.cohort.split.folds), dtype=bool)
    found = [len(scores) for scores in read_scores(run.files, trials, known)]
    assert found == [len(trial.epochs) for trial in trials if trial.state != "failed"]
