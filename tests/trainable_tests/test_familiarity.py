"""Distances against their formula, false alarms at their rate, foreign features seen."""

import numpy as np
import pytest

from spaces.errors import RefusedError
from trainable.familiarity import FILE, Familiarity


def draw(patients: int, seed: int, shift: float = 0.0) -> np.ndarray:
    """Features with three strong directions among twenty."""
    generator = np.random.default_rng(seed)
    strong = generator.normal(size=(patients, 3)) * [5.0, 3.0, 2.0]
    mixing = np.linalg.qr(np.random.default_rng(9).normal(size=(20, 20)))[0]
    features = np.concatenate([strong, generator.normal(scale=0.5, size=(patients, 17))], axis=1)
    return features @ mixing + shift


@pytest.fixture(scope="module")
def known() -> Familiarity:
    return Familiarity.fit(draw(400, 0), np.arange(400) % 5)


def test_the_distance_is_that_of_mahalanobis_under_the_fitted_covariance(known) -> None:
    new = draw(30, 1)
    rest = np.eye(20) - known.components.T @ known.components
    covariance = known.components.T * known.variances @ known.components + known.rest * rest
    centred = new - known.mean
    expected = np.sqrt(np.einsum("ij,jk,ik->i", centred, np.linalg.inv(covariance), centred))
    assert known.distance(new) * known.limit == pytest.approx(expected)


def test_one_in_a_hundred_new_patients_of_the_same_kind_is_unfamiliar() -> None:
    shares = [
        np.mean(Familiarity.fit(draw(400, seed), np.arange(400) % 5).distance(draw(2000, 99)) > 1)
        for seed in range(10, 20)
    ]
    assert 0.004 < np.mean(shares) < 0.02


def test_the_limit_comes_from_patients_that_the_fit_had_not_seen() -> None:
    """With fewer patients than directions, those that were fitted all look familiar."""
    few = draw(40, 2)
    known = Familiarity.fit(few, np.arange(40) % 5)
    assert np.quantile(known.distance(few), 0.99) < 0.95


def test_what_is_foreign_is_unfamiliar(known) -> None:
    assert (known.distance(draw(50, 3, shift=3.0)) > 1).all()


def test_it_reads_back_to_the_last_bit(known, tmp_path) -> None:
    known.save(tmp_path)
    new = draw(10, 4)
    assert np.array_equal(Familiarity.load(tmp_path).distance(new), known.distance(new))


def test_a_model_without_it_has_none_and_a_damaged_file_is_refused(known, tmp_path) -> None:
    assert Familiarity.load(tmp_path) is None
    known.save(tmp_path)
    (tmp_path / FILE).write_bytes((tmp_path / FILE).read_bytes()[:50])
    with pytest.raises(RefusedError, match=r"the file is damaged\. Retrain the model"):
        Familiarity.load(tmp_path)
