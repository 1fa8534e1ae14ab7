"""Where in its maps a trained network finds its answer: Grad-CAM and occlusion, both signed.

The explained output is the logit of the positive class minus that of the negative class: what is
above zero speaks for the positive class, what is below against it.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call

from trainable.cut import cut_encoder
from trainable.loss import LOGITS
from trainable.model import Model
from trainable.network import draw_linear, prepare

PATCH = 30 / 224
"""Edge of the occluding square as a share of the image's: 30 of 224 pixels, as in the paper."""
BATCH = 16


@dataclass(frozen=True)
class RandomHead:
    """Weights that nobody trained, in the place of a network's last ones.

    An attention that looks the same with them does not show what was learnt (Adebayo et al. 2018,
    arXiv:1810.03292).

    Attributes:
        convolution: of the encoder's last convolution.
        classifier: of the classifier, (19, features); its bias has no part in attention.
    """

    convolution: Tensor
    classifier: Tensor


class GradCam:
    """Grad-CAM on what is pooled before the classifier, without its usual cut at zero.

    Selvaraju et al. 2017, doi:10.1109/ICCV.2017.74. Behind global pooling and a linear classifier
    the gradient is the classifier's weight divided by the pixels, so no backward pass is needed.
    With several maps each passes the encoder, and the difference of logits is linear in their
    features, so each map has an attention of its own.

    What stands before the last convolution is the same for all heads, so it is computed once.

    Args:
        model: the trained network.
        heads: to explain beside its own.
    """

    def __init__(self, model: Model, heads: Sequence[RandomHead] = ()) -> None:
        encoder = model.network.encoder
        name, last = _last_convolution(encoder)
        cut = cut_encoder(encoder, [f"{name}.weight"])
        self._model, self._trunk, self._tail = model, cut.trunk, cut.tail
        # Both halves share the encoder's parameters, under names of their own.
        [self._name] = [n for n, its in cut.tail.named_parameters() if its is last.weight]
        self._heads = [RandomHead(last.weight, model.network.classifier.weight), *heads]

    @torch.no_grad()
    def __call__(self, maps: Sequence[np.ndarray]) -> np.ndarray:
        """Return the attention of every head, the model's own first.

        Args:
            maps: uint8 (n, 3, size, size), one array for each input, in order.

        Returns:
            float32 (1 + heads, n, columns, h, w) with one column a map (one for all with early
            stacking) and h x w the resolution of the last feature maps, 7 x 7 for 224 pixels; in
            logits.
        """
        seen: list[Tensor] = []
        hook = _pooling(self._tail).register_forward_hook(
            lambda _, inputs, __: seen.append(inputs[0])
        )
        found = []
        try:
            for at, column in enumerate(_columns(self._model, maps)):
                parts = [self._explain(images, at, seen) for images in torch.split(column, BATCH)]
                found.append(torch.cat(parts, dim=1))
        finally:
            hook.remove()
        return torch.stack(found, dim=2).to("cpu", torch.float32).numpy()

    def _explain(self, images: Tensor, column: int, seen: list[Tensor]) -> Tensor:
        """Return every head's attention of a batch, (1 + heads, n, h, w)."""
        prepared = prepare(images, self._model.info["backbone"])
        outputs = (prepared,) if self._trunk is None else self._trunk(prepared)
        found = []
        for head in self._heads:
            functional_call(self._tail, {self._name: head.convolution}, outputs)
            pooled = seen.pop()
            share = _share(head.classifier, column, self._model.network.columns)
            pixels = pooled.shape[-1] * pooled.shape[-2]
            found.append(torch.einsum("nchw,c->nhw", pooled, share) / pixels)
        return torch.stack(found)


def grad_cam(model: Model, maps: Sequence[np.ndarray]) -> np.ndarray:
    """Return the ``GradCam`` of a model's own head, float32 (n, columns, h, w)."""
    return np.asarray(GradCam(model)(maps)[0])


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


@torch.no_grad()
def cover(
    model: Model, maps: Sequence[np.ndarray], fill: Sequence[np.ndarray], covers: np.ndarray
) -> np.ndarray:
    """Return by how much the answer falls when a part of a map is covered, for each part.

    Args:
        model: the trained network.
        maps: uint8 (n, 3, size, size), one array for each input, in order; n are computed together.
        fill: what a covered part shows, uint8 (3, size, size), one picture for each input.
        covers: float32 (parts, size, size), how much of each pixel a part's cover hides, 0 to 1.

    Returns:
        float32 (n, columns, parts), in logits; above zero where what was covered speaks for the
        positive class.
    """
    backbone = model.info["backbone"]
    hidden = torch.from_numpy(covers).to(model.device)
    found = []
    fills = _columns(model, [picture[None] for picture in fill])
    for at, (column, picture) in enumerate(zip(_columns(model, maps), fills, strict=True)):
        prepared, covering = prepare(column, backbone), prepare(picture, backbone)
        answer = _answer(model, at)
        whole = answer(prepared)
        falls = [whole - answer(torch.lerp(prepared, covering, its)) for its in hidden]
        found.append(torch.stack(falls, dim=1))
    return torch.stack(found, dim=1).to("cpu", torch.float32).numpy()


def squares(size: int) -> int:
    """Return how many places the occluding square takes on a map of so many pixels a side."""
    edge, stride = _square(size)
    return (1 + math.ceil(max(0, size - edge) / stride)) ** 2


def _square(size: int) -> tuple[int, int]:
    """Return the edge of the occluding square, and by how much it moves."""
    edge = max(2, round(PATCH * size))
    return edge, max(1, edge // 2)


def draw_heads(model: Model, count: int, generator: torch.Generator) -> list[RandomHead]:
    """Return heads as a training would start with them; the convolution keeps its spread."""
    trained, classifier = _last_convolution(model.network.encoder)[1], model.network.classifier
    shape, spread = trained.weight.shape, float(trained.weight.detach().std())
    heads = []
    for _ in range(count):
        drawn = copy.deepcopy(classifier).cpu()
        draw_linear(drawn, generator)
        weight = torch.randn(shape, generator=generator) * spread
        heads.append(RandomHead(weight.to(model.device), drawn.weight.detach().to(model.device)))
    return heads


def _last_convolution(encoder: nn.Module) -> tuple[str, nn.Conv2d]:
    return [(n, each) for n, each in encoder.named_modules() if isinstance(each, nn.Conv2d)][-1]


def _columns(model: Model, maps: Sequence[np.ndarray]) -> list[Tensor]:
    """Return what passes the encoder: each map, or all of them as channels."""
    pixels = [torch.from_numpy(images).to(model.device) for images in maps]
    return [torch.cat(pixels, dim=1)] if model.info["stack"] == "early" else pixels


def _answer(model: Model, column: int) -> Callable[[Tensor], Tensor]:
    """Return the share of one column in the difference of logits, (batch,)."""
    share = _share(model.network.classifier.weight, column, model.network.columns)

    def answer(images: Tensor) -> Tensor:
        features: Tensor = model.network.encoder(images)
        return features @ share

    return answer


def _share(classifier: Tensor, column: int, columns: int) -> Tensor:
    """Return the weights of one column's features in the difference of logits."""
    negative, positive = range(*LOGITS.indices(len(classifier)))
    weight = classifier[positive] - classifier[negative]
    width = len(weight) // columns
    return weight[column * width : (column + 1) * width]


def _pooling(module: nn.Module) -> nn.Module:
    """Return the layer that pools the last feature maps to one pixel."""
    return [layer for layer in module.modules() if isinstance(layer, nn.AdaptiveAvgPool2d)][-1]
