"""The report's panel on where the model looked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from typing import Any

import numpy as np
import pandas as pd

from analysis.judge.answer import number, percent
from analysis.judge.attention import (
    CONFIDENT,
    COVERED,
    RANDOM_HEADS,
    ROWS,
    SEGMENT,
    SIDE,
    call,
    read_attention,
    segment_means,
)
from analysis.judge.freeze import read_predictions
from analysis.judge.subgroups import FEWEST_SHOWN
from analysis.report.attention_figures import draw_means, draw_patient, sureness
from analysis.report.drawing import Figure
from analysis.report.panels import table_of
from analysis.statistics.metrics import log_odds_of
from cohort.drawing.polar_map import canvas
from cohort.segments import SEGMENTS
from spaces.run_files import RunFiles

TABLE = "attention_segments"
DATA = "report/attention_segments.csv"
ARRAYS = "test/attention.safetensors"
ALIKE = 0.5
"""A rank correlation of this size is too high for pictures that depend on what was learnt."""
GRAD_CAM, OCCLUSION = "Grad-CAM", "segments covered"


@dataclass(frozen=True)
class GroupMean:
    """The mean attention of test patients whom the model calls alike.

    Attributes:
        method: Grad-CAM, or occlusion of whole segments.
        called: the class that the model says of them.
        n: how many they are.
        field: (columns, h, w), in logits; None of fewer than five, whose mean could name somebody.
    """

    method: str
    called: str
    n: int
    field: np.ndarray | None

    @cached_property
    def segments(self) -> np.ndarray | None:
        """The mean in each segment, (columns, 17)."""
        return None if self.field is None else segment_means(self.field)

    def of_segment(self, column: int, segment: int) -> float | None:
        """Return the mean in a 1-based segment of a map."""
        return None if self.segments is None else float(self.segments[column, segment - 1])


@dataclass(frozen=True)
class AttentionPanel:
    """What is said and shown of the attention.

    Attributes:
        figures: by name.
        n: test patients.
        means: of each method and class, in the order of the table's columns.
        rows: for each column and segment: its name, number, and the means.
        sanity: how alike the attention of random heads is, in a sentence.
        covered: of whom the segments were covered, in a sentence.
        cells: height and width of the last feature maps.
    """

    figures: Mapping[str, Figure]
    n: int
    means: Sequence[GroupMean]
    rows: Sequence[tuple[str, int, Sequence[float | None]]]
    sanity: str
    covered: str
    cells: tuple[int, int]


def show_attention(run: RunFiles) -> AttentionPanel | None:
    """Return the panel and write its table; None where attention was not computed."""
    found = read_attention(run)
    if found is None:
        return None
    content, tensors = found
    inputs, cams = content["inputs"], tensors["grad_cam"]
    means = mean_by_class(log_odds_of(read_predictions(run.predictions)[0]), tensors)
    rows = [
        (name, segment, [its.of_segment(column, segment) for its in means])
        for column, name in enumerate(inputs)
        for segment in range(1, SEGMENTS + 1)
    ]
    records = [
        {"map": name, "segment": segment}
        | {"method": its.method, "called": its.called, "n": its.n, "mean": value}
        for name, segment, values in rows
        for its, value in zip(means, values, strict=True)
    ]
    table_of(run, TABLE, pd.DataFrame(records))
    figures = {
        f"attention_{one['called']}": Figure(
            draw_patient(tensors, one, at, inputs), _caption(one), [ARRAYS]
        )
        for at, one in enumerate(content["shown"])
    }
    if any(its.field is not None for its in means):
        figures["attention_means"] = Figure(_draw(means, inputs), say_means(means), [DATA])
    sanity = _sanity(content[RANDOM_HEADS])
    covered = say_covered([its for its in means if its.method == OCCLUSION])
    return AttentionPanel(figures, len(cams), means, rows, sanity, covered, cams.shape[-2:])


def mean_by_class(log_odds: np.ndarray, tensors: Mapping[str, np.ndarray]) -> list[GroupMean]:
    """Return each method's mean of the patients called negative and of those called positive.

    A class that nobody was called is left out.

    Args:
        log_odds: (n,), of the test patients.
        tensors: of test/attention.safetensors.
    """
    groups = {name: np.flatnonzero(inside) for name, inside in call(log_odds).items()}
    groups = {name: rows for name, rows in groups.items() if len(rows)}
    found = [
        GroupMean(GRAD_CAM, called, len(rows), _mean(tensors["grad_cam"][rows]))
        for called, rows in groups.items()
    ]
    # What lies outside the disc takes the last segment's value, and is not drawn.
    painted = tensors[SEGMENT][..., canvas(SIDE).segment]
    for called, rows in groups.items():
        its = painted[np.isin(tensors[ROWS], rows)]
        found.append(GroupMean(OCCLUSION, called, len(its), _mean(its)))
    return found


def _draw(means: Sequence[GroupMean], inputs: Sequence[str]) -> str:
    shown: dict[str, dict[str, tuple[int, np.ndarray]]] = {its.method: {} for its in means}
    for its in means:
        if its.field is not None:
            shown[its.method][its.called] = (its.n, its.field)
    return draw_means(shown, inputs, list(dict.fromkeys(its.called for its in means)))


def _mean(fields: np.ndarray) -> np.ndarray | None:
    return np.asarray(fields.mean(axis=0)) if len(fields) >= FEWEST_SHOWN else None


def say_means(means: Sequence[GroupMean]) -> str:
    """Return whose means are drawn, and whose are not."""
    said = [
        f"{method}: " + ", ".join(f"{its.n} called {its.called}" for its in of if its.n)
        for method, of in groupby(means, key=lambda its: its.method)
    ]
    hidden = any(its.field is None for its in means)
    withheld = f" A mean of fewer than {FEWEST_SHOWN} is not shown." * hidden
    return (
        "Mean attention of test patients by what the model says of them "
        f"({'; '.join(said)}). Each method has a scale of its own.{withheld}"
    )


def say_covered(means: Sequence[GroupMean]) -> str:
    """Return of whom segments were covered, and how.

    Args:
        means: of that method, by class.
    """
    counts = " and ".join(f"{its.n} called {its.called}" for its in means)
    return (
        f"Segments covered: by how much the score falls, on average, when a whole segment shows "
        "the mean development map instead, fading into its neighbours. Of each class at most "
        f"{COVERED} test patients were drawn at random before the outcomes were opened (here "
        f"{counts}), as every segment costs a pass of the whole network; none of a class with "
        f"fewer than {FEWEST_SHOWN}. Larger segments weigh more; and a piece of a mean map "
        "in another map is nothing that the network was trained on, which alone may move the score."
    )


def _caption(one: Mapping[str, Any]) -> str:
    how = f"with {sureness(one['confidence'])} confidence"
    if one["confidence"] <= CONFIDENT:
        how += f", the highest there is (none exceeds {percent(CONFIDENT)})"
    return (
        f"The test patient whom the model calls {one['called']} most surely, {how}; chosen before "
        "the outcomes were opened. Red speaks for the positive class, blue against it; each method "
        "has a scale of its own, the same for all maps. Outside the disc nothing is shown."
    )


def _sanity(likeness: Mapping[str, Any]) -> str:
    """Return whether the pictures depend on what was learnt, as far as random heads can tell.

    Args:
        likeness: ``draws`` and the quartiles of the size of the rank correlation.
    """
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
