"""The training loop: all folds advance together, one epoch at a time.

Each epoch trains fold 0, 1, ... once and validates each, so every number a trial reports is a full
cross-validation. The final model is trained by the same loop, as a single fold that holds every
development patient and validates none.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from spaces.parameters import Configuration
from spaces.sections import TrainingSection
from trainable.features import Features
from trainable.head import Head
from trainable.loss import LOGITS, Scale, balanced_weights, multi_task_loss
from trainable.metrics import auc
from trainable.seeds import numpy_generator, torch_generator

VALIDATION_BATCH = 32


def nothing() -> None:
    """Do nothing."""


@dataclass(frozen=True)
class Fold:
    """Development rows that train and validate; they share no patient.

    Attributes:
        number: seeds belong to it; the development-set model has the number of folds.
        train: row numbers.
        validation: row numbers, empty for the development-set model.
    """

    number: int
    train: np.ndarray
    validation: np.ndarray

    def __post_init__(self) -> None:
        if np.intersect1d(self.train, self.validation).size:
            raise ValueError(f"fold {self.number} validates patients that it trains on")


def cross_validation_folds(assignment: np.ndarray) -> list[Fold]:
    """Return the folds of (n,) fold numbers: fold k validates the patients with number k."""
    return [
        Fold(int(k), np.flatnonzero(assignment != k), np.flatnonzero(assignment == k))
        for k in np.unique(assignment)
    ]


@dataclass(frozen=True)
class Labels:
    """What the development patients are trained towards.

    Attributes:
        target: (n,) 0 or 1, nan where missing.
        segments: (n, 17) in the units of the column, nan where missing; None without segments.
    """

    target: np.ndarray
    segments: np.ndarray | None


@dataclass(frozen=True)
class EpochReport:
    """One epoch of all folds.

    Attributes:
        epoch: 1-based.
        auc: validation AUC of each fold.
        pooled_auc: AUC of the pooled out-of-fold logit differences.
        loss: one value a fold, under the names of ``spaces.trial_log.LOSSES``; terms that do not
            exist (no segments) are absent.
        seconds: computing time.
        logits: float32 (n, 2), out-of-fold, (negative, positive).
        finite: whether every loss and AUC is a number.
    """

    epoch: int
    auc: tuple[float, ...]
    pooled_auc: float
    loss: Mapping[str, tuple[float, ...]]
    seconds: float
    logits: np.ndarray
    finite: bool


class FoldTraining:
    """One fold's head, optimiser and scale.

    Attributes:
        features: the trunk outputs that it trains on.
    """

    def __init__(
        self,
        fold: Fold,
        head: Head,
        labels: Labels,
        configuration: Configuration,
        training: TrainingSection,
        *,
        features: Features,
        seed: int,
        views: int,
        device: str,
        start: Mapping[str, Tensor] | None = None,
    ) -> None:
        self.fold = fold
        self.head = head.copy(torch_generator(seed, fold.number, "classifier")).to(device)
        if start is not None:
            self.head.start_from(start)
        self.features = features
        self.configuration = configuration
        self.training = training
        self.seed = seed
        self.views = views
        self.parameters = self.head.parameters_that_train()
        self.optimiser = torch.optim.AdamW(
            self.parameters,
            lr=configuration.learning_rate,
            weight_decay=configuration.weight_decay,
            fused=True,
        )
        self.target = torch.from_numpy(labels.target.astype(np.float32)).to(device)
        self.weights: Tensor | None = None
        if training.class_weight == "balanced":
            weights = balanced_weights(labels.target[fold.train])
            self.weights = torch.from_numpy(weights).to(device)
        self.scale: Scale | None = None
        self.segments: Tensor | None = None
        if labels.segments is not None:
            self.scale = Scale.of(labels.segments[fold.train])
            standardised = self.scale.standardise(labels.segments).astype(np.float32)
            self.segments = torch.from_numpy(standardised).to(device)

    def train(self, epoch: int, beat: Callable[[], None] = nothing) -> dict[str, float]:
        """Train one epoch; return the mean losses over its batches, weighted by their patients."""
        generator = numpy_generator(self.seed, self.fold.number, "order", epoch=epoch)
        order = generator.permutation(self.fold.train)
        batches = np.array_split(
            order, range(self.training.batch_size, len(order), self.training.batch_size)
        )
        view = (epoch - 1) % self.views
        sums: dict[str, Tensor] = {}
        for number, rows in enumerate(batches):
            self._set_learning_rate(epoch - 1 + number / len(batches))
            maps = self.features.read(self.configuration.augmentation_strength, view, rows)
            losses = self._losses(self.head(maps), rows, self.configuration.lambda_)
            self.optimiser.zero_grad(set_to_none=True)
            losses["total"].backward()  # type: ignore[no-untyped-call]
            self.optimiser.step()
            beat()
            for name, value in losses.items():
                share = value.detach() * (len(rows) / len(order))
                sums[name] = sums[name] + share if name in sums else share
        return {name: float(value) for name, value in sums.items()}

    @torch.inference_mode()
    def validate(self) -> tuple[np.ndarray, dict[str, float]]:
        """Return the outputs (validation patients, 19) and losses on the plain images."""
        outputs = self.predict(self.fold.validation)
        losses = self._losses(outputs, self.fold.validation, self.configuration.lambda_)
        # Both terms are of interest on validation patients, also where one has weight 0.
        if 0 < self.configuration.lambda_ < 1:
            terms = losses
        else:
            terms = self._losses(outputs, self.fold.validation, 0.5) | {"total": losses["total"]}
        return outputs.cpu().numpy(), {name: float(value) for name, value in terms.items()}

    @torch.inference_mode()
    def predict(self, rows: np.ndarray) -> Tensor:
        """Return the outputs (rows, 19) on the plain images."""
        return self._on_plain_images(self.head, rows)

    @torch.inference_mode()
    def represent(self, rows: np.ndarray) -> Tensor:
        """Return what the classifier sees, (rows, features x maps), on the plain images."""
        return self._on_plain_images(self.head.features, rows)

    def _on_plain_images(self, function: Callable[..., Tensor], rows: np.ndarray) -> Tensor:
        parts = np.array_split(rows, range(VALIDATION_BATCH, len(rows), VALIDATION_BATCH))
        return torch.cat([function(self.features.read(0.0, 0, part)) for part in parts])

    def _losses(self, outputs: Tensor, rows: np.ndarray, lambda_: float) -> dict[str, Tensor]:
        at = torch.from_numpy(rows).to(outputs.device)
        segments = None if self.segments is None else self.segments[at]
        total, classification, regression = multi_task_loss(
            outputs, self.target[at], segments, lambda_, self.weights
        )
        terms = {"total": total, "classification": classification, "regression": regression}
        return {name: value for name, value in terms.items() if value is not None}

    def _set_learning_rate(self, epochs_done: float) -> None:
        if self.training.schedule == "constant":
            return
        horizon = self.training.horizon or self.training.epochs
        share = 0.5 * (1 + math.cos(math.pi * min(1.0, epochs_done / horizon)))
        for group in self.optimiser.param_groups:
            group["lr"] = self.configuration.learning_rate * share

    def state(self) -> dict[str, Tensor]:
        """Return weights and optimiser state as flat tensors."""
        found: dict[str, Tensor] = {}
        trained = self.head.trained()
        for parameter, (name, weight) in zip(self.parameters, trained.items(), strict=True):
            found[f"weight/{name}"] = weight
            for key, value in self.optimiser.state[parameter].items():
                found[f"{key}/{name}"] = value
        return found

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Continue from ``state``."""
        names = [name for _, name in self.head.names]
        self.head.load_trained({name: state[f"weight/{name}"] for name in names})
        for parameter, name in zip(self.parameters, names, strict=True):
            self.optimiser.state[parameter] = {
                key: state[f"{key}/{name}"].to(parameter.device)
                for key in ("step", "exp_avg", "exp_avg_sq")
            }


class CrossValidation:
    """All folds of one configuration, in lock-step."""

    def __init__(self, trainings: Sequence[FoldTraining], labels: Labels) -> None:
        self.trainings = trainings
        self.labels = labels
        self.epoch = 0

    def advance(self, beat: Callable[[], None] = nothing) -> EpochReport:
        """Train every fold for one epoch and validate it; ``beat`` is called after each batch."""
        started = time.perf_counter()
        self.epoch += 1
        logits = np.full((len(self.labels.target), 2), np.nan, dtype=np.float32)
        losses: dict[str, list[float]] = {}
        areas = []
        for training in self.trainings:
            trained = training.train(self.epoch, beat)
            rows = training.fold.validation
            validated: dict[str, float] = {}
            if len(rows):
                outputs, validated = training.validate()
                logits[rows] = outputs[:, LOGITS]
                areas.append(auc(self.labels.target[rows], _difference(logits[rows])))
            for part, terms in (("train", trained), ("validation", validated)):
                for name, value in terms.items():
                    losses.setdefault(f"{part}_{name}", []).append(value)
        numbers = [*areas, *(value for values in losses.values() for value in values)]
        return EpochReport(
            epoch=self.epoch,
            auc=tuple(areas),
            pooled_auc=auc(self.labels.target, _difference(logits)),
            loss={name: tuple(values) for name, values in losses.items()},
            seconds=time.perf_counter() - started,
            logits=logits,
            finite=all(math.isfinite(number) for number in numbers),
        )

    def save(self, path: Path) -> None:
        """Write everything needed to continue."""
        tensors = {
            f"{training.fold.number}/{name}": value.detach().cpu().contiguous()
            for training in self.trainings
            for name, value in training.state().items()
        }
        metadata = {"format": "polartune/checkpoint/1", "epoch": str(self.epoch)}
        save_file(tensors, path, metadata)

    def restore(self, path: Path) -> None:
        """Continue from what ``save`` wrote.

        Raises:
            safetensors.SafetensorError, OSError, KeyError: the file is damaged.
        """
        with safe_open(path, framework="pt") as file:
            state = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
            epoch = int(file.metadata()["epoch"])
        for training in self.trainings:
            prefix = f"{training.fold.number}/"
            own = {n.removeprefix(prefix): v for n, v in state.items() if n.startswith(prefix)}
            training.load_state(own)
        self.epoch = epoch

    def close(self) -> None:
        """Free the heads."""
        self.trainings = ()


def _difference(logits: np.ndarray) -> np.ndarray:
    return np.asarray(logits[:, 1] - logits[:, 0])
