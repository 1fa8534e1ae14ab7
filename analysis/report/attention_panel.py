"""The report's panel on where the model looked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from analysis.judge.answer import number, percent
from analysis.judge.attention import CLASSES, CONFIDENT, read_attention, segment_means
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


@dataclass(frozen=True)
class AttentionPanel:
    """What is said and shown of the attention.

    Attributes:
        figures: by name.
        n: test patients.
        classes: the classes that the model says, in the order of the rows.
        rows: for each column and segment: its name, number, and mean by class.
        sanity: how alike the attention of a random head is, in a sentence.
    """

    figures: Mapping[str, Figure]
    n: int
    classes: Sequence[str]
    rows: Sequence[tuple[str, int, Sequence[float]]]
    sanity: str


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
    sanity = _sanity(content["rank_correlation_with_random_head"])
    return AttentionPanel(figures, len(cams), list(means), rows, sanity)


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
        "the outcomes were opened. Red speaks for the positive class, blue against it, each panel "
        "on a scale of its own. Outside the disc nothing is shown."
    )


def _sanity(agreement: Mapping[str, float]) -> str:
    median, low, high = (number(agreement[key]) for key in ("median", "low", "high"))
    verdict = "so these pictures show little of what was learnt"
    if abs(agreement["median"]) < 0.5:
        verdict = "so these pictures depend on what was learnt"
    return (
        f"With the last convolution and the classifier drawn at random, Grad-CAM's ranks correlate "
        f"by {median} with the model's (median of patients; quartiles {low} and {high}), {verdict}."
    )
