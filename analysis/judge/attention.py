"""Where the model looked, for test patients before their outcomes are opened.

Whom to show is decided by what the model said of them, never by whether it was right.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save_file
from scipy.ndimage import zoom
from scipy.stats import rankdata

from cohort.drawing.polar_map import canvas
from cohort.segments import SEGMENTS
from spaces.run_files import RunFiles, read_json, replacing, sha256_of, write_json

CONFIDENT = 0.9
READ_AT_ONCE = 64
SIDE = 112
"""Pixels a side in which attention is compared with the segments."""
CLASSES = ("negative", "positive")
BLACK, MEAN = "black", "mean"


@dataclass(frozen=True)
class Shown:
    """A test patient whose attention is shown.

    Attributes:
        row: of the test predictions.
        called: the class that the model says, ``negative`` or ``positive``.
        confidence: the probability of that class.
    """

    row: int
    called: str
    confidence: float


def choose_shown(probability: np.ndarray) -> list[Shown]:
    """Return the most confident patient of each class that the model says, if it says both.

    Args:
        probability: (n,), of the positive class.
    """
    found = []
    for at, called in enumerate(CLASSES):
        confidence = probability if at else 1 - probability
        row = int(np.argmax(confidence))
        if confidence[row] >= 0.5:
            found.append(Shown(row, called, float(confidence[row])))
    return found


def attend(
    run: RunFiles,
    development: Mapping[str, Sequence[Path]],
    test: Mapping[str, Sequence[Path]],
    probability: np.ndarray,
    seed: int,
) -> None:
    """Write test/attention.safetensors and .json, unless they belong to these predictions.

    Grad-CAM of all test patients, of the model and of one with a random head; occlusion of the
    shown ones by a black square and by the mean development map, since black can mean no flow.

    Args:
        run: with its model and its test predictions.
        development: development patients' maps by input, for the mean map.
        test: test patients' maps by input.
        probability: (n,), the model's, of test patients.
        seed: draws the random head.
    """
    import torch

    from trainable.attention import grad_cam, occlude, with_random_head
    from trainable.model import load_model

    digest = sha256_of(run.predictions)
    if run.attention.exists() and read_json(run.attention, "attention")["predictions"] == digest:
        return
    model = load_model(run.model)
    random = with_random_head(model, torch.Generator().manual_seed(seed))
    inputs, size = model.info["inputs"], int(model.info["image_size"])
    parts = list(_read(test, inputs, size))
    cams = np.concatenate([grad_cam(model, maps) for maps in parts])
    control = np.concatenate([grad_cam(random, maps) for maps in parts])
    shown = choose_shown(probability)
    chosen = {name: [test[name][one.row] for one in shown] for name in inputs}
    [maps] = _read(chosen, inputs, size)
    mean = _mean_maps(development, inputs, size)
    tensors = {
        "grad_cam": cams,
        "grad_cam_random": control,
        "maps": np.stack(maps, axis=1),
        BLACK: occlude(model, maps, [np.zeros_like(picture) for picture in mean]),
        MEAN: occlude(model, maps, mean),
    }
    with replacing(run.attention.with_suffix(".safetensors")) as partial:
        save_file({name: np.ascontiguousarray(value) for name, value in tensors.items()}, partial)
    content = {
        "predictions": digest,
        "inputs": inputs if cams.shape[1] > 1 else ["+".join(inputs)],
        "shown": [vars(one) for one in shown],
        "rank_correlation_with_random_head": _agreements(cams, control),
    }
    write_json(run.attention, "attention", content)


def read_attention(run: RunFiles) -> tuple[dict[str, Any], dict[str, np.ndarray]] | None:
    """Return what ``attend`` wrote, None if it has not been done."""
    if not run.attention.exists():
        return None
    content = read_json(run.attention, "attention")
    return content, load_file(run.attention.with_suffix(".safetensors"))


def enlarge(fields: np.ndarray) -> np.ndarray:
    """Return square fields (n, h, w) at ``SIDE`` pixels a side, bilinearly, in float64."""
    height, width = fields.shape[1:]
    factors = (1, SIDE / height, SIDE / width)
    return np.asarray(
        zoom(fields.astype(np.float64), factors, order=1, mode="nearest", grid_mode=True)
    )


def segment_means(fields: np.ndarray) -> np.ndarray:
    """Return the mean of each segment, (n, 17), of square fields (n, h, w), in the usual layout.

    Pixels outside the disc belong to no segment.
    """
    geometry = canvas(SIDE)
    inside = enlarge(fields).reshape(len(fields), -1)[:, geometry.position]
    means = geometry.segment_means(inside)
    assert means.shape[1] == SEGMENTS
    return means


def _agreements(one: np.ndarray, other: np.ndarray) -> dict[str, float]:
    """Return Spearman's correlation of two attentions over the pixels: quartiles over patients."""
    ranks = [rankdata(each.reshape(len(each), -1), axis=1) for each in (one, other)]
    centred = [rank - rank.mean(axis=1, keepdims=True) for rank in ranks]
    scale = np.sqrt((centred[0] ** 2).sum(1) * (centred[1] ** 2).sum(1))
    together = (centred[0] * centred[1]).sum(1)
    found = np.divide(together, scale, out=np.zeros(len(scale)), where=scale > 0)
    quartiles = np.percentile(found, [25, 50, 75])
    return dict(zip(("low", "median", "high"), map(float, quartiles), strict=True))


def _read(images: Mapping[str, Sequence[Path]], inputs: Sequence[str], size: int) -> Any:
    """Yield the maps of some patients at a time, one uint8 (n, 3, size, size) for each input."""
    from cohort.reading.images import read_images

    for at in range(0, len(images[inputs[0]]), READ_AT_ONCE):
        yield [read_images(images[name][at : at + READ_AT_ONCE], size) for name in inputs]


def _mean_maps(
    images: Mapping[str, Sequence[Path]], inputs: Sequence[str], size: int
) -> list[np.ndarray]:
    """Return the mean picture of each input, uint8 (3, size, size)."""
    sums = [np.zeros((3, size, size)) for _ in inputs]
    for maps in _read(images, inputs, size):
        sums = [total + pixels.sum(axis=0) for total, pixels in zip(sums, maps, strict=True)]
    count = len(images[inputs[0]])
    return [np.rint(total / count).astype(np.uint8) for total in sums]
