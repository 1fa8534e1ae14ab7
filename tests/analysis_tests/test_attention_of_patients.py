"""Whom attention is shown of, and what it means by segment."""

import numpy as np
import pytest

from analysis.judge.attention import CLASSES, SIDE, choose_shown, segment_means
from cohort.drawing.polar_map import canvas


def test_the_most_confident_of_each_class_that_is_said() -> None:
    negative, positive = choose_shown(np.array([0.2, 0.95, 0.05, 0.6]))
    assert (negative.row, negative.called, negative.confidence) == (2, "negative", 0.95)
    assert (positive.row, positive.called) == (1, "positive")


def test_a_class_that_is_never_said_is_not_shown() -> None:
    assert [one.called for one in choose_shown(np.array([0.6, 0.9]))] == [CLASSES[1]]


def test_segment_means_are_those_of_the_pixels() -> None:
    field = np.random.default_rng(0).normal(size=(2, SIDE, SIDE))
    means = segment_means(field)
    for number in range(17):
        inside = canvas(SIDE).segment == number
        assert means[:, number] == pytest.approx(field[:, inside].mean(axis=1), abs=1e-6)


def test_a_bright_anterior_wall_stands_in_the_anterior_segments() -> None:
    """Segments 1, 7 and 13 are anterior; the first rows of a map are up."""
    coarse = np.zeros((1, 7, 7))
    coarse[0, 0, 3] = 1.0
    assert int(segment_means(coarse)[0].argmax()) + 1 == 1
    coarse = np.zeros((1, 7, 7))
    coarse[0, 3, 3] = 1.0
    assert int(segment_means(coarse)[0].argmax()) + 1 == 17
