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

from analysis.judge.subgroups import FEWEST_SHOWN
from analysis.statistics.metrics import probability_of
from cohort.drawing.polar_map import DISC, canvas
from cohort.segments import SEGMENTS
from spaces.run_files import RunFiles, read_json, replacing, sha256_of, write_json

CONFIDENT = 0.9
HEADS = 20
"""Random heads: a single one that happens to prefer dark regions would decide too much."""
COVERED = 8
"""Patients of a class whose segments are covered: a pass for each segment, through all layers."""
READ_AT_ONCE = 64
SIDE = 112
"""Pixels a side in which attention is compared with the segments."""
CLASSES = ("negative", "positive")
BLACK, MEAN, SEGMENT = "black", "mean", "segment"
ROWS = "segment_rows"
RANDOM_HEADS = "rank_correlation_with_random_heads"
WITH_SEGMENTS = "patients_with_segments_covered"


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


def call(log_odds: np.ndarray) -> dict[str, np.ndarray]:
    """Return which patients the model calls negative and which positive, bool (n,) by class."""
    return {name: (log_odds >= 0) == bool(at) for at, name in enumerate(CLASSES)}


def draw_covered(log_odds: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Return whose segments are covered: rows of at most ``COVERED`` patients of each class.

    A class that the model says of fewer than five has no mean to show, so nobody of it is drawn.

    Args:
        log_odds: (n,), of the test patients.
        generator: draws them.
    """
    classes = [np.flatnonzero(inside) for inside in call(log_odds).values()]
    drawn = [
        generator.choice(rows, min(COVERED, len(rows)), replace=False)
        for rows in classes
        if len(rows) >= FEWEST_SHOWN
    ]
    return np.sort(np.concatenate([np.zeros(0, dtype=np.int64), *drawn]))


def attend(
    run: RunFiles,
    development: Mapping[str, Sequence[Path]],
    test: Mapping[str, Sequence[Path]],
    log_odds: np.ndarray,
    seed: int,
) -> None:
    """Write test/attention.safetensors and .json, unless they belong to these predictions.

    Grad-CAM of all test patients, and how alike it is with random heads; occlusion of the shown
    ones by a black square and by the mean development map, since black can mean no flow; of some
    drawn ones, segment by segment by the mean development map, for the means of each class: squares
    of all patients would take longer than everything else.

    Args:
        run: with its model and its test predictions.
        development: development patients' maps by input, for the mean map.
        test: test patients' maps by input.
        log_odds: (n,), the model's, of test patients.
        seed: draws the random heads, and the patients whose segments are covered.
    """
    import torch

    from trainable.attention import GradCam, cover, draw_heads, occlude
    from trainable.model import load_model

    digest = sha256_of(run.predictions)
    if _is_done(run, digest):
        return
    model = load_model(run.model)
    look = GradCam(model, draw_heads(model, HEADS, torch.Generator().manual_seed(seed)))
    inputs, size = model.info["inputs"], int(model.info["image_size"])
    parts = [look(maps) for maps in _read(test, inputs, size)]
    cams = np.concatenate([part[0] for part in parts])
    likeness = np.concatenate([measure_likeness(part[0], part[1:]) for part in parts], axis=1)
    shown = choose_shown(probability_of(log_odds))
    maps = _read_rows(test, inputs, size, [one.row for one in shown])
    mean = _mean_maps(development, inputs, size)
    rows = draw_covered(log_odds, np.random.default_rng(seed))
    covered = np.zeros((0, cams.shape[1], SEGMENTS), dtype=np.float32)
    if len(rows):
        some = _read_rows(test, inputs, size, rows.tolist())
        covered = cover(model, some, mean, fading_segments(size))
    tensors = {
        "grad_cam": cams,
        "likeness": likeness.astype(np.float32),
        "maps": np.stack(maps, axis=1),
        BLACK: occlude(model, maps, [np.zeros_like(picture) for picture in mean]),
        MEAN: occlude(model, maps, mean),
        SEGMENT: covered,
        ROWS: rows,
    }
    with replacing(run.attention.with_suffix(".safetensors")) as partial:
        save_file({name: np.ascontiguousarray(value) for name, value in tensors.items()}, partial)
    content = {
        "predictions": digest,
        "inputs": inputs if cams.shape[1] > 1 else ["+".join(inputs)],
        "shown": [vars(one) for one in shown],
        WITH_SEGMENTS: len(rows),
        RANDOM_HEADS: {"draws": HEADS, **_quartiles(likeness)},
    }
    write_json(run.attention, "attention", content)


def _is_done(run: RunFiles, digest: str) -> bool:
    """Whether the attention of these predictions is there."""
    return run.attention.exists() and read_json(run.attention, "attention")["predictions"] == digest


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


def fading_segments(size: int) -> np.ndarray:
    """Return how much of each pixel belongs to each segment, float32 (17, size, size).

    They fade into each other as a camera's do, and sum to 1 inside the disc: a sharp rim in the
    middle of a map would be seen by a network that knows none.
    """
    geometry = canvas(size)
    shares = np.zeros((SEGMENTS, size * size), dtype=np.float32)
    shares[:, geometry.position] = geometry.blur
    return shares.reshape(SEGMENTS, size, size)


def measure_likeness(fields: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Return the size of Spearman's correlation of attentions, (heads, n), in [0, 1].

    Compared are the cells whose middle lies in the disc, of all maps of a patient together. What
    is the same everywhere shows nothing of its own, and counts as 1.

    Args:
        fields: of the model, (n, columns, h, w).
        others: of the random heads, (heads, n, columns, h, w).
    """
    inside = _in_disc(*fields.shape[-2:])
    cells = [each[..., inside].reshape(*each.shape[:-3], -1) for each in (fields, others)]
    ranks = [rankdata(each, axis=-1) for each in cells]
    centred = [rank - rank.mean(axis=-1, keepdims=True) for rank in ranks]
    squares = [(each**2).sum(axis=-1) for each in centred]
    scale = np.sqrt(squares[0] * squares[1])
    together = (centred[0] * centred[1]).sum(axis=-1)
    return np.asarray(np.abs(np.divide(together, scale, out=np.ones_like(scale), where=scale > 0)))


def _in_disc(height: int, width: int) -> np.ndarray:
    """Return which cells of a coarse map have their middle in the disc, bool (h, w)."""
    down, across = (
        (np.arange(count) - (count - 1) / 2) / (DISC * count) for count in (height, width)
    )
    return np.asarray(down[:, None] ** 2 + across**2 <= 1)


def _quartiles(values: np.ndarray) -> dict[str, float]:
    quartiles = np.percentile(values, [25, 50, 75])
    return dict(zip(("low", "median", "high"), map(float, quartiles), strict=True))


def _read(images: Mapping[str, Sequence[Path]], inputs: Sequence[str], size: int) -> Any:
    """Yield the maps of some patients at a time, one uint8 (n, 3, size, size) for each input."""
    from cohort.reading.images import read_images

    for at in range(0, len(images[inputs[0]]), READ_AT_ONCE):
        yield [read_images(images[name][at : at + READ_AT_ONCE], size) for name in inputs]


def _read_rows(
    images: Mapping[str, Sequence[Path]], inputs: Sequence[str], size: int, rows: Sequence[int]
) -> list[np.ndarray]:
    """Return the maps of a few patients together."""
    [maps] = _read({name: [images[name][row] for row in rows] for name in inputs}, inputs, size)
    return list(maps)


def _mean_maps(
    images: Mapping[str, Sequence[Path]], inputs: Sequence[str], size: int
) -> list[np.ndarray]:
    """Return the mean picture of each input, uint8 (3, size, size)."""
    sums = [np.zeros((3, size, size)) for _ in inputs]
    for maps in _read(images, inputs, size):
        sums = [total + pixels.sum(axis=0) for total, pixels in zip(sums, maps, strict=True)]
    count = len(images[inputs[0]])
    return [np.rint(total / count).astype(np.uint8) for total in sums]
