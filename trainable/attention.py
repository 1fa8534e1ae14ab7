"""Where in its maps a trained network finds its answer: Grad-CAM and occlusion, both signed.

The explained output is the logit of the positive class minus that of the negative class: what is
above zero speaks for the positive class, what is below against it.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn

from trainable.loss import LOGITS
from trainable.model import Model
from trainable.network import draw_linear, prepare

PATCH = 30 / 224
"""Edge of the occluding square as a share of the image's: 30 of 224 pixels, as in the paper."""
BATCH = 16


@torch.no_grad()
def grad_cam(model: Model, maps: Sequence[np.ndarray]) -> np.ndarray:
    """Return Grad-CAM on what is pooled before the classifier, without its usual cut at zero.

    Selvaraju et al. 2017, doi:10.1109/ICCV.2017.74. Behind global pooling and a linear classifier
    the gradient is the classifier's weight divided by the pixels, so no backward pass is needed.
    With several maps each passes the encoder, and the difference of logits is linear in their
    features, so each map has an attention of its own.

    Args:
        model: the trained network.
        maps: uint8 (n, 3, size, size), one array for each input, in order.

    Returns:
        float32 (n, columns, h, w) with one column a map (one for all with early stacking) and h x w
        the resolution of the last feature maps, 7 x 7 for 224 pixels; in logits.
    """
    pooling = _pooling(model.network.encoder)
    seen: list[Tensor] = []
    hook = pooling.register_forward_hook(lambda _, inputs, __: seen.append(inputs[0]))
    found = []
    try:
        for at, column in enumerate(_columns(model, maps)):
            share = _share(model, at)
            parts = []
            for images in torch.split(column, BATCH):
                model.network.encoder(prepare(images, model.info["backbone"]))
                pooled = seen.pop()
                pixels = pooled.shape[-1] * pooled.shape[-2]
                parts.append(torch.einsum("nchw,c->nhw", pooled, share) / pixels)
            found.append(torch.cat(parts))
    finally:
        hook.remove()
    return torch.stack(found, dim=1).to("cpu", torch.float32).numpy()


@torch.no_grad()
def occlude(model: Model, maps: Sequence[np.ndarray], fill: Sequence[np.ndarray]) -> np.ndarray:
    """Return by how much the answer falls when a square is covered, averaged over the squares.

    Squares of 30/224 of the image's edge move by half their edge. Zeiler and Fergus 2014,
    doi:10.1007/978-3-319-10590-1_53.

    Args:
        model: the trained network.
        maps: uint8 (n, 3, size, size), one array for each input, in order.
        fill: what the square shows, uint8 (3, size, size), one picture for each input.

    Returns:
        float32 (n, columns, size, size), in logits; above zero where what was covered speaks for
        the positive class.
    """
    from captum.attr import Occlusion  # takes a second, and `check` counts the squares only

    backbone, size = model.info["backbone"], int(model.info["image_size"])
    edge, stride = _square(size)
    found = []
    fills = _columns(model, [picture[None] for picture in fill])
    for at, (column, picture) in enumerate(zip(_columns(model, maps), fills, strict=True)):
        prepared, covering = prepare(column, backbone), prepare(picture, backbone)
        attribution = Occlusion(_answer(model, at)).attribute(
            prepared,
            sliding_window_shapes=(prepared.shape[1], edge, edge),
            strides=(prepared.shape[1], stride, stride),
            baselines=covering.expand_as(prepared),
            perturbations_per_eval=max(1, BATCH // len(prepared)),
        )
        # Captum writes the same value into every channel that was covered together.
        found.append(attribution.mean(dim=1))
    return torch.stack(found, dim=1).to("cpu", torch.float32).numpy()


def squares(size: int) -> int:
    """Return how many places the occluding square takes on a map of so many pixels a side."""
    edge, stride = _square(size)
    return (1 + math.ceil(max(0, size - edge) / stride)) ** 2


def _square(size: int) -> tuple[int, int]:
    """Return the edge of the occluding square, and by how much it moves."""
    edge = max(2, round(PATCH * size))
    return edge, max(1, edge // 2)


def with_random_head(model: Model, generator: torch.Generator) -> Model:
    """Return the model with its last convolution and classifier drawn anew.

    An attention that looks the same for this network does not show what was learnt (Adebayo et al.
    2018, arXiv:1810.03292).
    """
    network = copy.deepcopy(model.network)
    draw_linear(network.classifier, generator)
    last = [layer for layer in network.encoder.modules() if isinstance(layer, nn.Conv2d)][-1]
    with torch.no_grad():
        spread = float(last.weight.std())
        drawn = torch.randn(last.weight.shape, generator=generator) * spread
        last.weight.copy_(drawn.to(last.weight.device))
    return replace(model, network=network)


def _columns(model: Model, maps: Sequence[np.ndarray]) -> list[Tensor]:
    """Return what passes the encoder: each map, or all of them as channels."""
    pixels = [torch.from_numpy(images).to(model.device) for images in maps]
    return [torch.cat(pixels, dim=1)] if model.info["stack"] == "early" else pixels


def _answer(model: Model, column: int) -> Callable[[Tensor], Tensor]:
    """Return the share of one column in the difference of logits, (batch,)."""
    share = _share(model, column)

    def answer(images: Tensor) -> Tensor:
        features: Tensor = model.network.encoder(images)
        return features @ share

    return answer


def _share(model: Model, column: int) -> Tensor:
    """Return the weights of one column's features in the difference of logits."""
    negative, positive = range(*LOGITS.indices(model.network.classifier.out_features))
    weight = model.network.classifier.weight
    weight = weight[positive] - weight[negative]
    width = len(weight) // model.network.columns
    return weight[column * width : (column + 1) * width]


def _pooling(encoder: nn.Module) -> nn.Module:
    """Return the layer that pools the last feature maps to one pixel."""
    return [layer for layer in encoder.modules() if isinstance(layer, nn.AdaptiveAvgPool2d)][-1]
