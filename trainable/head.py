"""The head: everything that trains, on the trunk's outputs."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor, fx, nn

from cohort.segments import SEGMENTS
from trainable.cut import Trunk, cut_encoder, trainable_parameters
from trainable.fold import fold
from trainable.network import PolarNetwork, draw_linear


class Head(nn.Module):
    """The encoder's tail on each map's trunk outputs, then the classifier on all of them.

    Attributes:
        names: for each trainable parameter, its name here and its name in the network.
    """

    def __init__(
        self, tail: nn.Module, classifier: nn.Linear, names: Sequence[tuple[str, str]]
    ) -> None:
        super().__init__()
        self.tail = tail
        self.classifier = classifier
        self.names = tuple(names)

    def forward(self, maps: Sequence[Sequence[Tensor]]) -> Tensor:
        """Return (batch, 19) in float32, from the trunk outputs of each map."""
        output: Tensor = self.classifier(self.features(maps))
        return output

    def features(self, maps: Sequence[Sequence[Tensor]]) -> Tensor:
        """Return what the classifier sees, float32 (batch, features x maps)."""
        return torch.cat([self.tail(*outputs).to(torch.float32) for outputs in maps], dim=1)

    def copy(self, generator: torch.Generator) -> Head:
        """Return an independent head with a newly drawn classifier."""
        fresh = copy.deepcopy(self)
        draw_linear(fresh.classifier, generator)
        return fresh

    def trained(self) -> dict[str, Tensor]:
        """Return the trainable parameters under their names in the network."""
        own = dict(self.named_parameters())
        return {name: own[here].detach() for here, name in self.names}

    def load_trained(self, state: Mapping[str, Tensor]) -> None:
        """Set the trainable parameters from ``trained``."""
        own = dict(self.named_parameters())
        with torch.no_grad():
            for here, name in self.names:
                own[here].copy_(state[name])

    def start_from(self, state: Mapping[str, Tensor]) -> None:
        """Take over what another target trained, all but the two logits, which stay new."""
        own = dict(self.named_parameters())
        with torch.no_grad():
            for here, name in self.names:
                kept = slice(SEGMENTS if name.startswith("classifier.") else None)
                own[here][kept].copy_(state[name][kept])

    def parameters_that_train(self) -> list[nn.Parameter]:
        """Return them in a fixed order."""
        own = dict(self.named_parameters())
        return [own[here] for here, _ in self.names]


def split_network(
    network: PolarNetwork, layers: int | Literal["all"], *, widened: bool, dtype: torch.dtype
) -> tuple[Trunk | None, Head]:
    """Return the trunk (None when empty) and the head, folded for speed.

    Both share the network's parameters; the trunk's are frozen.
    """
    chosen = trainable_parameters(network, layers, widened=widened)
    for name, parameter in network.named_parameters():
        parameter.requires_grad_(name in chosen)
    own = [name.removeprefix("encoder.") for name in chosen if name.startswith("encoder.")]
    cut = cut_encoder(network.encoder, own)
    tail = fold(cut.tail, dtype, frozen=False) if isinstance(cut.tail, fx.GraphModule) else cut.tail
    named = {id(parameter): name for name, parameter in network.named_parameters()}
    head = Head(tail, network.classifier, ())
    head.names = tuple(
        (here, named[id(parameter)])
        for here, parameter in head.named_parameters()
        if named[id(parameter)] in chosen
    )
    if cut.trunk is not None:
        cut.trunk.body = fold(cut.trunk.body, dtype, frozen=True)
    return cut.trunk, head
