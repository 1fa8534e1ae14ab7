"""The pointing game: whether attention lies where the disease is known to lie.

Phantoms with a stenosis of one vessel are shown to the model; a hit is a strongest point that lies
in that vessel's territory (Zhang et al. 2018, doi:10.1007/s11263-017-1059-x). A territory is
claimed only if the lower bound of the hit rate exceeds both what a random point would hit and what
a network with a random head hits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from analysis.judge.attention import SIDE, enlarge
from analysis.statistics.bootstrap import clopper_pearson_interval
from cohort.drawing.phantom import INPUTS
from cohort.drawing.polar_map import canvas
from cohort.drawing.single_vessel import draw_single_vessel
from cohort.segments import TERRITORIES, indices_of
from cohort.table import Cohort
from spaces.run_files import RunFiles, read_json, write_json
from spaces.study import Study

if TYPE_CHECKING:
    from trainable.model import Model

PHANTOMS = 40
"""Of each territory."""
HEADS = 20
"""Random heads; each sees its share of the phantoms, so that no single draw decides: one that
happens to prefer dark regions hits nearly always, its opposite never."""
COARSEST = 96
"""Pixels a side of the smallest maps: attention has 1/32 of them, three at least."""


def why_not_played(study: Study, cohort: Cohort) -> str | None:
    """Return why the pointing game says nothing of this study's model; None where it does."""
    if not cohort.is_phantom:
        return "the true place of disease is known in phantoms only"
    if not set(study.cohort.inputs) <= set(INPUTS):
        return "phantoms have no such maps"
    if study.cohort.target not in study.cohort.derive:
        return "a stenosis is no sign of this target"
    if study.network.image_size < COARSEST:
        return f"maps of less than {COARSEST} pixels a side give too coarse an attention"
    return None


def play(run: RunFiles, study: Study, cohort: Cohort) -> None:
    """Write test/pointing.json, unless it belongs to this model or the game cannot be played.

    No patient is looked at: the phantoms belong to no cohort.
    """
    import torch

    from trainable.attention import with_random_head
    from trainable.model import load_model

    if why_not_played(study, cohort) is not None:
        return
    digest = read_json(run.model / "model.json", "model")["sha256"]
    if run.pointing.exists() and read_json(run.pointing, "pointing")["model"] == digest:
        return
    model = load_model(run.model)
    asked = study.cohort.derive[study.cohort.target].segments
    drawn = {name: _draw(name, model) for name in (TERRITORIES if asked == "any" else (asked,))}
    generator = torch.Generator().manual_seed(study.seed)
    control: dict[str, list[np.ndarray]] = {name: [] for name in drawn}
    for few in np.split(np.arange(PHANTOMS), HEADS):
        head = with_random_head(model, generator)
        for name, maps in drawn.items():
            control[name].append(_hits(head, [images[few] for images in maps], name))
    rows = []
    for name, maps in drawn.items():
        random = np.concatenate(control[name]).mean(axis=0)
        hits = _hits(model, maps, name)
        rows += judge(name, hits, random, _names(model), study.evaluation.confidence)
    write_json(run.pointing, "pointing", {"model": digest, "heads": HEADS, "rows": rows})


def judge(
    territory: str,
    hits: np.ndarray,
    control: np.ndarray,
    names: Sequence[str],
    confidence: float,
) -> list[dict[str, Any]]:
    """Return one row for each map: its hit rate with interval, what to beat, and the verdict.

    Args:
        territory: where the disease lies.
        hits: bool (n, maps).
        control: (maps,) hit rate of networks with a random head.
        names: of the maps.
        confidence: level of the exact interval.
    """
    share = area_share(territory)
    rows = []
    for at, name in enumerate(names):
        count, n = int(hits[:, at].sum()), len(hits)
        interval = clopper_pearson_interval(count, n, confidence)
        rows.append(
            {
                "map": name,
                "territory": territory,
                "n": n,
                "hits": count,
                "rate": count / n,
                "low": interval.low,
                "high": interval.high,
                "area_share": share,
                "random_head": float(control[at]),
                "claimed": bool(interval.low > max(share, float(control[at]))),
            }
        )
    return rows


def area_share(territory: str) -> float:
    """Return the territory's share of the disc: how often a random point hits it."""
    segment = canvas(SIDE).segment
    return float(np.isin(segment, indices_of(territory)).sum() / (segment >= 0).sum())


def find_hits(fields: np.ndarray, territory: str) -> np.ndarray:
    """Return whether the strongest point inside the disc lies in the territory, bool (n,).

    An attention that is the same everywhere points nowhere, so it never hits.

    Args:
        fields: signed attention, (n, h, w), in the usual layout.
        territory: LAD, RCA or LCx.
    """
    geometry = canvas(SIDE)
    inside = enlarge(fields).reshape(len(fields), -1)[:, geometry.position]
    strongest = geometry.position[inside.argmax(axis=1)]
    is_flat = np.ptp(inside, axis=1) == 0
    return np.asarray(
        np.isin(geometry.segment.ravel()[strongest], indices_of(territory)) & ~is_flat
    )


def _hits(model: Model, maps: Sequence[np.ndarray], territory: str) -> np.ndarray:
    """Return whether Grad-CAM hits the territory, bool (n, maps)."""
    from trainable.attention import grad_cam

    found = grad_cam(model, maps)
    return np.stack([find_hits(column, territory) for column in found.swapaxes(0, 1)], axis=1)


def _draw(territory: str, model: Model) -> list[np.ndarray]:
    inputs, size = model.info["inputs"], int(model.info["image_size"])
    drawn: Mapping[str, np.ndarray] = draw_single_vessel(
        territory, PHANTOMS, size=size, inputs=inputs
    )
    return [drawn[name] for name in inputs]


def _names(model: Model) -> list[str]:
    """Return a name for each map that has an attention of its own."""
    inputs: list[str] = list(model.info["inputs"])
    return ["+".join(inputs)] if model.info["stack"] == "early" else inputs
