"""The truth of a phantom cohort: what each target is, and what AUC each input can reach.

Impaired targets follow from the reserve map by definition, so 1.0 is reachable there. Elsewhere the
reference is measured: the better of logistic regression and gradient boosting on the segment values
(and the strength of the pattern within segments) of maps drawn from the same population, at a
coarser size. It is a lower bound of the ceiling: a better reader of the maps may exist.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pandas as pd

from cohort.drawing.fields import fields_of, ripple_of
from cohort.drawing.polar_map import HIGHEST, canvas
from cohort.drawing.population import populate
from cohort.segments import SEGMENTS, TERRITORIES, indices_of, segment_columns
from spaces.run_files import write_json

IMPAIRED = MappingProxyType({f"impaired_{name}": name for name in ("any", *TERRITORIES)})
BELOW = 2.0
TRAITS = ("sex", "smoking", "diabetes", "hypertension", "dyslipidaemia")
TARGETS = (*IMPAIRED, *TRAITS)
STACK = "stack"
"""All three maps together, as an input."""
REFERENCE_SIZE = 24
"""Side in pixels of the maps on which references are measured."""
_REFERENCE_SEED = 2**31 + 1  # no cohort can have it
_CHUNK = 1000


def write_truth(
    path: Path,
    table: pd.DataFrame,
    *,
    inputs: Sequence[str] = tuple(HIGHEST),
    ceiling: bool = True,
    patients: int = 50_000,
) -> None:
    """Write truth.json: every target's definition and prevalence, and AUCs to measure against.

    Args:
        path: of truth.json.
        table: the cohort, with the traits and ``mfr_01..17``.
        inputs: the maps of the cohort; with all three, their stack is an input too.
        ceiling: whether to measure references, or to give only what holds by definition.
        patients: how many fresh phantoms fit the references; as many score them.
    """
    reserve = table[segment_columns("mfr")].to_numpy(np.float64)
    outcomes = {name: reserve_is_impaired(reserve, where) for name, where in IMPAIRED.items()}
    outcomes |= {name: table[name].to_numpy() for name in TRAITS}
    asked = (*inputs, STACK) if set(inputs) == set(HIGHEST) else tuple(inputs)
    ceilings = (
        measure_ceilings(TARGETS, asked, patients=patients) if ceiling else known_ceilings(asked)
    )
    definitions: dict[str, dict[str, object]] = {
        name: {"below": BELOW, "segments": where, "columns": "mfr"}
        for name, where in IMPAIRED.items()
    }
    content = {
        "patients": len(table),
        "targets": {
            name: definitions.get(name, {"column": name})
            | {"prevalence": round(float(np.mean(outcome)), 6)}
            for name, outcome in outcomes.items()
        },
        "ceilings": ceilings,
        "reference": {
            "fitted_on": patients if ceiling else 0,
            "scored_on": patients if ceiling else 0,
            "map_size": REFERENCE_SIZE,
            "meaning": "reference, a lower bound of the ceiling; 1.0 by definition where so marked",
        },
    }
    write_json(path, "truth", content)


def reserve_is_impaired(reserve: np.ndarray, where: str) -> np.ndarray:
    """Return which of n patients have a flow reserve below 2 in a segment of ``where``, bool (n,).

    Args:
        reserve: (n, 17), stress over rest flow.
        where: any, LAD, RCA or LCx.
    """
    return np.asarray((reserve[:, indices_of(where)] < BELOW).any(axis=1))


def known_ceilings(inputs: Sequence[str]) -> dict[str, dict[str, dict[str, Any]]]:
    """Return the AUCs that hold by definition: 1.0 for impaired targets where reserve is seen."""
    seen = [name for name in inputs if name in ("reserve", STACK)]
    return {
        target: {name: {"auc": 1.0, "source": "definition"} for name in seen} for target in IMPAIRED
    }


def measure_ceilings(
    targets: Sequence[str],
    inputs: Sequence[str],
    *,
    patients: int = 50_000,
) -> dict[str, dict[str, dict[str, Any]]]:
    """Return, by target and input, the AUC that is reachable and where it comes from.

    The same at every call: the phantoms that it draws do not depend on any cohort's seed.

    Args:
        targets: of ``TARGETS``.
        inputs: rest, stress, reserve or stack.
        patients: how many phantoms fit the references; as many others score them.

    Returns:
        ``{"auc": float, "source": "definition"}``, or the better of two references with ``source``
        naming it, and ``segments_auc``: logistic regression on the 17 segment means alone.
    """
    known = known_ceilings(inputs)
    values, outcomes = _draw_reference(2 * patients)
    measured: dict[str, dict[str, dict[str, Any]]] = {}
    for target in targets:
        measured[target] = {}
        for name in inputs:
            found = known.get(target, {}).get(name)
            measured[target][name] = found or _reference(values[name], outcomes[target])
    return measured


def _draw_reference(count: int) -> tuple[Mapping[str, np.ndarray], Mapping[str, np.ndarray]]:
    """Return what readers see, by input (count, 18), and what they should say, by target."""
    generator = np.random.default_rng(_REFERENCE_SEED)
    disc = canvas(REFERENCE_SIZE)
    values: dict[str, list[np.ndarray]] = {name: [] for name in HIGHEST}
    outcomes: dict[str, list[np.ndarray]] = {name: [] for name in TARGETS}
    for begin in range(0, count, _CHUNK):
        population = populate(min(_CHUNK, count - begin), generator=generator)
        fields = fields_of(population, REFERENCE_SIZE, generator=generator)
        for name, field in fields.items():
            means, ripple = disc.segment_means(field), ripple_of(field, REFERENCE_SIZE)
            values[name].append(np.column_stack([means, ripple]))
        for target, where in IMPAIRED.items():
            outcomes[target].append(reserve_is_impaired(values["reserve"][-1][:, :SEGMENTS], where))
        for target in TRAITS:
            outcomes[target].append(population.traits[target])
    joined = {name: np.concatenate(parts) for name, parts in values.items()}
    joined[STACK] = np.column_stack([joined[name] for name in HIGHEST])
    return joined, {name: np.concatenate(parts) for name, parts in outcomes.items()}


def _reference(values: np.ndarray, outcome: np.ndarray) -> dict[str, Any]:
    """Fit on the first half of the patients, score on the second."""
    # Every trial's process imports this module for the phantoms; none needs scikit-learn.
    from sklearn.metrics import roc_auc_score

    half = len(values) // 2
    segments = np.delete(values, np.s_[SEGMENTS :: SEGMENTS + 1], axis=1)

    def score(model: Any, seen: np.ndarray) -> float:
        model.fit(seen[:half], outcome[:half])
        chance = model.predict_proba(seen[half:])[:, 1]
        return round(float(roc_auc_score(outcome[half:], chance)), 4)

    scores = {
        "logistic regression": score(_logistic(), values),
        "gradient boosting": score(_boosting(), values),
    }
    source = max(scores, key=lambda name: scores[name])
    return {
        "auc": scores[source],
        "source": source,
        "segments_auc": score(_logistic(), segments),
    }


def _logistic() -> Any:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    # So weak a penalty changes nothing at thousands of patients and keeps the solver finite.
    return make_pipeline(StandardScaler(), LogisticRegression(C=1e4, max_iter=1000))


def _boosting() -> Any:
    from sklearn.ensemble import HistGradientBoostingClassifier

    return HistGradientBoostingClassifier(early_stopping=False, random_state=0)
