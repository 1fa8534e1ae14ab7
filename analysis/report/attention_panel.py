"""The report's panel on where the model looked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from analysis.judge.answer import number, percent
from analysis.judge.attention import (
    CLASSES,
    CONFIDENT,
    RANDOM_HEADS,
    read_attention,
    segment_means,
)
from analysis.judge.freeze import read_predictions
from analysis.report.attention_figures import draw_means, draw_patient, sureness
from analysis.report.drawing import Figure
from analysis.report.panels import table_of
from analysis.statistics.metrics import log_odds_of
from cohort.segments import SEGMENTS
from spaces.run_files import RunFiles

TABLE = "attention_segments"
DATA = "report/attention_segments.csv"
ARRAYS = "test/attention.safetensors"
ALIKE = 0.5
"""A rank correlation of this size is too high for pictures that depend on what was learnt."""
EARLIER = "An earlier version compared these pictures with one random head only; evaluate again."


@dataclass(frozen=True)
class AttentionPanel:
    """What is said and shown of the attention.

    Attributes:
        figures: by name.
        n: test patients.
        classes: the classes that the model says, in the order of the rows.
        rows: for each column and segment: its name, number, and mean by class.
        sanity: how alike the attention of random heads is, in a sentence.
        cells: height and width of the last feature maps.
    """

    figures: Mapping[str, Figure]
    n: int
    classes: Sequence[str]
    rows: Sequence[tuple[str, int, Sequence[float]]]
    sanity: str
    cells: tuple[int, int]


def show_attention(run: RunFiles) -> AttentionPanel | None:
    """Return the panel and write its table; None where attention was not computed."""
    found = read_attention(run)
    if found is None:
        return None
    content, tensors = found
    inputs, cams = content["inputs"], tensors["grad_cam"]
    positive = log_odds_of(read_predictions(run.predictions)[0]) >= 0
    groups = {name: positive == bool(at) for at, name in enumerate(CLASSES)}
    groups = {name: inside for name, inside in groups.items() if inside.any()}
    means = {name: cams[inside].mean(axis=0) for name, inside in groups.items()}
    rows = _rows(inputs, means)
    records = [
        {"map": name, "segment": segment, **dict(zip(means, values, strict=True))}
        for name, segment, values in rows
    ]
    table_of(run, TABLE, pd.DataFrame(records))
    figures = {
        f"attention_{one['called']}": Figure(
            draw_patient(tensors, one, at, inputs), _caption(one), [ARRAYS]
        )
        for at, one in enumerate(content["shown"])
    }
    counts = {name: int(inside.sum()) for name, inside in groups.items()}
    said = "; ".join(f"{n} patients called {name}" for name, n in counts.items())
    figures["attention_means"] = Figure(
        draw_means(means, inputs, counts),
        f"Mean Grad-CAM of the test patients by what the model says of them: {said}.",
        [DATA, ARRAYS],
    )
    sanity = _sanity(content.get(RANDOM_HEADS))
    return AttentionPanel(figures, len(cams), list(means), rows, sanity, cams.shape[-2:])


def _rows(
    inputs: Sequence[str], means: Mapping[str, np.ndarray]
) -> list[tuple[str, int, Sequence[float]]]:
    by_class = [segment_means(field) for field in means.values()]
    return [
        (name, segment + 1, [float(values[column, segment]) for values in by_class])
        for column, name in enumerate(inputs)
        for segment in range(SEGMENTS)
    ]


def _caption(one: Mapping[str, Any]) -> str:
    how = f"with {sureness(one['confidence'])} confidence"
    if one["confidence"] <= CONFIDENT:
        how += f", the highest there is (none exceeds {percent(CONFIDENT)})"
    return (
        f"The test patient whom the model calls {one['called']} most surely, {how}; chosen before "
        "the outcomes were opened. Red speaks for the positive class, blue against it; each method "
        "has a scale of its own, the same for all maps. Outside the disc nothing is shown."
    )


def _sanity(likeness: Mapping[str, Any] | None) -> str:
    """Return whether the pictures depend on what was learnt, as far as random heads can tell.

    Args:
        likeness: ``draws`` and the quartiles of the size of the rank correlation; None of a run
            that an earlier version attended to.
    """
    if likeness is None:
        return EARLIER
    median, low, high = (number(likeness[key]) for key in ("median", "low", "high"))
    verdict = "how far these pictures depend on what was learnt stays open"
    if likeness["high"] < ALIKE:
        verdict = "these pictures depend on what was learnt"
    elif likeness["low"] >= ALIKE:
        verdict = "these pictures show little of what was learnt"
    return (
        f"With the last convolution and the classifier drawn at random, {likeness['draws']} times, "
        f"Grad-CAM's ranks in the disc correlate with the model's by {median} in size (median over "
        f"patients and draws; quartiles {low} and {high}): {verdict}."
    )
