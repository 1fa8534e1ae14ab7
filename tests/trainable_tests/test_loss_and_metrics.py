"""The loss obeys lambda and masks what is missing; the AUC is scikit-learn's."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score
from sklearn.utils.class_weight import compute_class_weight

from trainable.loss import (
    Scale,
    balanced_weights,
    cross_entropy,
    multi_task_loss,
    squared_error,
)
from trainable.metrics import auc

OUTPUTS = torch.from_numpy(np.random.default_rng(0).normal(size=(8, 19)).astype(np.float32))
TARGET = torch.tensor([0.0, 1, 0, 1, 1, 0, float("nan"), 1])
SEGMENTS = torch.from_numpy(np.random.default_rng(1).normal(size=(8, 17)).astype(np.float32))


def test_total_is_the_papers_weighted_sum():
    total, classification, regression = multi_task_loss(OUTPUTS, TARGET, SEGMENTS, 0.3)
    assert total.item() == pytest.approx(0.3 * classification.item() + 0.7 * regression.item())


def test_lambda_1_ignores_the_segments_even_when_they_are_nonsense():
    nonsense = torch.full_like(SEGMENTS, 1e30)
    with_sense = multi_task_loss(OUTPUTS, TARGET, SEGMENTS, 1.0)[0]
    assert torch.equal(with_sense, multi_task_loss(OUTPUTS, TARGET, nonsense, 1.0)[0])


def test_lambda_0_ignores_the_labels():
    flipped = multi_task_loss(OUTPUTS, 1 - TARGET, SEGMENTS, 0.0)[0]
    assert torch.equal(flipped, multi_task_loss(OUTPUTS, TARGET, SEGMENTS, 0.0)[0])


def test_missing_labels_and_segments_do_not_enter():
    kept = ~torch.isnan(TARGET)
    assert torch.equal(cross_entropy(OUTPUTS, TARGET), cross_entropy(OUTPUTS[kept], TARGET[kept]))
    holed = SEGMENTS.clone()
    holed[0] = float("nan")
    expected = (OUTPUTS[1:, :17] - SEGMENTS[1:]).square().mean()
    torch.testing.assert_close(squared_error(OUTPUTS, holed), expected)


def test_balanced_weights_are_scikit_learns_and_leave_out_unknown_labels():
    known = TARGET[~torch.isnan(TARGET)].numpy()
    expected = compute_class_weight("balanced", classes=np.array([0.0, 1.0]), y=known)
    assert balanced_weights(TARGET.numpy()) == pytest.approx(expected)
    assert np.isfinite(balanced_weights(np.zeros(5))).all()


def test_weights_multiply_each_patients_term_and_enter_the_total():
    weights = torch.tensor([0.5, 3.0])
    found = cross_entropy(OUTPUTS, TARGET, weights)
    terms = [
        (1.0 if label == 0 else 6.0) * cross_entropy(OUTPUTS[i : i + 1], TARGET[i : i + 1])
        for i, label in enumerate(TARGET)
        if not torch.isnan(label)
    ]
    torch.testing.assert_close(found, torch.stack(terms).mean() / 2)
    total, classification, regression = multi_task_loss(OUTPUTS, TARGET, SEGMENTS, 0.3, weights)
    assert classification == found
    assert total.item() == pytest.approx(0.3 * found.item() + 0.7 * regression.item())
    assert cross_entropy(OUTPUTS, TARGET, torch.ones(2)) == cross_entropy(OUTPUTS, TARGET)


@pytest.mark.parametrize("lambda_", [0.0, 0.5, 1.0])
def test_a_batch_without_any_label_teaches_nothing_and_breaks_nothing(lambda_):
    outputs = OUTPUTS.clone().requires_grad_()
    nothing = torch.full((8,), float("nan"))
    total, *_ = multi_task_loss(outputs, nothing, torch.full((8, 17), float("nan")), lambda_)
    total.backward()
    assert total.item() == 0
    assert not outputs.grad.any()


def test_a_segment_that_nobody_has_keeps_the_scale_finite():
    values = np.random.default_rng(2).normal(2.4, 0.6, size=(40, 17))
    values[:, 5] = np.nan
    values[:, 6] = 1.5
    scale = Scale.of(values)
    assert np.isfinite(scale.mean).all()
    assert scale.deviation[5] == scale.deviation[6] == 1
    assert scale.mean[6] == pytest.approx(1.5)


def test_the_scale_is_measured_on_known_values_and_inverts():
    values = np.random.default_rng(2).normal(2.4, 0.6, size=(40, 17))
    values[3, 4] = np.nan
    scale = Scale.of(values)
    standardised = scale.standardise(values)
    assert np.nanmean(standardised, axis=0) == pytest.approx(np.zeros(17), abs=1e-12)
    assert np.nanstd(standardised, axis=0) == pytest.approx(np.ones(17))
    np.testing.assert_allclose(scale.restore(standardised), values)


@settings(max_examples=200)
@given(
    st.lists(st.tuples(st.booleans(), st.integers(-3, 3)), min_size=2, max_size=30).filter(
        lambda rows: len({positive for positive, _ in rows}) == 2
    )
)
def test_auc_is_scikit_learns_with_ties(rows):
    positive = np.array([float(row[0]) for row in rows])
    score = np.array([float(row[1]) for row in rows])
    assert auc(positive, score) == pytest.approx(roc_auc_score(positive, score), abs=1e-12)


def test_auc_leaves_out_missing_labels_and_is_undefined_for_one_class():
    score = np.array([0.1, 0.9, 0.5])
    assert auc(np.array([0, 1, np.nan]), score) == 1.0
    assert np.isnan(auc(np.array([1, 1, np.nan]), score))
    assert np.isnan(auc(np.array([0, 1, 1]), np.array([0.1, np.nan, 0.2])))
