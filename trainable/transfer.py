"""Where a second step starts: the models of a finished run over the same split, fold by fold."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from cohort.split import read_split
from spaces.errors import InputError, RefusedError
from spaces.run_files import RunFiles, sha256_of
from spaces.study import Study, read_study
from trainable.cut import trainable_parameters
from trainable.model import ABOUT, Model, load_model
from trainable.network import PolarNetwork

WHERE = "transfer.run"


@dataclass(frozen=True)
class FirstStep:
    """A finished run whose trained parameters another study starts from.

    Attributes:
        run: its directory.
        study: its settings.
        model: its development-set model.
    """

    run: RunFiles
    study: Study
    model: Model

    @classmethod
    def of(
        cls, study: Study, folder: Path, *, split_sha256: str, network: PolarNetwork
    ) -> FirstStep:
        """Open the run that ``study`` transfers from.

        Fold k of the second step must start from fold k of the first: only that model has never
        seen the patients that fold k validates. So both need one split, and one backbone.

        Args:
            study: the second step, with a ``transfer`` section.
            folder: what its paths are relative to.
            split_sha256: of the second step.
            network: with the weights that the second step would start from without a first.

        Raises:
            InputError: there is no such run, or it has no model yet.
            RefusedError: it has another split, other maps, or another backbone.
        """
        assert study.transfer is not None
        run = RunFiles(folder / study.transfer.run)
        if not (run.model / ABOUT).is_file():
            raise InputError(
                WHERE, f"{study.transfer.run} holds no trained model", "Run that study first"
            )
        model = load_model(run.model)
        first = read_study(run.study)
        found = {
            "cohort.split": (read_split(run.split).sha256, split_sha256),
            "cohort.inputs": (first.cohort.inputs, study.cohort.inputs),
            "cohort.segments": (first.cohort.segments, study.cohort.segments),
            "cohort.stack": (first.cohort.stack, study.cohort.stack),
            "network": tuple(
                (section.backbone, section.image_size) for section in (first.network, study.network)
            ),
            "the frozen trunk": (
                _frozen_weights(model.network, first),
                _frozen_weights(network, first),
            ),
        }
        different = [name for name, (theirs, ours) in found.items() if theirs != ours]
        if different:
            raise RefusedError(
                WHERE,
                f"{different[0]} of {study.transfer.run} must be equal to this study's",
                "Give both studies the same cohort, split (stratify: false), maps and network",
            )
        return cls(run, first, model)

    @property
    def sha256(self) -> str:
        """Digest of the development-set model, which names the whole step."""
        return str(self.model.info["sha256"])

    def fold(self, number: int) -> Mapping[str, Tensor]:
        """Return the trained parameters of one fold model, by their names in the network.

        Raises:
            RefusedError: the file is missing or damaged.
        """
        path = self.run.model / "folds" / f"{number}.safetensors"
        try:
            expected = self.model.info["folds"][path.name]
            if sha256_of(path) == expected:
                return load_file(path)
        except (KeyError, TypeError, OSError, SafetensorError):
            pass
        raise RefusedError(
            WHERE,
            f"the model of fold {number + 1} is missing or is not the one that was trained",
            "Retrain that run",
        )

    def development(self) -> Mapping[str, Tensor]:
        """Return the parameters of the development-set model."""
        return dict(self.model.network.named_parameters())


def _frozen_weights(network: PolarNetwork, first: Study) -> str:
    """Return a digest of the weights and statistics that the first step did not train."""
    layers, widened = first.network.trainable_layers, first.cohort.is_widened
    trained = set(trainable_parameters(network, layers, widened=widened))
    digest = hashlib.sha256()
    for name, value in sorted(network.state_dict().items()):
        if name not in trained and value.is_floating_point():
            digest.update(name.encode())
            digest.update(value.detach().to("cpu", torch.float32).numpy().tobytes())
    return digest.hexdigest()
