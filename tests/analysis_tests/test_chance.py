"""p-values of AUCs against every permutation there is, and Holm's correction against its rule."""

import tracemalloc
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from sklearn.metrics import roc_auc_score

from analysis.statistics import chance
from analysis.statistics.chance import holm, permutation_p


def exact_p(positive: np.ndarray, score: np.ndarray) -> float:
    """The share of all labellings whose AUC is at least as high."""
    observed = roc_auc_score(positive, score)
    found = []
    for chosen in combinations(range(len(score)), int(positive.sum())):
        labels = np.zeros(len(score), dtype=bool)
        labels[list(chosen)] = True
        found.append(roc_auc_score(labels, score) >= observed - 1e-12)
    return float(np.mean(found))


@pytest.mark.parametrize(
    "score",
    [
        [0.1, 0.4, 0.35, 0.8, 0.7, 0.9, 0.2, 0.6],
        [1, 1, 2, 2, 2, 3, 1, 3],  # ties
        [9, 8, 7, 1, 2, 3, 4, 5],  # an AUC below .5
    ],
)
def test_the_p_value_is_that_of_all_permutations(score: list[float]) -> None:
    positive = np.array([0, 0, 0, 1, 1, 1, 0, 0], dtype=bool)
    found = permutation_p(positive, np.array(score), generator=np.random.default_rng(0))
    assert found == pytest.approx(exact_p(positive, np.array(score)), abs=0.01)


def test_without_a_signal_p_is_uniform() -> None:
    generator = np.random.default_rng(1)
    positive = np.arange(40) % 3 == 0
    found = [
        permutation_p(positive, generator.normal(size=40), generator=generator, permutations=199)
        for _ in range(300)
    ]
    assert np.mean(np.array(found) <= 0.1) == pytest.approx(0.1, abs=0.05)
    assert np.mean(found) == pytest.approx(0.5, abs=0.06)


def test_the_smallest_p_is_one_over_the_permutations() -> None:
    positive = np.arange(100) < 50
    score = -np.arange(100.0)
    p = permutation_p(positive, score, generator=np.random.default_rng(0), permutations=999)
    assert p == pytest.approx(1 / 1000)


def test_the_same_seed_gives_the_same_p() -> None:
    positive, score = np.arange(20) % 2 == 0, np.sin(np.arange(20.0))
    one, two = (
        permutation_p(positive, score, generator=np.random.default_rng(5)) for _ in range(2)
    )
    assert one == two


@pytest.mark.parametrize("at_once", [1, 130, 1000, 10**9])
def test_batches_change_no_bit_of_p(at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    generator = np.random.default_rng(3)
    positive, score = np.arange(60) % 3 == 0, generator.normal(size=60).round(1)
    before = stats.mannwhitneyu(
        score[positive],
        score[~positive],
        alternative="greater",
        method=stats.PermutationMethod(n_resamples=500, rng=np.random.default_rng(5)),
    ).pvalue
    monkeypatch.setattr(chance, "AT_ONCE", at_once)
    after = permutation_p(positive, score, generator=np.random.default_rng(5), permutations=500)
    assert after == before
    assert 0.01 < after < 0.99


def test_the_memory_does_not_grow_with_the_permutations(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chance, "AT_ONCE", 20_000)
    positive, score = np.arange(200) % 2 == 0, np.sin(np.arange(200.0))
    tracemalloc.start()
    permutation_p(positive, score, generator=np.random.default_rng(0), permutations=2000)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < 150 * 20_000  # all at once would be 20 times as much


@given(st.lists(st.floats(0.0, 1.0), min_size=1, max_size=20))
def test_holm_is_the_rule_of_1979(p_values: list[float]) -> None:
    corrected = holm(p_values)
    for p, its in zip(p_values, corrected, strict=True):
        # The largest, over all that are no larger, of p times the number still in the race.
        order = sorted(p_values)
        steps = [(len(order) - rank) * other for rank, other in enumerate(order) if other <= p]
        assert its == pytest.approx(min(1.0, max(steps)))
