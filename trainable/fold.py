"""Convolution and frozen batch norm as one operation, in the precision of the machine.

With frozen statistics a batch norm is a scale and a shift of the convolution's output, so both are
one convolution with weights w * g / sqrt(v + eps). The parameters stay those of the network: the
product is formed anew in each forward pass and autograd carries the gradient through it.
"""

from __future__ import annotations

import torch
from torch import Tensor, fx, nn
from torch.nn import functional


class FoldedConvolution(nn.Module):
    """A convolution followed by a batch norm with frozen statistics.

    1x1 convolutions run as matrix products on channels-last memory, where no copy is needed.

    Args:
        convolution: its parameters are shared, not copied.
        norm: likewise; None for a convolution without batch norm.
        dtype: of inputs, products and outputs; the parameters stay float32.
    """

    def __init__(
        self, convolution: nn.Conv2d, norm: nn.BatchNorm2d | None, dtype: torch.dtype
    ) -> None:
        super().__init__()
        self.convolution = convolution
        self.norm = norm
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
            return functional.linear(tokens, weight.flatten(1), bias).permute(0, 3, 1, 2)
        if self.pad is not None:
            image = self.pad(image)
        convolution = self.convolution
        return functional.conv2d(
            image,
            weight,
            bias,
            convolution.stride,
            self.padding,
            convolution.dilation,
            convolution.groups,
        )


class FrozenConvolution(FoldedConvolution):
    """A folded convolution whose weights never change again: the product is formed once."""

    def __init__(
        self, convolution: nn.Conv2d, norm: nn.BatchNorm2d | None, dtype: torch.dtype
    ) -> None:
        super().__init__(convolution, norm, dtype)
        with torch.no_grad():
            weight, bias = self.weights()
        self.register_buffer("weight", weight.contiguous(memory_format=torch.channels_last))
        self.register_buffer("bias", bias)

    def forward(self, image: Tensor) -> Tensor:
        """Return the normalised convolution of ``image``."""
        weight, bias = self.get_buffer("weight"), self._buffers["bias"]
        return self.apply_weights(image, weight, bias)


def fold(module: fx.GraphModule, dtype: torch.dtype, *, frozen: bool) -> fx.GraphModule:
    """Return ``module`` with every convolution folded together with the batch norm behind it.

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
        if not isinstance(layer, nn.Conv2d):
            continue
        follower = _norm_behind(folded, node)
        norm = None if follower is None else folded.get_submodule(str(follower.target))
        assert norm is None or isinstance(norm, nn.BatchNorm2d)
        folded.set_submodule(str(node.target), kind(layer, norm, dtype))
        if follower is not None:
            follower.replace_all_uses_with(node)
            folded.graph.erase_node(follower)
    if frozen:
        _overwrite_activations(folded)
    folded.recompile()
    return folded


def _overwrite_activations(module: fx.GraphModule) -> None:
    """Let each activation write over its input, which nothing else reads in these networks."""
    for node in module.graph.nodes:
        if node.op == "call_module":
            layer = module.get_submodule(str(node.target))
            if isinstance(layer, nn.ReLU | nn.ReLU6):
                module.set_submodule(str(node.target), type(layer)(inplace=True))


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


def _norm_behind(module: fx.GraphModule, node: fx.Node) -> fx.Node | None:
    users = list(node.users)
    if len(users) != 1 or users[0].op != "call_module":
        return None
    is_norm = isinstance(module.get_submodule(str(users[0].target)), nn.BatchNorm2d)
    return users[0] if is_norm else None
