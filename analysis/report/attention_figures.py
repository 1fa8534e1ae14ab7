"""Attention drawn on the polar map: single patients, and the mean of everyone called alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas
from matplotlib.patches import Circle
from scipy.ndimage import zoom

from analysis.judge.answer import SPACE, maps_of, percent
from analysis.judge.attention import BLACK, MEAN, SIDE
from analysis.report.drawing import GREY, INK, styled, svg_of
from cohort.drawing.polar_map import DISC, canvas

# Blue against, red for the positive class; white where nothing speaks.
COLOURS = "RdBu_r"
ACROSS = 2.3
RINGS = (0.25, 0.5, 0.75, 1.0)
HEADINGS = {"grad_cam": "Grad-CAM", BLACK: "black square", MEAN: "mean map's square"}


@styled
def draw_patient(
    tensors: Mapping[str, np.ndarray], one: Mapping[str, Any], at: int, inputs: Sequence[str]
) -> str:
    """Return one patient's maps, each with its Grad-CAM and both occlusions.

    Args:
        tensors: of test/attention.safetensors.
        one: the patient, an entry of ``shown``.
        at: its place among the shown ones.
        inputs: a name for each column.
    """
    fields = {
        "grad_cam": tensors["grad_cam"][one["row"]],
        BLACK: tensors[BLACK][at],
        MEAN: tensors[MEAN][at],
    }
    drawn, grid = _grid(2 * len(inputs), 2)  # four panels a map: a phone shows them large enough
    for column, name in enumerate(inputs):
        panels = grid[2 * column : 2 * column + 2].ravel()
        picture = tensors["maps"][at, column].transpose(1, 2, 0)
        _show(panels[0], picture / 255.0)
        panels[0].set_title(maps_of(name.split("+")))
        for panel, (kind, field) in zip(panels[1:], fields.items(), strict=True):
            _show(panel, field[column], limit=_limit(field))
            panel.set_title(HEADINGS[kind])
    said = f"the model says {one['called']} with {sureness(one['confidence'])} confidence"
    title = f"Where the model looked in one patient: {said}"
    return svg_of(drawn, f"attention-{one['called']}", title, "Blue against, red for positive.")


def sureness(confidence: float) -> str:
    """Return a confidence in percent; no model is entirely sure."""
    return percent(confidence) if confidence < 0.995 else f"over 99{SPACE}%"


@styled
def draw_means(
    means: Mapping[str, Mapping[str, tuple[int, np.ndarray]]],
    inputs: Sequence[str],
    classes: Sequence[str],
) -> str:
    """Return the mean attention of the patients called alike: a row for each map and method.

    Args:
        means: patients and field (columns, h, w), by method and by class; a mean that must not be
            shown is absent.
        inputs: a name for each column of the fields.
        classes: those that were said.
    """
    drawn, grid = _grid(len(inputs) * len(means), len(classes))
    for at, (method, of_class) in enumerate(means.items()):
        limit = max((_limit(field) for _, field in of_class.values()), default=1.0)
        for column, name in enumerate(inputs):
            panels = grid[column * len(means) + at]
            panels[0].set_ylabel(maps_of(name.split("+")))
            for panel, called in zip(panels, classes, strict=True):
                _strip(panel)
                said = "not shown"
                if called in of_class:
                    n, field = of_class[called]
                    _show(panel, field[column], limit=limit)
                    said = f"n = {n}"
                panel.set_title(f"{method}\ncalled {called}, {said}")
    title = "Mean attention by the class that the model says"
    said = f"{', '.join(means)}; blue against, red for positive."
    return svg_of(drawn, "attention-means", title, said)


def _grid(rows: int, columns: int) -> tuple[Canvas, Any]:
    drawn = Canvas(figsize=(ACROSS * columns, ACROSS * rows + 0.3), layout="constrained")
    return drawn, drawn.subplots(rows, columns, squeeze=False)


def _limit(field: np.ndarray) -> float:
    return float(np.abs(field).max()) or 1.0


def _show(axes: Axes, field: np.ndarray, limit: float | None = None) -> None:
    """Draw a picture or a signed field inside the disc; what lies outside it is left white."""
    factors = [SIDE / field.shape[0], SIDE / field.shape[1], *[1] * (field.ndim - 2)]
    large = zoom(
        np.asarray(field, dtype=np.float64), factors, order=1, mode="nearest", grid_mode=True
    )
    outside = canvas(SIDE).segment < 0
    if limit is None:
        large = np.clip(large, 0, 1)
        large[outside] = 1.0
        axes.imshow(large, interpolation="none")
    else:
        masked = np.ma.masked_array(large, outside)
        axes.imshow(masked, cmap=COLOURS, vmin=-limit, vmax=limit, interpolation="none")
    _outline(axes)
    _strip(axes)


def _strip(axes: Axes) -> None:
    axes.set_xticks([])
    axes.set_yticks([])
    axes.grid(visible=False)
    for spine in axes.spines.values():
        spine.set_visible(False)


def _outline(axes: Axes) -> None:
    """Draw the borders of the 17 segments."""
    middle, reach = (SIDE - 1) / 2, DISC * SIDE
    for ring in RINGS:
        rim = Circle((middle, middle), ring * reach, fill=False, linewidth=0.5, edgecolor=GREY)
        axes.add_patch(rim)
    borders = [(angle, 0.5, 1.0) for angle in range(0, 360, 60)]
    borders += [(angle, 0.25, 0.5) for angle in range(45, 360, 90)]
    for angle, inner, outer in borders:
        direction = np.array([np.cos(np.radians(angle)), -np.sin(np.radians(angle))])
        ends = middle + reach * np.outer([inner, outer], direction)
        axes.plot(ends[:, 0], ends[:, 1], color=INK, linewidth=0.4, alpha=0.5)
