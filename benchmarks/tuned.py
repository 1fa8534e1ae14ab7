"""The tuned peer: the same study by somebody who knows what a CPU likes, short of a feature bank.

bf16 autocast (where the processor has instructions for it) on channels-last memory; the frozen part
under ``no_grad``, in one copy for all folds, its convolutions kept in bf16; only the tails with
gradients; fused AdamW; images decoded once, in Ray's object store as uint8; every image augmented
once an epoch, for all folds, and made ready for the network once; a class trainable whose actor is
reused; Tune's file loggers off; threads and trials at a time as the bare loops of ``standalone``
found them best.
"""

from __future__ import annotations

import copy
import math
import os
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ray import tune
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.peer import Job, Patients, difference, loss_of, open_patients, run_trials
from cohort.reading.images import read_images
from spaces.run_files import RunFiles
from trainable.cut import cut_encoder, trainable_parameters
from trainable.metrics import auc
from trainable.network import PolarNetwork, draw_linear, prepare
from trainable.numerics import precision_of
from trainable.seeds import numpy_generator, torch_generator


class Halves:
    """A network in two halves: one frozen stem, and the tail that each fold copies."""

    def __init__(self, network: PolarNetwork, layers: int, dtype: torch.dtype) -> None:
        chosen = trainable_parameters(network, layers, widened=False)
        for name, parameter in network.named_parameters():
            parameter.requires_grad_(name in chosen)
        network.to(memory_format=torch.channels_last)
        own = [name.removeprefix("encoder.") for name in chosen if name.startswith("encoder.")]
        cut = cut_encoder(network.encoder, own)
        assert cut.trunk is not None
        self.dtype = dtype
        self.stem: nn.Module = cut.trunk
        self.tail = cut.tail
        self.classifier = network.classifier
        for module in self.stem.modules():
            if isinstance(module, nn.Conv2d):
                module.to(dtype)

    def autocast(self) -> torch.autocast:
        """Return the context in which both halves run."""
        return torch.autocast("cpu", self.dtype, enabled=self.dtype == torch.bfloat16)


class TunedFold:
    """Tail, classifier and optimiser of one fold."""

    def __init__(self, fold: int, seed: int, halves: Halves, config: dict[str, float]) -> None:
        self.halves = halves
        self.lambda_ = config["lambda"]
        self.tail = copy.deepcopy(halves.tail)
        self.classifier = copy.deepcopy(halves.classifier)
        draw_linear(self.classifier, torch_generator(seed, fold, "classifier"))
        both = nn.ModuleList([self.tail, self.classifier])
        self.optimiser = torch.optim.AdamW(
            [parameter for parameter in both.parameters() if parameter.requires_grad],
            lr=config["learning_rate"],
            weight_decay=config["weight_decay"],
            fused=True,
        )

    def update(self, pixels: Tensor, target: Tensor, segments: Tensor) -> None:
        """Take one training step."""
        with self.halves.autocast():
            with torch.no_grad():
                features = self.halves.stem(pixels)
            outputs = self.classifier(self.tail(*features))
        self.optimiser.zero_grad(set_to_none=True)
        loss_of(outputs, target, segments, self.lambda_).backward()  # type: ignore[no-untyped-call]
        self.optimiser.step()

    @torch.inference_mode()
    def predict(self, pixels: Tensor) -> Tensor:
        """Return the 19 outputs."""
        with self.halves.autocast():
            outputs: Tensor = self.classifier(self.tail(*self.halves.stem(pixels)))
        return outputs


def turn(images: Tensor, rotation: float, rescaling: float, generator: torch.Generator) -> Tensor:
    """Return each image turned and rescaled by a draw of its own, all in one operation.

    Args:
        images: float32 (batch, 3, size, size).
        rotation: most degrees to either side.
        rescaling: most relative change of size, to either side.
        generator: of the draws.
    """
    draws = torch.rand(2, len(images), generator=generator) * 2 - 1
    angle, scale = draws[0] * math.radians(rotation), 1 + draws[1] * rescaling
    cosine, sine, nothing = angle.cos() / scale, angle.sin() / scale, torch.zeros(len(images))
    matrices = torch.stack([cosine, sine, nothing, -sine, cosine, nothing], dim=1).view(-1, 2, 3)
    grid = functional.affine_grid(matrices, list(images.shape), align_corners=False)
    return functional.grid_sample(images, grid, align_corners=False)


class TunedTrial(tune.Trainable):
    """Ray Tune's class trainable; the actor keeps the stem and is given the next configuration."""

    def setup(self, config: dict[str, Any], **shared: Any) -> None:
        """Open what all trials share, then take the first configuration."""
        patients: Patients = shared["patients"]
        torch.set_num_threads(shared["threads"])
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        self.patients = patients
        self.images = torch.from_numpy(shared["images"])
        self.target = torch.from_numpy(patients.target)
        section = patients.study.network
        assert isinstance(section.trainable_layers, int)
        self.halves = Halves(
            patients.network(), section.trainable_layers, precision_of(section, "cpu")
        )
        self.plain = self._ready(0.0)
        self.numbers = [int(k) for k in np.unique(patients.folds)]
        self.segments = [patients.standardised(k) for k in self.numbers]
        self.reset_config(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Start another trial in this process."""
        seed = self.patients.study.seed
        self.strength = new_config["augmentation_strength"]
        self.draws = torch.Generator().manual_seed(seed)
        self.folds = [TunedFold(k, seed, self.halves, new_config) for k in self.numbers]
        self.epoch = 0
        return True

    def step(self) -> dict[str, Any]:
        """Train and validate every fold for one epoch."""
        self.epoch += 1
        self.augmented = self._ready(self.strength) if self.strength else self.plain
        areas = [self._advance(fold) for fold in self.numbers]
        return {"auc": sum(areas) / len(areas), "fold_auc": areas}

    def _advance(self, fold: int) -> float:
        study, folds = self.patients.study, self.patients.folds
        size = study.training.batch_size
        generator = numpy_generator(study.seed, fold, "order", epoch=self.epoch)
        order = torch.from_numpy(generator.permutation(np.flatnonzero(folds != fold)))
        for rows in torch.split(order, size):
            pixels = self.augmented[rows]
            self.folds[fold].update(pixels, self.target[rows], self.segments[fold][rows])
        held_out = np.flatnonzero(folds == fold)
        parts = torch.split(torch.from_numpy(held_out), size)
        outputs = torch.cat([self.folds[fold].predict(self.plain[part]) for part in parts])
        return auc(self.patients.target[held_out], difference(outputs))

    def _ready(self, strength: float) -> Tensor:
        """Return all images, augmented and standardised, as the network likes them."""
        section, network = self.patients.study.augmentation, self.patients.study.network
        rotation, rescaling = section.rotation * strength, section.rescaling * strength
        found = []
        for part in torch.split(self.images, self.patients.study.training.batch_size):
            images = part.to(torch.float32)
            if strength:
                images = turn(images, rotation, rescaling, self.draws)
            prepared = prepare(images, network.backbone)
            found.append(prepared.to(self.halves.dtype, memory_format=torch.channels_last))
        return torch.cat(found)


def run(job: Job) -> list[dict[str, Any]]:
    """Run a job; return the reports."""
    os.environ["TUNE_DISABLE_AUTO_CALLBACK_LOGGERS"] = "1"
    patients = open_patients(RunFiles(Path(job.run)), job.epochs)
    images = read_images(patients.files, patients.study.network.image_size)
    trainable = tune.with_parameters(
        TunedTrial, patients=patients, images=images, threads=job.threads
    )
    resources = tune.with_resources(trainable, {"cpu": job.threads})
    return run_trials(resources, job, reuse_actors=True)
