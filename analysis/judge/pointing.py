"""The pointing game: whether attention lies where the disease is known to lie.

Phantoms with a stenosis of one vessel are shown to the model; a hit is a strongest point that lies
in that vessel's territory (Zhang et al. 2018, doi:10.1007/s11263-017-1059-x). A territory is
claimed only if the lower bound of the hit rate exceeds what a random point would hit, what networks
with a random head hit, and how often the same model points there when another vessel is diseased:
one that always looks at the same place finds nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from analysis.judge.attention import HEADS, SIDE, enlarge
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
"""Of each vessel."""
ELSEWHERE = "other_vessels"
"""How often the model points into the territory when another vessel is diseased."""
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


def phantoms_shown(study: Study, cohort: Cohort) -> int:
    """Return how many phantoms the game shows to the model."""
    return 0 if why_not_played(study, cohort) else PHANTOMS * len(TERRITORIES)


def play(run: RunFiles, study: Study, cohort: Cohort) -> None:
    """Write test/pointing.json, unless it belongs to this model or the game cannot be played.

    No patient is looked at: the phantoms belong to no cohort.
    """
    import torch

    from trainable.attention import GradCam, draw_heads
    from trainable.model import load_model

    if why_not_played(study, cohort) is not None:
        return
    digest = read_json(run.model / "model.json", "model")["sha256"]
    if _is_played(run, digest):
        return
    model = load_model(run.model)
    heads = draw_heads(model, HEADS, torch.Generator().manual_seed(study.seed))
    look = GradCam(model, heads)
    pointed = {vessel: find_strongest(look(_draw(vessel, model))) for vessel in TERRITORIES}
    asked = study.cohort.derive[study.cohort.target].segments
    rows = []
    for territory in TERRITORIES if asked == "any" else (asked,):
        hits = {vessel: lies_in(its, territory) for vessel, its in pointed.items()}
        rows += judge(territory, hits, _names(model), study.evaluation.confidence)
    write_json(run.pointing, "pointing", {"model": digest, "heads": HEADS, "rows": rows})


def _is_played(run: RunFiles, digest: str) -> bool:
    """Whether this model has played."""
    return run.pointing.exists() and read_json(run.pointing, "pointing")["model"] == digest


def judge(
    territory: str, hits: Mapping[str, np.ndarray], names: Sequence[str], confidence: float
) -> list[dict[str, Any]]:
    """Return one row for each map: its hit rate with interval, what to beat, and the verdict.

    Args:
        territory: where the disease lies.
        hits: whether the strongest point lies there, bool (1 + heads, n, maps), the model's own
            first, by the vessel that is diseased.
        names: of the maps.
        confidence: level of the exact interval.
    """
    share = area_share(territory)
    model, *random = hits[territory]
    others = np.concatenate([its[0] for vessel, its in hits.items() if vessel != territory])
    rows = []
    for at, name in enumerate(names):
        count, n = int(model[:, at].sum()), len(model)
        interval = clopper_pearson_interval(count, n, confidence)
        to_beat = {
            "area_share": share,
            "random_head": float(np.mean(random, axis=(0, 1))[at]),
            ELSEWHERE: float(others[:, at].mean()),
        }
        rows.append(
            {
                "map": name,
                "territory": territory,
                "n": n,
                "hits": count,
                "rate": count / n,
                "low": interval.low,
                "high": interval.high,
                **to_beat,
                "claimed": bool(interval.low > max(to_beat.values())),
            }
        )
    return rows


def area_share(territory: str) -> float:
    """Return the territory's share of the disc: how often a random point hits it."""
    segment = canvas(SIDE).segment
    return float(np.isin(segment, indices_of(territory)).sum() / (segment >= 0).sum())


def find_strongest(fields: np.ndarray) -> np.ndarray:
    """Return in which segment the strongest point inside the disc lies, int (heads, n, maps).

    0-based; -1 for an attention that is the same everywhere, which points nowhere.

    Args:
        fields: signed attention, (heads, n, maps, h, w), in the usual layout.
    """
    geometry = canvas(SIDE)
    found = []
    for head in fields:  # enlarged all at once they would take hundreds of megabytes
        large = enlarge(head.reshape(-1, *head.shape[2:]))
        inside = large.reshape(len(large), -1)[:, geometry.position]
        strongest = geometry.segment.ravel()[geometry.position[inside.argmax(axis=1)]]
        is_flat = np.ptp(inside, axis=1) == 0
        found.append(np.where(is_flat, -1, strongest).reshape(head.shape[:2]))
    return np.stack(found)


def lies_in(segments: np.ndarray, territory: str) -> np.ndarray:
    """Return which of these 0-based segments belong to a territory, bool."""
    return np.isin(segments, indices_of(territory))


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
