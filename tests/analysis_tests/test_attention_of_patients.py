"""Whom attention is shown of, and what it means by segment."""

import numpy as np
import pytest
from scipy.stats import spearmanr

from analysis.judge.attention import (
    CLASSES,
    COVERED,
    SIDE,
    choose_shown,
    draw_covered,
    fading_segments,
    measure_likeness,
    segment_means,
)
from cohort.drawing.polar_map import canvas


def test_the_most_confident_of_each_class_that_is_said() -> None:
    negative, positive = choose_shown(np.array([0.2, 0.95, 0.05, 0.6]))
    assert (negative.row, negative.called, negative.confidence) == (2, "negative", 0.95)
    assert (positive.row, positive.called) == (1, "positive")


def test_a_class_that_is_never_said_is_not_shown() -> None:
    assert [one.called for one in choose_shown(np.array([0.6, 0.9]))] == [CLASSES[1]]


@pytest.mark.parametrize(
    ("negatives", "positives", "expected"), [(30, 6, (8, 6)), (9, 4, (8, 0)), (0, 5, (0, 5))]
)
def test_segments_are_covered_in_a_few_of_each_class_that_is_said_often_enough(
    negatives: int, positives: int, expected: tuple[int, int]
) -> None:
    log_odds = np.repeat([-1.0, 0.0], [negatives, positives])
    np.random.default_rng(5).shuffle(log_odds)
    rows = draw_covered(log_odds, np.random.default_rng(3))
    assert COVERED == 8
    assert ((log_odds[rows] < 0).sum(), (log_odds[rows] >= 0).sum()) == expected
    assert len(set(rows)) == len(rows)
    assert (rows == draw_covered(log_odds, np.random.default_rng(3))).all()
    if negatives > COVERED:
        others = (draw_covered(log_odds, np.random.default_rng(seed)) for seed in range(9))
        assert any(list(its) != list(rows) for its in others)


def test_segment_means_are_those_of_the_pixels() -> None:
    field = np.random.default_rng(0).normal(size=(2, SIDE, SIDE))
    means = segment_means(field)
    for number in range(17):
        inside = canvas(SIDE).segment == number
        assert means[:, number] == pytest.approx(field[:, inside].mean(axis=1), abs=1e-6)


def test_covers_of_segments_fade_into_each_other_and_leave_the_rest_alone() -> None:
    shares, segment = fading_segments(64), canvas(64).segment
    assert (shares.min(), shares.dtype, shares.shape) == (0, np.float32, (17, 64, 64))
    assert shares.sum(axis=0) == pytest.approx((segment >= 0).astype(float), abs=1e-5)
    for number in range(17):
        assert shares[number][segment == number].mean() > 0.5
    assert 0.2 < shares.max(axis=0)[segment >= 0].min() < 0.6


def test_a_bright_anterior_wall_stands_in_the_anterior_segments() -> None:
    """Segments 1, 7 and 13 are anterior; the first rows of a map are up."""
    coarse = np.zeros((1, 7, 7))
    coarse[0, 0, 3] = 1.0
    assert int(segment_means(coarse)[0].argmax()) + 1 == 1
    coarse = np.zeros((1, 7, 7))
    coarse[0, 3, 3] = 1.0
    assert int(segment_means(coarse)[0].argmax()) + 1 == 17


def test_likeness_is_spearmans_in_the_disc_whatever_its_sign() -> None:
    generator = np.random.default_rng(0)
    fields, others = generator.normal(size=(4, 2, 7, 7)), generator.normal(size=(3, 4, 2, 7, 7))
    found = measure_likeness(fields, others)
    away = np.arange(7) - 3
    inside = np.hypot(away[:, None], away) <= 0.48 * 7  # the disc's radius is .48 of the edge
    for head in range(3):
        for patient in range(4):
            of_head = others[head, patient][:, inside].ravel()
            expected = spearmanr(fields[patient][:, inside].ravel(), of_head).statistic
            assert found[head, patient] == pytest.approx(abs(expected))
    corners = others.copy()
    corners[..., :1, :1] = 99.0
    assert (measure_likeness(fields, corners) == found).all()
    assert measure_likeness(fields, -(fields[None] ** 3)) == pytest.approx(1)


def test_an_attention_that_is_the_same_everywhere_shows_nothing_that_was_learnt() -> None:
    """Maps of 32 pixels leave one cell, which has no ranks."""
    random = np.random.default_rng(0).normal(size=(2, 5, 1, 1, 1))
    assert (measure_likeness(random[0], random) == 1).all()
