"""A trained model on disk: model.safetensors under torchvision's names, model.json beside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file

from cohort.reading.images import read_images
from cohort.segments import SEGMENTS
from spaces.errors import InputError, RefusedError
from spaces.run_files import read_json, replacing, sha256_of
from spaces.sections import Backbone, ImageSize, NetworkSection
from trainable.cut import cut_encoder
from trainable.loss import LOGITS, Scale
from trainable.network import PolarNetwork, build_network, prepare, with_weights

WEIGHTS = "model.safetensors"
ABOUT = "model.json"
BATCH = 16
MOST_INPUTS = 64
SegmentValues = Annotated[list[float], Field(min_length=SEGMENTS, max_length=SEGMENTS)]


@dataclass(frozen=True)
class Prediction:
    """What the model says of some patients.

    Attributes:
        logits: float32 (n, 2), (negative, positive).
        segments: float32 (n, 17) in the units of the column; None where none were trained.
        features: float32 (n, d), what the classifier sees.
    """

    logits: np.ndarray
    segments: np.ndarray | None
    features: np.ndarray

    @property
    def probability(self) -> np.ndarray:
        """Probability of the positive class, (n,), in [0, 1]."""
        difference = (self.logits[:, 1] - self.logits[:, 0]).astype(np.float64)
        return np.asarray(1 / (1 + np.exp(-difference)))


@dataclass(frozen=True)
class Model:
    """A trained network, in float32.

    Attributes:
        network: in eval mode.
        info: the content of model.json.
        device: where it computes.
    """

    network: PolarNetwork
    info: Mapping[str, Any]
    device: str

    @property
    def gives_probability(self) -> bool:
        """Whether its logits were trained: lambda = 0 gives them no gradient."""
        return gives_probability(self.info)

    @property
    def gives_segments(self) -> bool:
        """Whether its segment values were trained: lambda = 1 gives them no gradient."""
        return gives_segments(self.info)

    def with_head(self, path: Path, sha256: str) -> Model:
        """Return the model with the trained layers of another training of its configuration.

        Raises:
            RefusedError: the file is not the one that was trained.
        """
        if not path.is_file() or sha256_of(path) != sha256:
            raise RefusedError(str(path), "it is not the file that was trained", "Retrain the run")
        network = with_weights(self.network, load_file(path))
        return Model(network.eval(), self.info, self.device)

    def shares_trunk_with(self, path: Path) -> bool:
        """Whether a file of ``save_head`` was trained on the trunk that is frozen here."""
        with safe_open(path, framework="pt") as file:
            return bool(file.metadata()["trunk_sha256"] == self.info["trunk_sha256"])

    def predict_heads(
        self, images: Mapping[str, Sequence[Path]], heads: Mapping[Path, str]
    ) -> list[np.ndarray]:
        """Return the logits, float32 (n, 2), that each of several trainings gives some patients.

        Each equals what ``with_head`` predicts; what all of them left frozen is computed once.

        Args:
            images: image files by input name, in equal order.
            heads: sha256 by file; trained on this trunk.

        Raises:
            RefusedError: a file is not the one that was trained.
        """
        if not heads:
            return []
        tails = []
        for path, sha256 in heads.items():
            network = self.with_head(path, sha256).network
            names = [name.removeprefix("encoder.") for name in load_file(path)]
            cut = cut_encoder(network.encoder, names)
            tails.append((cut.tail.eval(), network.classifier))
        trunk = None if cut.trunk is None else cut.trunk.eval()
        inputs, size = [images[name] for name in self.info["inputs"]], int(self.info["image_size"])
        found: list[list[np.ndarray]] = [[] for _ in tails]
        with torch.inference_mode():
            for at in range(0, len(inputs[0]), BATCH):
                maps = self._prepare(
                    [read_images(files[at : at + BATCH], size) for files in inputs]
                )
                outputs = [(image,) if trunk is None else trunk(image) for image in maps]
                for (tail, classifier), its in zip(tails, found, strict=True):
                    features = torch.cat([tail(*columns) for columns in outputs], dim=1)
                    its.append(classifier(features)[:, LOGITS].cpu().numpy())
        return [np.concatenate(parts) for parts in found]

    def predict(self, images: Mapping[str, Sequence[Path]]) -> Prediction:
        """Predict patients from their image files, by input name, in equal order.

        Raises:
            KeyError: an input of the model is missing.
            InputError: an image cannot be read.
        """
        inputs, size = [images[name] for name in self.info["inputs"]], int(self.info["image_size"])
        parts = [
            self.predict_pixels([read_images(files[at : at + BATCH], size) for files in inputs])
            for at in range(0, len(inputs[0]), BATCH)
        ]
        segments = [part.segments for part in parts if part.segments is not None]
        return Prediction(
            np.concatenate([part.logits for part in parts]),
            np.concatenate(segments) if segments else None,
            np.concatenate([part.features for part in parts]),
        )

    @torch.inference_mode()
    def predict_pixels(self, maps: Sequence[np.ndarray]) -> Prediction:
        """Predict patients from uint8 arrays (n, 3, size, size), one for each input, in order."""
        features = self.network.features(*self._prepare(maps))
        found = self.network.classifier(features).cpu().numpy()
        segments = None
        if self.gives_segments:
            mean, deviation = self.info["segment_mean"], self.info["segment_sd"]
            scale = Scale(np.asarray(mean), np.asarray(deviation))
            segments = scale.restore(found[:, :SEGMENTS]).astype(np.float32)
        return Prediction(found[:, LOGITS], segments, features.cpu().numpy())

    def _prepare(self, maps: Sequence[np.ndarray]) -> list[torch.Tensor]:
        """Return what the network takes, from uint8 arrays (n, 3, size, size)."""
        pixels = [torch.from_numpy(images).to(self.device) for images in maps]
        if self.info["stack"] == "early":
            pixels = [torch.cat(pixels, dim=1)]
        return [prepare(images, self.info["backbone"]) for images in pixels]


def gives_probability(info: Mapping[str, Any]) -> bool:
    """Return whether model.json describes a model whose logits were trained."""
    return bool(info["chosen"]["configuration"]["lambda"] != 0)


def gives_segments(info: Mapping[str, Any]) -> bool:
    """Return whether model.json describes a model whose segment values were trained."""
    return info["segment_mean"] is not None


def save_weights(folder: Path, state: Mapping[str, torch.Tensor]) -> str:
    """Write model.safetensors, float32 under torchvision's names; return its sha256."""
    tensors = {name: value.detach().cpu().contiguous() for name, value in state.items()}
    with replacing(folder / WEIGHTS) as partial:
        save_file(tensors, partial, {"format": "pt"})
    return sha256_of(folder / WEIGHTS)


def save_head(path: Path, trained: Mapping[str, torch.Tensor], *, trunk_sha256: str) -> str:
    """Write the trained parameters of one fold and their trunk's digest; return the sha256."""
    tensors = {name: value.detach().cpu().contiguous() for name, value in trained.items()}
    with replacing(path) as partial:
        # One entry only: safetensors writes several in an order that changes from call to call.
        save_file(tensors, partial, {"trunk_sha256": trunk_sha256})
    return sha256_of(path)


def load_model(folder: Path, device: str = "cpu") -> Model:
    """Load a model: weights and the model.json that describes them.

    Raises:
        InputError: model.json is missing or damaged.
        RefusedError: the weights' digest is not the one in model.json, or they are not those of
            the network that it describes.
    """
    info = read_json(folder / ABOUT, "model")
    about = _check(info, folder / ABOUT)
    weights = folder / WEIGHTS
    if not weights.is_file() or sha256_of(weights) != about.sha256:
        raise RefusedError(
            str(weights), "the weights are not those that model.json describes", "Retrain the model"
        )
    network = build_network(
        NetworkSection(backbone=about.backbone, weights="random", image_size=about.image_size),
        maps=len(about.inputs),
        stack=about.stack,
        folder=folder,
        generator=torch.Generator().manual_seed(0),
    )
    try:
        network.load_torchvision_state(load_file(weights))
    except (SafetensorError, RuntimeError, KeyError, ValueError) as error:
        problem = f"the weights do not fit the network of model.json ({type(error).__name__})"
        raise RefusedError(str(weights), problem, "Retrain the model") from None
    return Model(network.to(device).eval(), info, device)


class _Configuration(BaseModel):
    model_config = ConfigDict(strict=True, extra="ignore", allow_inf_nan=False)

    lambda_: Annotated[float, Field(ge=0, le=1, alias="lambda")]


class _Chosen(BaseModel):
    model_config = ConfigDict(strict=True, extra="ignore")

    configuration: _Configuration


class _About(BaseModel):
    """What model.json must say for its model to be built; it says more."""

    model_config = ConfigDict(strict=True, extra="ignore", allow_inf_nan=False)

    sha256: str
    backbone: Backbone
    image_size: ImageSize
    inputs: Annotated[list[str], Field(min_length=1, max_length=MOST_INPUTS)]
    stack: Literal["late", "early"]
    segment_mean: SegmentValues | None
    segment_sd: SegmentValues | None
    segments_prefix: str | None
    trunk_sha256: str
    chosen: _Chosen

    @model_validator(mode="after")
    def _all_or_none(self) -> _About:
        of_segments = (self.segment_mean, self.segment_sd, self.segments_prefix)
        if len({value is None for value in of_segments}) > 1:
            raise ValueError(
                "segment_mean, segment_sd and segments_prefix must all be there, or none"
            )
        return self


def _check(info: Mapping[str, Any], path: Path) -> _About:
    try:
        return _About.model_validate(info)
    except ValidationError as error:
        [first, *_] = error.errors(include_url=False, include_input=False)
        where = ".".join(map(str, first["loc"])) or "model.json"
        raise InputError(f"{path} {where}", first["msg"], "Retrain the model") from None
