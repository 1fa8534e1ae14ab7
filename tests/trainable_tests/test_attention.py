"""Attention against what can be computed by hand, on networks whose answer is known."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from captum.attr import LayerGradCam
from torch import nn

from spaces.sections import NetworkSection
from trainable.attention import GradCam, cover, draw_heads, grad_cam, occlude
from trainable.model import Model
from trainable.network import PolarNetwork, build_network, prepare, with_weights

SIZE = 32


class Corner(nn.Module):
    """An encoder whose only feature is the brightness of one corner."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(3, 1, 1, bias=False)
        nn.init.constant_(self.convolution.weight, 1.0)
        self.pool = nn.AdaptiveAvgPool2d(1)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        mask = torch.zeros_like(image[:, :1])
        mask[..., :8, :8] = 1.0
        return torch.flatten(self.pool(self.convolution(image) * mask), 1)


def model_of(network: PolarNetwork, **info: object) -> Model:
    described = {"backbone": "resnet18", "image_size": SIZE, "stack": "late", **info}
    return Model(network.eval(), described, "cpu")


def corner_model(sign: float = 1.0, maps: int = 1) -> Model:
    network = PolarNetwork(Corner(), 1, maps, "fc")
    with torch.no_grad():
        network.classifier.weight.zero_()
        network.classifier.weight[18, 0] = sign  # the first map alone is looked at
    return model_of(network)


def real_model(maps: int = 1, stack: str = "late") -> Model:
    section = NetworkSection(backbone="resnet18", weights="random", image_size=SIZE)
    network = build_network(
        section, maps=maps, stack=stack, folder=None, generator=torch.Generator().manual_seed(0)
    )
    return model_of(network, stack=stack)


def noise(maps: int, seed: int) -> list[np.ndarray]:
    """Return images of which the encoder leaves 3 x 3 cells, not one."""
    generator, size = np.random.default_rng(seed), 3 * SIZE
    return [generator.integers(0, 256, (3, 3, size, size), dtype=np.uint8) for _ in range(maps)]


@pytest.fixture
def bright() -> np.ndarray:
    return np.full((3, 3, SIZE, SIZE), 200, dtype=np.uint8)


BLACK = np.zeros((3, SIZE, SIZE), dtype=np.uint8)


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_occlusion_finds_the_corner_and_its_sign(bright, sign) -> None:
    found = occlude(corner_model(sign), [bright], [BLACK])
    assert found.shape == (3, 1, SIZE, SIZE)
    assert (np.sign(found[..., :6, :6]) == sign).all()
    assert (found[..., 12:, :] == 0).all()
    assert (found[..., :, 12:] == 0).all()


def test_covering_with_what_is_there_changes_nothing(bright) -> None:
    assert (occlude(corner_model(), [bright], [bright[0]]) == 0).all()


def test_occlusion_is_the_fall_of_the_answer(bright) -> None:
    """Where one square alone covers a pixel, the value is f(image) - f(covered)."""
    model = real_model()
    found = occlude(model, [bright], [BLACK])
    covered = bright.copy()
    covered[..., :4, :4] = 0
    with torch.no_grad():
        whole, without = (
            model.network(prepare(torch.from_numpy(pixels), "resnet18"))
            for pixels in (bright, covered)
        )
    fall = (whole[:, 18] - whole[:, 17]) - (without[:, 18] - without[:, 17])
    assert found[:, 0, 0, 0] == pytest.approx(fall.numpy(), rel=1e-3, abs=1e-5)


@pytest.mark.parametrize(("maps", "stack"), [(1, "late"), (2, "late"), (2, "early")])
def test_covering_a_part_is_the_fall_of_the_answer_without_it(maps: int, stack: str) -> None:
    """Of one map the part shows the fill; the network sees the others as they are."""
    model, images = real_model(maps, stack), noise(maps, seed=0)
    fill = [pixels[0] for pixels in noise(maps, seed=1)]
    covers = np.zeros((2, 3 * SIZE, 3 * SIZE), dtype=np.float32)
    covers[0, :40, :40], covers[1, 50:, 30:] = 1, 0.5
    found = cover(model, images, fill, covers)
    assert found.shape == (3, 1 if stack == "early" else maps, 2)
    for column, part in np.ndindex(found.shape[1:]):
        changed: list[np.ndarray] = list(images)
        for at in range(maps) if stack == "early" else [column]:
            its = covers[part]
            changed[at] = changed[at] * (1 - its) + fill[at] * its
        expected = answer_of(model, images) - answer_of(model, changed)
        assert found[:, column, part] == pytest.approx(expected, rel=1e-3, abs=1e-5)
    assert np.abs(found).min() > 1e-4


def answer_of(model: Model, images: list[np.ndarray]) -> np.ndarray:
    """The difference of the logits that the whole network gives."""
    with torch.no_grad():
        maps = [prepare(torch.from_numpy(pixels), "resnet18") for pixels in images]
        columns = [torch.cat(maps, dim=1)] if model.info["stack"] == "early" else maps
        outputs = model.network(*columns)
    return (outputs[:, 18] - outputs[:, 17]).numpy()


@pytest.mark.parametrize(("maps", "stack"), [(1, "late"), (2, "late"), (2, "early")])
def test_grad_cam_is_captums(maps: int, stack: str) -> None:
    """Captum takes the gradient of the whole network's answer, by a backward pass."""
    model, images = real_model(maps, stack), noise(maps, seed=0)
    found = grad_cam(model, images)
    pixels = [prepare(torch.from_numpy(one), "resnet18") for one in images]
    columns = [torch.cat(pixels, dim=1)] if stack == "early" else pixels
    for at, column in enumerate(columns):
        explain = LayerGradCam(only(model, columns, at), model.network.encoder.avgpool)
        expected = explain.attribute(column.requires_grad_(), attribute_to_layer_input=True)
        assert found[:, at] == pytest.approx(expected.detach().numpy()[:, 0], abs=1e-6)
        assert found.shape[-2:] == (3, 3)


def only(model: Model, columns: list[torch.Tensor], at: int) -> Callable[..., torch.Tensor]:
    """The network's answer as a function of one map, the others' features computed before."""
    with torch.no_grad():
        others = [model.network.encoder(column) for column in columns]

    def answer(image: torch.Tensor) -> torch.Tensor:
        features = [*others[:at], model.network.encoder(image), *others[at + 1 :]]
        outputs = model.network.classifier(torch.cat(features, dim=1))
        return outputs[:, 18] - outputs[:, 17]

    return answer


def test_each_map_has_its_own_attention(bright) -> None:
    """The first map alone is looked at; with early stacking all share one."""
    found = occlude(corner_model(maps=2), [bright, bright], [BLACK, BLACK])
    assert found.shape[1] == 2
    assert found[:, 0].any()
    assert not found[:, 1].any()
    assert grad_cam(real_model(maps=2), [bright, bright]).shape[1] == 2
    assert grad_cam(real_model(maps=2, stack="early"), [bright, bright]).shape[1] == 1


@pytest.mark.parametrize(("maps", "stack"), [(1, "late"), (2, "late"), (2, "early")])
def test_a_heads_attention_is_that_of_a_network_with_its_weights(maps: int, stack: str) -> None:
    """The trunk's outputs are shared; a network built with the weights computes everything."""
    model, images = real_model(maps, stack), noise(maps, seed=1)
    heads = draw_heads(model, 2, torch.Generator().manual_seed(1))
    own, *others = GradCam(model, heads)(images)
    assert (own == grad_cam(model, images)).all()
    for head, found in zip(heads, others, strict=True):
        weights = {
            "encoder.layer4.1.conv2.weight": head.convolution,
            "classifier.weight": head.classifier,
        }
        built = model_of(with_weights(model.network, weights), stack=stack)
        assert found == pytest.approx(grad_cam(built, images), abs=1e-6)
        assert not np.allclose(found, own, atol=1e-3)
    assert not np.allclose(others[0], others[1], atol=1e-3)


def test_drawing_heads_changes_neither_the_model_nor_the_global_generator() -> None:
    model = real_model()
    before = {name: value.clone() for name, value in model.network.state_dict().items()}
    state = torch.get_rng_state()
    [head] = draw_heads(model, 1, torch.Generator().manual_seed(1))
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(v, before[n]) for n, v in model.network.state_dict().items())
    trained = before["encoder.layer4.1.conv2.weight"]
    assert float(head.convolution.std()) == pytest.approx(float(trained.std()), rel=0.01)
    assert float(head.classifier.abs().max()) <= head.classifier.shape[1] ** -0.5
