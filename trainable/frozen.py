"""What trainings share and never change: trunk, trunk outputs, and the head before training."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch

from cohort.reading.images import digest_files
from spaces.environment import version_of
from spaces.study import Study
from trainable.bank import Bank, BankedFeatures
from trainable.cut import Trunk
from trainable.features import Columns, ComputedFeatures, Extractor, Features, Outputs
from trainable.head import split_network
from trainable.network import PolarNetwork


@dataclass(frozen=True)
class Maps:
    """The polar maps of the development patients.

    Attributes:
        columns: their files, one column for each map that passes the trunk.
        names: of each column, for people.
        drawn: (patients, views, 3), see ``augment.draw_views``.
    """

    columns: Columns
    names: tuple[str, ...]
    drawn: np.ndarray


class Frozen:
    """A network as trainings begin with it, cut in two.

    All folds share one, unless they start from fold models that trained more layers than they do
    themselves: then each fold has its own.

    Attributes:
        network: with its starting weights, on the CPU in float32.
        head: everything behind the trunk, untrained.
    """

    def __init__(
        self,
        network: PolarNetwork,
        study: Study,
        maps: Maps,
        *,
        dtype: torch.dtype,
        device: str,
        bank_folder: Path,
        number: int = 0,
    ) -> None:
        self.network = network
        self._number = number
        self._study = study
        self._maps = maps
        self._dtype = dtype
        self._device = device
        self._bank_folder = bank_folder
        layers, widened = study.network.trainable_layers, study.cohort.is_widened
        trunk, self.head = split_network(network, layers, widened=widened, dtype=dtype)
        self._trunk: Trunk | None = None if trunk is None else trunk.to(device).eval()

    @property
    def has_trunk(self) -> bool:
        """Whether any layer is frozen."""
        return self._trunk is not None

    @cached_property
    def trunk_sha256(self) -> str:
        """Digest of the trunk's operations and weights; of nothing when the trunk is empty."""
        digest = hashlib.sha256()
        trunk = self._trunk
        if trunk is not None:
            digest.update(repr(trunk).encode() + trunk.body.code.encode())
            for name, value in sorted(trunk.state_dict().items()):
                digest.update(name.encode())
                digest.update(value.detach().to("cpu", torch.float32).numpy().tobytes())
        return digest.hexdigest()

    @property
    def extractor(self) -> Extractor:
        """Turns images into trunk outputs."""
        section = self._study.augmentation
        backbone = self._study.network.backbone
        return Extractor(self._trunk, backbone, section, self._dtype, self._device)

    @cached_property
    def bank(self) -> Bank | None:
        """The feature bank; None when it is off or the trunk is empty."""
        if self._study.bank.mode == "off" or not self.has_trunk:
            return None
        shared = {
            "backbone": self._study.network.backbone,
            "image_size": self._study.network.image_size,
            "trunk": self.trunk_sha256,
            "dtype": str(self._dtype),
            "device": self._device,
            "torch": torch.__version__,
            "torchvision": version_of("torchvision"),
        }
        columns, drawn = self._maps.columns, self._maps.drawn
        keys = tuple(shared | {"images": digest_files(group[0])} for group in columns.paths)
        limits = self._study.augmentation.model_dump(mode="json")
        return Bank(self._bank_folder, keys, drawn, limits, columns, self._maps.names, self._number)

    @cached_property
    def features(self) -> Features:
        """The trunk outputs, from the bank or computed."""
        if self.bank is not None:
            return BankedFeatures(self.bank, self._device)
        return ComputedFeatures(self._maps.columns, self._maps.drawn, lambda: self.extractor)

    def blank_outputs(self, images: int) -> Outputs:
        """Return the trunk's outputs for black images."""
        size, maps = self._study.network.image_size, len(self._maps.columns.paths[0])
        blank = np.zeros((images, 3 * maps, size, size), dtype=np.uint8)
        return self.extractor.extract(blank, np.zeros((images, 3)), 0.0)

    @property
    def bytes_an_image(self) -> int:
        """Bytes that one image and view takes in the bank."""
        return sum(output.numel() * output.element_size() for output in self.blank_outputs(1))
