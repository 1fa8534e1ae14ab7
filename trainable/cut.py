"""The cut: the trunk is every operation that depends on no trainable parameter; the head the rest.

The trunk is the same function in every fold, epoch and trial, so its outputs are computed once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from torch import Tensor, fx, nn
from torch.fx.passes.split_module import split_module

from trainable.network import PolarNetwork


class _WholeLayers(fx.Tracer):
    """Keeps layers whole: modules without children and every convolution, subclasses included.

    Traced through, a convolution subclass would leave its weights behind as plain attributes.
    """

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        """Return whether the module stays one node."""
        del module_qualified_name
        return isinstance(m, nn.Conv2d) or not any(True for _ in m.children())


class Trunk(nn.Module):
    """The frozen half of an encoder.

    Attributes:
        body: the traced operations.
    """

    def __init__(self, body: fx.GraphModule) -> None:
        super().__init__()
        self.body: fx.GraphModule = body

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """Return every tensor that the head reads, each (batch, ...)."""
        found = self.body(image)
        return tuple(found) if isinstance(found, tuple | list) else (found,)


@dataclass(frozen=True)
class Cut:
    """An encoder in two halves: ``tail(*trunk(image))`` equals ``encoder(image)`` bit for bit.

    Attributes:
        trunk: image -> tuple of tensors; None when the first layer trains.
        tail: those tensors (or the image) -> (batch, features).
    """

    trunk: Trunk | None
    tail: nn.Module


def trainable_parameters(
    network: PolarNetwork, layers: int | Literal["all"], *, widened: bool
) -> list[str]:
    """Return the names of the parameters that train.

    'Last n layers' means the last n weighted layers (convolutions and linear layers) counted from
    the output, each with the batch norm that follows it. A widened first convolution, which no
    pretraining has seen, always trains, with its batch norm.

    Raises:
        ValueError: the network has fewer weighted layers.
    """
    groups = _weighted_layers(network)
    if layers == "all":
        chosen = groups
    else:
        if layers > len(groups):
            raise ValueError(f"trainable_layers must be <= {len(groups)}, got {layers}")
        chosen = groups[-layers:]
        if widened and groups[0] not in chosen:
            chosen = [groups[0], *chosen]
    prefixes = tuple(f"{name}." for group in chosen for name in group)
    return [name for name, _ in network.named_parameters() if name.startswith(prefixes)]


def _weighted_layers(network: PolarNetwork) -> list[list[str]]:
    """Return, in order of execution, each weighted layer with the batch norm behind it."""
    graph = _WholeLayers().trace(network.encoder)
    modules = dict(network.encoder.named_modules())
    groups: list[list[str]] = []
    owner: dict[fx.Node, list[str]] = {}
    for node in graph.nodes:
        if node.op != "call_module":
            continue
        module, name = modules[str(node.target)], f"encoder.{node.target}"
        if isinstance(module, nn.Conv2d | nn.Linear):
            owner[node] = [name]
            groups.append(owner[node])
        elif isinstance(module, nn.BatchNorm2d):
            owner[node.args[0]].append(name)
    return [*groups, ["classifier"]]


def cut_encoder(encoder: nn.Module, trainable: Sequence[str]) -> Cut:
    """Cut an encoder in front of the first operation that depends on a trainable parameter.

    Args:
        encoder: traceable by torch.fx; shares its parameters with both halves.
        trainable: parameter names relative to the encoder.
    """
    owners = {name.rpartition(".")[0] for name in trainable}
    graph = _WholeLayers().trace(encoder)
    dependent: set[fx.Node] = set()
    for node in graph.nodes:
        own = node.op == "call_module" and str(node.target) in owners
        if own or any(source in dependent for source in node.all_input_nodes):
            dependent.add(node)
    traced = fx.GraphModule(encoder, graph)
    computed = [n for n in graph.nodes if n.op not in {"placeholder", "output", "get_attr"}]
    if not any(node in dependent for node in computed):  # only the classifier trains
        return Cut(trunk=Trunk(traced), tail=nn.Identity())
    if all(node in dependent for node in computed):
        return Cut(trunk=None, tail=traced)
    halves = split_module(traced, encoder, lambda node: int(node in dependent))
    return Cut(trunk=Trunk(_half(halves, "submod_0")), tail=_tail_of(halves))


def _half(halves: fx.GraphModule, name: str) -> fx.GraphModule:
    half = halves.get_submodule(name)
    assert isinstance(half, fx.GraphModule)
    return half


def _tail_of(halves: fx.GraphModule) -> fx.GraphModule:
    """Return the second half, checked to take the first half's outputs in their order."""
    call = next(node for node in halves.graph.nodes if node.target == "submod_1")
    positions = []
    for argument in call.args:
        if argument.op == "placeholder":
            raise ValueError("the head reads the image beside the trunk's outputs")
        positions.append(argument.args[1] if argument.op == "call_function" else 0)
    if positions != list(range(len(positions))):
        raise ValueError(f"the trunk's outputs are out of order: {positions}")
    return _half(halves, "submod_1")
