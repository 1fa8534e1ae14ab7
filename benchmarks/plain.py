"""The plain peer: what one writes from the tutorials of Ray Tune, Optuna, torch and torchvision.

A function trainable that keeps five models, one for each fold, and reports after each epoch of all
of them; a DataLoader that decodes and augments image after image; frozen layers by
``requires_grad = False``; float32; every library at its defaults. One deviation: trials at a time
are set, since without that Ray Tune runs an Optuna search on fewer slots than there are.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from ray import tune
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Subset
from torchvision.transforms import v2

from benchmarks.peer import Job, Patients, difference, loss_of, open_patients, run_trials
from benchmarks.workload import LITE
from spaces.run_files import RunFiles
from trainable.cut import trainable_parameters
from trainable.metrics import auc
from trainable.network import PolarNetwork, draw_linear
from trainable.seeds import numpy_generator, torch_generator

IMAGENET = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
LITE_SCALE = ([127 / 255] * 3, [128 / 255] * 3)


class PolarMaps(Dataset[tuple[Tensor, Tensor, Tensor]]):
    """Polar maps with target and standardised segment values, decoded when they are asked for."""

    def __init__(self, patients: Patients, segments: Tensor, transform: v2.Transform) -> None:
        self.files = patients.files
        self.target = torch.from_numpy(patients.target)
        self.segments = segments
        self.transform = transform

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, row: int) -> tuple[Tensor, Tensor, Tensor]:
        with Image.open(self.files[row]) as image:
            pixels = self.transform(image.convert("RGB"))
        return pixels, self.target[row], self.segments[row]


def transform_of(patients: Patients, strength: float) -> v2.Transform:
    """Return decoding to standardisation, with rotation and rescaling at ``strength``."""
    section, network = patients.study.augmentation, patients.study.network
    mean, deviation = LITE_SCALE if network.backbone == LITE else IMAGENET
    change = section.rescaling * strength
    steps: list[Any] = [
        v2.ToImage(),
        v2.Resize([network.image_size, network.image_size]),
        v2.ToDtype(torch.float32, scale=True),
        v2.Normalize(mean, deviation),
    ]
    if strength:
        affine = v2.RandomAffine(
            degrees=section.rotation * strength,
            scale=(1 - change, 1 + change),
            interpolation=v2.InterpolationMode.BILINEAR,
        )
        steps.insert(2, affine)
    return v2.Compose(steps)


class PlainFold:
    """Model, optimiser and data of one fold."""

    def __init__(
        self, fold: int, network: PolarNetwork, patients: Patients, config: dict[str, float]
    ) -> None:
        self.fold = fold
        self.patients = patients
        self.lambda_ = config["lambda"]
        self.model = copy.deepcopy(network)
        draw_linear(self.model.classifier, torch_generator(patients.study.seed, fold, "classifier"))
        layers = patients.study.network.trainable_layers
        chosen = trainable_parameters(self.model, layers, widened=False)
        for name, parameter in self.model.named_parameters():
            parameter.requires_grad = name in chosen
        self.optimiser = torch.optim.AdamW(
            [parameter for parameter in self.model.parameters() if parameter.requires_grad],
            lr=config["learning_rate"],
            weight_decay=config["weight_decay"],
        )
        segments = patients.standardised(fold)
        strength = config["augmentation_strength"]
        self.training = PolarMaps(patients, segments, transform_of(patients, strength))
        self.validation = PolarMaps(patients, segments, transform_of(patients, 0.0))

    def advance(self, epoch: int) -> float:
        """Train one epoch; return the validation AUC."""
        study, folds = self.patients.study, self.patients.folds
        size = study.training.batch_size
        generator = numpy_generator(study.seed, self.fold, "order", epoch=epoch)
        order = generator.permutation(np.flatnonzero(folds != self.fold)).tolist()
        self.model.eval()  # batch-norm statistics stay frozen, as ours do
        for pixels, target, segments in DataLoader(self.training, size, sampler=order):
            self.optimiser.zero_grad()
            loss_of(self.model(pixels), target, segments, self.lambda_).backward()  # type: ignore[no-untyped-call]
            self.optimiser.step()
        rows = np.flatnonzero(folds == self.fold)
        loader = DataLoader(Subset(self.validation, rows.tolist()), size)
        with torch.no_grad():
            outputs = torch.cat([self.model(pixels) for pixels, _, _ in loader])
        return auc(self.patients.target[rows], difference(outputs))


def train(config: dict[str, float], patients: Patients) -> None:
    """One trial of Ray Tune."""
    torch.manual_seed(patients.study.seed)
    network = patients.network()
    folds = [PlainFold(int(k), network, patients, config) for k in np.unique(patients.folds)]
    for epoch in range(1, patients.epochs + 1):
        areas = [fold.advance(epoch) for fold in folds]
        tune.report({"auc": sum(areas) / len(areas), "fold_auc": areas})


def run(job: Job) -> list[dict[str, Any]]:
    """Run a job; return the reports."""
    patients = open_patients(RunFiles(Path(job.run)), job.epochs)
    return run_trials(tune.with_parameters(train, patients=patients), job, reuse_actors=False)
