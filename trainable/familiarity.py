"""Whether a patient's maps look, to a trained network, like those that it was trained on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file
from sklearn.decomposition import PCA

from spaces.errors import RefusedError
from spaces.run_files import replacing

FILE = "familiarity.safetensors"
COMPONENTS = 32
SHARE_INSIDE = 0.99
_SMALLEST_VARIANCE = 1e-12


@dataclass(frozen=True)
class Familiarity:
    """A Gaussian with few free directions, fitted to the features before the classifier.

    The squared distance of a patient is that of Mahalanobis under probabilistic principal
    components: each component in units of its own variance, and everything else in units of the
    mean variance that is left (Tipping and Bishop 1999, doi:10.1111/1467-9868.00196). Distance in
    feature space as a sign of foreign input: Lee et al. 2018, arXiv:1807.03888.

    Attributes:
        mean: (d,), of the development patients' features.
        components: (k, d), orthonormal.
        variances: (k,), of the features along each component.
        rest: mean variance in the other directions.
        limit: the distance that 99 % of development patients keep when the fit has not seen them.
    """

    mean: np.ndarray
    components: np.ndarray
    variances: np.ndarray
    rest: float
    limit: float

    def distance(self, features: np.ndarray) -> np.ndarray:
        """Return the distance of each patient in units of ``limit``: above 1 is unfamiliar.

        Args:
            features: (n, d).
        """
        return _distance(self, features) / self.limit

    @classmethod
    def fit(cls, features: np.ndarray, folds: np.ndarray) -> Familiarity:
        """Return the fit to development features; its limit comes from patients it had not seen.

        Args:
            features: (n, d).
            folds: (n,) fold numbers.
        """
        held_out = np.empty(len(features))
        for fold in np.unique(folds):
            inside = folds == fold
            held_out[inside] = _distance(_fit(features[~inside], limit=1.0), features[inside])
        return _fit(features, limit=float(np.quantile(held_out, SHARE_INSIDE)))

    def save(self, folder: Path) -> None:
        """Write it beside the model, whole or not at all."""
        tensors = {
            "mean": self.mean,
            "components": self.components,
            "variances": self.variances,
            "scalars": np.array([self.rest, self.limit]),
        }
        with replacing(folder / FILE) as partial:
            save_file(tensors, partial)

    @classmethod
    def load(cls, folder: Path) -> Familiarity | None:
        """Return what ``save`` wrote; None for a model that was trained without it.

        Raises:
            RefusedError: the file is damaged.
        """
        path = folder / FILE
        if not path.is_file():
            return None
        try:
            found: Mapping[str, np.ndarray] = load_file(path)
            rest, limit = found["scalars"].tolist()
            (width,), (count,) = found["mean"].shape, found["variances"].shape
            components = found["components"].reshape(count, width)
            return cls(found["mean"], components, found["variances"], rest, limit)
        except (SafetensorError, OSError, KeyError, ValueError, TypeError):
            raise RefusedError(str(path), "the file is damaged", "Retrain the model") from None


def _fit(features: np.ndarray, *, limit: float) -> Familiarity:
    patients, width = features.shape
    wide = features.astype(np.float64)
    count = min(COMPONENTS, patients // 4, width - 1)
    fitted = PCA(count, svd_solver="full").fit(wide)
    return Familiarity(
        mean=fitted.mean_,
        components=np.ascontiguousarray(fitted.components_),
        variances=np.maximum(fitted.explained_variance_, _SMALLEST_VARIANCE),
        rest=max(float(fitted.noise_variance_), _SMALLEST_VARIANCE),
        limit=limit,
    )


def _distance(model: Familiarity, features: np.ndarray) -> np.ndarray:
    centred = features.astype(np.float64) - model.mean
    along = centred @ model.components.T
    outside = np.maximum((centred**2).sum(1) - (along**2).sum(1), 0.0)
    squared = (along**2 / model.variances).sum(1) + outside / model.rest
    return np.asarray(np.sqrt(squared))
