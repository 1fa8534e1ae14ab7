"""The multi-task loss and the scale on which segment values are learnt."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from cohort.segments import SEGMENTS

LOGITS = slice(SEGMENTS, SEGMENTS + 2)


@dataclass(frozen=True)
class Scale:
    """Mean and standard deviation of each segment over the training patients.

    Attributes:
        mean: (17,), in the units of the column.
        deviation: (17,), likewise, > 0.
    """

    mean: np.ndarray
    deviation: np.ndarray

    @classmethod
    def of(cls, segments: np.ndarray) -> Scale:
        """Measure (n, 17) training values; missing ones are nan.

        A segment that nobody has, or that never varies, gets mean 0 or its value, and SD 1.
        """
        known = np.isfinite(segments)
        counts = np.maximum(known.sum(axis=0), 1)
        mean = np.where(known, segments, 0.0).sum(axis=0) / counts
        squares = np.where(known, (segments - mean) ** 2, 0.0).sum(axis=0) / counts
        return cls(mean, np.where(squares > 0, np.sqrt(squares), 1.0))

    def standardise(self, segments: np.ndarray) -> np.ndarray:
        """Return (n, 17) values with mean 0 and SD 1 over the training patients."""
        return np.asarray((segments - self.mean) / self.deviation)

    def restore(self, outputs: np.ndarray) -> np.ndarray:
        """Return network outputs (n, 17) in the units of the column."""
        return np.asarray(outputs * self.deviation + self.mean)


def balanced_weights(target: np.ndarray) -> np.ndarray:
    """Return the weight of a negative and of a positive patient, float32 (2,).

    Each class gets half of the weight, the mean weight of a labelled patient is 1:
    n / (2 n of the class), as scikit-learn's ``class_weight="balanced"``.

    Args:
        target: (n,) of training patients only; 0 or 1, nan where unknown.

    >>> balanced_weights(np.array([0.0, 0.0, 0.0, 1.0, np.nan])).round(3).tolist()
    [0.6669999957084656, 2.0]
    """
    known = target[np.isfinite(target)]
    counts = np.array([np.sum(known == 0), np.sum(known == 1)])
    return np.asarray(len(known) / (2 * np.maximum(counts, 1)), dtype=np.float32)


def cross_entropy(outputs: Tensor, target: Tensor, weights: Tensor | None = None) -> Tensor:
    """Return the mean cross-entropy of the patients whose label is known, else 0.

    Weights multiply each patient's term; the mean stays over patients, so that a batch counts by
    whom it holds and the expected gradient is that of the weighted loss of all of them.

    Args:
        outputs: (batch, 19).
        target: (batch,) float, 0 or 1, nan where unknown.
        weights: (2,), of a negative and of a positive patient; None for 1 each.
    """
    known = ~torch.isnan(target)
    if not bool(known.any()):
        return outputs.sum() * 0.0  # a zero that can be differentiated
    logits, labels = outputs[known][:, LOGITS], target[known].long()
    if weights is None:
        return functional.cross_entropy(logits, labels)
    return functional.cross_entropy(logits, labels, weights, reduction="sum") / len(labels)


def squared_error(outputs: Tensor, segments: Tensor) -> Tensor:
    """Return the mean squared error of the known, standardised segment values, else 0.

    Args:
        outputs: (batch, 19).
        segments: (batch, 17), nan where unknown.
    """
    known = ~torch.isnan(segments)
    if not bool(known.any()):
        return outputs.sum() * 0.0
    return functional.mse_loss(outputs[:, :SEGMENTS][known], segments[known])


def multi_task_loss(
    outputs: Tensor,
    target: Tensor,
    segments: Tensor | None,
    lambda_: float,
    weights: Tensor | None = None,
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """Return total loss, cross-entropy and squared error.

    total = lambda * cross-entropy + (1 - lambda) * mean squared error (Yeung et al. 2022,
    doi:10.1007/s12350-022-02920-x). A term with weight 0 does not enter at all, so lambda = 1
    ignores the segment values and lambda = 0 the class labels. A term that cannot be had is None.
    ``weights`` are those of ``cross_entropy``.
    """
    classification = cross_entropy(outputs, target, weights) if lambda_ > 0 else None
    regression = squared_error(outputs, segments) if lambda_ < 1 and segments is not None else None
    total = outputs.new_zeros(())
    if classification is not None:
        total = total + lambda_ * classification
    if regression is not None:
        total = total + (1 - lambda_) * regression
    return total, classification, regression
