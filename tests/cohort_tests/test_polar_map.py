"""The 17 segments lie where clinics show them, and a colour tells the value it stands for."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import spearmanr

from cohort.drawing.polar_map import DISC, HIGHEST, SMALLEST, canvas, colour_table, draw_segments

LUMA = np.array([0.299, 0.587, 0.114])
# Segment by place: the angle (degrees from the right, counter-clockwise) of each wall's middle.
BASAL = {1: 90, 2: 150, 3: 210, 4: 270, 5: 330, 6: 30}
APICAL = {13: 90, 14: 180, 15: 270, 16: 0}
PLACES = (
    [(number, 0.9, angle) for number, angle in BASAL.items()]
    + [(number + 6, 0.6, angle) for number, angle in BASAL.items()]
    + [(number, 0.4, angle) for number, angle in APICAL.items()]
    + [(17, 0.1, angle) for angle in (0, 90, 180, 270)]
)


@pytest.mark.parametrize(("number", "radius", "angle"), PLACES)
@pytest.mark.parametrize("size", [32, 228])
def test_segments_lie_where_cerqueira_put_them(number, radius, angle, size):
    middle, reach = (size - 1) / 2, DISC * size * radius
    column = round(middle + reach * np.cos(np.radians(angle)))
    row = round(middle - reach * np.sin(np.radians(angle)))
    assert canvas(size).segment[row, column] + 1 == number


@given(st.integers(SMALLEST, 80))
def test_every_segment_has_pixels_at_every_size(size):
    disc = canvas(size)
    assert set(np.unique(disc.segment)) == set(range(-1, 17))
    assert np.array_equal(
        disc.segment.ravel()[disc.position], np.sort(disc.segment[disc.segment >= 0])
    )


def test_areas_follow_the_rings():
    areas = np.bincount(canvas(456).segment[canvas(456).segment >= 0]) / len(canvas(456).position)
    expected = [7 / 16 / 6] * 6 + [5 / 16 / 6] * 6 + [3 / 16 / 4] * 4 + [1 / 16]
    assert np.allclose(areas, expected, atol=0.002)


def test_a_size_too_small_for_17_segments_is_refused():
    with pytest.raises(ValueError, match=f"at least {SMALLEST} pixels"):
        canvas(SMALLEST - 1)


def test_segment_means_equal_a_plain_loop():
    disc = canvas(40)
    field = np.random.default_rng(1).random((3, len(disc.position)))
    images = np.zeros((3, 40 * 40))
    images[:, disc.position] = field
    means = [[image[disc.segment.ravel() == k].mean() for k in range(17)] for image in images]
    assert np.allclose(disc.segment_means(field), means)


def test_blur_leaves_an_even_map_even_up_to_the_rim():
    field = np.full((1, 17), 0.7, np.float32) @ canvas(64).blur
    assert np.allclose(field, 0.7, atol=1e-5)


def test_blur_spreads_a_segment_by_a_twelfth_of_the_radius():
    disc = canvas(228)
    # Across the straight border between segments 6 and 5 (angle 0) the edge is a normal CDF.
    values = np.isin(np.arange(1, 18), (1, 6, 7, 12)).astype(np.float32)
    height = disc.radius * np.sin(np.radians((disc.angle + 180) % 360 - 180))
    right = (disc.angle < 20) | (disc.angle > 340)
    at = right & (np.abs(height - 1 / 12) < 0.01) & (disc.radius > 0.8) & (disc.radius < 0.95)
    assert (values @ disc.blur)[at].mean() == pytest.approx(0.841, abs=0.03)


def test_luma_rises_in_equal_steps_through_256_different_colours():
    table = colour_table().astype(np.float64)
    luma = table @ LUMA
    assert len(np.unique(table, axis=0)) == 256
    assert (np.diff(luma) > 0).all()
    assert np.abs(luma - np.linspace(luma[0], luma[-1], 256)).max() < 0.6


def test_hue_turns_from_blue_through_red_to_yellow():
    table = colour_table().astype(int)
    red, green, blue = table[60], table[140], table[210]
    assert table[30].argmax() == 2
    assert red[2] > red[1]
    assert green.argmax() == 0
    assert blue[1] > blue[2]
    assert spearmanr(np.arange(256), table[:, 1]).statistic > 0.98


@pytest.mark.parametrize("name", HIGHEST)
def test_the_value_can_be_read_back_from_the_pixel(name):
    highest = HIGHEST[name]
    values = np.linspace(0.05, 0.95, 9) * highest
    maps = draw_segments(np.repeat(values[:, None], 17, axis=1), 32, highest)
    luma = colour_table().astype(np.float64) @ LUMA
    read = (maps[:, 16, 16] @ LUMA - luma[0]) / (luma[-1] - luma[0]) * highest
    assert np.allclose(read, values, atol=highest / 200)


def test_equal_flow_has_equal_colour_in_every_patient():
    segments = np.full((2, 17), 1.0)
    segments[1, :6] = 3.9  # another patient's bright base must not dim the apex
    first, second = draw_segments(segments, 64, 4.0)
    assert np.array_equal(first[32, 32], second[32, 32])
    assert not np.array_equal(first[5, 32], second[5, 32])


def test_outside_is_black_and_values_beyond_the_range_take_its_ends():
    maps = draw_segments(np.array([[-3.0] * 17, [99.0] * 17]), 48, 4.0)
    outside = canvas(48).segment < 0
    assert maps.dtype == np.uint8
    assert maps.shape == (2, 48, 48, 3)
    assert (maps[:, outside] == 0).all()
    assert (maps[0][~outside] == colour_table()[0]).all()
    assert (maps[1][~outside] == colour_table()[-1]).all()


def test_cached_arrays_cannot_be_changed():
    with pytest.raises(ValueError, match="read-only"):
        canvas(32).segment[0, 0] = 5
    with pytest.raises(ValueError, match="read-only"):
        colour_table()[0] = 0
