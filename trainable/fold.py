"""Convolution, frozen batch norm and activation as one operation, in the precision of the machine.

With frozen statistics a batch norm is a scale and a shift of the convolution's output, so both are
one convolution with weights w * g / sqrt(v + eps). The parameters stay those of the network: the
product is formed anew in each forward pass and autograd carries the gradient through it.
"""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import Tensor, fx, nn
from torch.nn import functional

Layer = TypeVar("Layer", bound=nn.Module)


class FoldedConvolution(nn.Module):
    """A convolution followed by a batch norm with frozen statistics, and an activation.

    1x1 convolutions run as matrix products on channels-last memory, where no copy is needed. The
    activation writes over the product, which nothing else reads.

    Args:
        convolution: its parameters are shared, not copied.
        norm: likewise; None for a convolution without batch norm.
        activation: a ReLU or ReLU6; None for a convolution without.
        dtype: of inputs, products and outputs; the parameters stay float32.
    """

    def __init__(
        self,
        convolution: nn.Conv2d,
        norm: nn.BatchNorm2d | None,
        activation: nn.ReLU | nn.ReLU6 | None,
        dtype: torch.dtype,
    ) -> None:
        super().__init__()
        self.convolution = convolution
        self.norm = norm
        self.activation = None if activation is None else type(activation)(inplace=True)
        self.dtype = dtype
        self.pad, self.padding = _padding_of(convolution)
        self.is_product = (
            convolution.kernel_size == (1, 1)
            and tuple(convolution.stride) == (1, 1)
            and self.padding == (0, 0)
            and self.pad is None
            and convolution.groups == 1
        )

    def weights(self) -> tuple[Tensor, Tensor | None]:
        """Return the folded weight and bias in ``dtype``."""
        weight, bias = self.convolution.weight, self.convolution.bias
        if self.norm is not None:
            norm = self.norm
            assert norm.running_var is not None
            assert norm.running_mean is not None
            scale = norm.weight * torch.rsqrt(norm.running_var + norm.eps)
            shift = norm.bias - norm.running_mean * scale
            weight = weight * scale.view(-1, 1, 1, 1)
            bias = shift if bias is None else bias * scale + shift
        return weight.to(self.dtype), None if bias is None else bias.to(self.dtype)

    def forward(self, image: Tensor) -> Tensor:
        """Return the normalised convolution of ``image``."""
        weight, bias = self.weights()
        return self.apply_weights(image, weight, bias)

    def apply_weights(self, image: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Return the convolution with given folded weights."""
        if self.is_product:
            tokens = image.permute(0, 2, 3, 1)
            rows = tokens.flatten(0, 2)  # a product of two matrices, which may be overwritten
            product = self._activate(functional.linear(rows, weight.flatten(1), bias))
            return product.view(*tokens.shape[:3], -1).permute(0, 3, 1, 2)
        if self.pad is not None:
            image = self.pad(image)
        convolution = self.convolution
        product = functional.conv2d(
            image,
            weight,
            bias,
            convolution.stride,
            self.padding,
            convolution.dilation,
            convolution.groups,
        )
        return self._activate(product)

    def _activate(self, product: Tensor) -> Tensor:
        if self.activation is None:
            return product
        activated: Tensor = self.activation(product)
        return activated


class FrozenConvolution(FoldedConvolution):
    """A folded convolution whose weights never change again: the product is formed once."""

    def __init__(
        self,
        convolution: nn.Conv2d,
        norm: nn.BatchNorm2d | None,
        activation: nn.ReLU | nn.ReLU6 | None,
        dtype: torch.dtype,
    ) -> None:
        super().__init__(convolution, norm, activation, dtype)
        with torch.no_grad():
            weight, bias = self.weights()
        self.register_buffer("weight", weight.contiguous(memory_format=torch.channels_last))
        self.register_buffer("bias", bias)

    def forward(self, image: Tensor) -> Tensor:
        """Return the normalised convolution of ``image``."""
        weight, bias = self.get_buffer("weight"), self._buffers["bias"]
        return self.apply_weights(image, weight, bias)


class TokenPool(nn.Module):
    """Global average pooling whose gradient keeps channels-last memory.

    Torch's own spreads the gradient in the other order, and everything behind it pays for that.
    """

    def forward(self, image: Tensor) -> Tensor:
        """Return (batch, channels, 1, 1)."""
        tokens = image.permute(0, 2, 3, 1).flatten(1, 2)
        # Torch's mean would first copy everything to float32; its sum adds up in float32 as it is.
        return (tokens.sum(1) / tokens.shape[1])[:, :, None, None]


def fold(module: fx.GraphModule, dtype: torch.dtype, *, frozen: bool) -> fx.GraphModule:
    """Return ``module`` with every convolution folded together with the batch norm behind it.

    Pooling to one pixel is replaced too, see ``TokenPool``.

    Args:
        module: in eval mode; its parameters are shared with the result.
        dtype: see ``FoldedConvolution``.
        frozen: form the products once, for a trunk.
    """
    kind = FrozenConvolution if frozen else FoldedConvolution
    graph = fx.Graph()
    output = graph.graph_copy(module.graph, {})
    graph.output(output)
    folded = fx.GraphModule(module, graph)
    for node in list(folded.graph.nodes):
        if node.op != "call_module":
            continue
        layer = folded.get_submodule(str(node.target))
        if isinstance(layer, nn.AdaptiveAvgPool2d):
            folded.set_submodule(str(node.target), TokenPool())
        if isinstance(layer, nn.Conv2d):
            norm = _absorb(folded, node, nn.BatchNorm2d)
            activation = _absorb(folded, node, nn.ReLU) or _absorb(folded, node, nn.ReLU6)
            folded.set_submodule(str(node.target), kind(layer, norm, activation, dtype))
    folded.recompile()
    return folded


def _padding_of(convolution: nn.Conv2d) -> tuple[nn.Module | None, tuple[int, int]]:
    """Return a layer that pads beforehand, if one is needed, and what the convolution pads itself.

    EfficientNet-Lite0 pads by a layer of its own; where both sides get the same, the convolution
    can do it without a copy of the image.
    """
    own = (int(convolution.padding[0]), int(convolution.padding[1]))
    layer = getattr(convolution, "static_padding", None)
    if not isinstance(layer, nn.ZeroPad2d):
        return None, own
    left, right, top, bottom = layer.padding
    if left == right and top == bottom:
        return None, (top, left)
    return layer, own


def _absorb(module: fx.GraphModule, node: fx.Node, kind: type[Layer]) -> Layer | None:
    """Take the layer behind ``node`` out of the graph if it is of this kind and alone there."""
    users = list(node.users)
    if len(users) != 1 or users[0].op != "call_module":
        return None
    layer = module.get_submodule(str(users[0].target))
    if not isinstance(layer, kind):
        return None
    users[0].replace_all_uses_with(node)
    module.graph.erase_node(users[0])
    return layer
