"""Views are drawn once, belong to the patient, and strength 0 is the identity."""

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from spaces.sections import AugmentationSection, DropoutSection
from trainable.augment import augment, draw_views

SECTION = AugmentationSection(dropout=DropoutSection(rate=0.3, patch=4, fill=7))
IMAGES = torch.from_numpy(
    np.random.default_rng(0).integers(0, 256, size=(3, 3, 32, 32), dtype=np.uint8)
)
DRAWN = draw_views(["a", "b", "c"], SECTION)


def test_strength_0_is_the_identity():
    assert torch.equal(augment(IMAGES, DRAWN[:, 0], 0.0, SECTION), IMAGES.to(torch.float32))


def test_strength_changes_the_image_and_views_differ():
    one, two = (augment(IMAGES, DRAWN[:, view], 1.0, SECTION) for view in (0, 1))
    assert (one - IMAGES).abs().mean() > 5
    assert (one - two).abs().mean() > 5


@settings(max_examples=20)
@given(st.permutations(["a", "b", "c", "d"]))
def test_a_draw_belongs_to_the_patient_whatever_the_order(ids):
    drawn = draw_views(ids, SECTION)
    assert np.array_equal(drawn[ids.index("c")], DRAWN[2])


def test_a_patient_is_augmented_alike_in_every_batch():
    together = augment(IMAGES, DRAWN[:, 0], 0.5, SECTION)
    alone = augment(IMAGES[1:2], DRAWN[1:2, 0], 0.5, SECTION)
    assert torch.equal(together[1:2], alone)


def test_rotation_turns_by_the_drawn_angle():
    section = AugmentationSection(rotation=90.0, rescaling=0.0)
    image = torch.zeros(1, 1, 33, 33)
    image[0, 0, :10] = 1.0  # a bar at the top
    turned = augment(image, np.array([[1.0, 0.0, 0.0]]), 1.0, section)
    assert turned[0, 0, :, :9].mean() > 0.95 or turned[0, 0, :, -9:].mean() > 0.95
    assert turned[0, 0, 12:20, 12:20].mean() < 0.05


def test_rescaling_by_a_positive_draw_enlarges():
    section = AugmentationSection(rotation=0.0, rescaling=0.5)
    image = torch.zeros(1, 1, 33, 33)
    image[0, 0, 12:21, 12:21] = 1.0
    larger = augment(image, np.array([[0.0, 1.0, 0.0]]), 1.0, section)
    assert 1.8 * image.sum() < larger.sum() < 2.7 * image.sum()


def test_dropout_blanks_the_expected_share_of_patches():
    section = AugmentationSection(
        rotation=0.0, rescaling=0.0, dropout=DropoutSection(rate=0.4, patch=4, fill=7)
    )
    many = torch.full((200, 1, 32, 32), 100.0)
    drawn = draw_views([str(number) for number in range(200)], section)[:, 0]
    dropped = augment(many, drawn, 0.5, section) == 7
    assert abs(dropped.float().mean().item() - 0.2) < 0.02


def test_the_global_random_state_is_left_alone():
    torch.manual_seed(0)
    np.random.seed(0)  # noqa: NPY002
    before = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    augment(IMAGES, draw_views(["a", "b", "c"], SECTION)[:, 0], 1.0, SECTION)
    assert torch.equal(before[0], torch.get_rng_state())
    assert np.array_equal(before[1], np.random.get_state()[1])  # noqa: NPY002
