"""The phantom's population: risk traits, and rest flow, flow reserve and stress flow by segment.

Its parameters were tuned, on drawn maps, to the prevalences and logistic-regression AUCs of Yeung
et al. 2022 (doi:10.1007/s12350-022-02920-x), so agreement with that paper checks this software, not
the paper. The patterns that carry sex and smoking are invented carriers of known AUCs, not
physiology. BMI, family history, Duke score and ejection fractions are plausible values, independent
of all else.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from scipy.special import ndtr

from cohort.segments import SEGMENTS, TERRITORIES

FEMALE = 0.489
DIABETES = 0.154
DYSLIPIDAEMIA = 0.332
HYPERTENSION = 0.522
SMOKING_OF_WOMEN, SMOKING_OF_MEN, SMOKING = 0.11, 0.161, 0.136
STENOSIS = MappingProxyType({"LAD": 0.27, "RCA": 0.32, "LCx": 0.155})
MULTIVESSEL = 0.3
"""Correlation of the vessels' latent propensities (a Gaussian copula)."""
TIGHT = (0.45, 0.6)
"""What a tight stenosis takes from the log flow reserve; any takes .15 to .6."""
HIGHEST_MEAN = 4.0
"""The highest typical flow reserve or stress flow of a patient: hyperaemia has a ceiling, and maps
that saturate all over would be equal in different patients."""
RIPPLE, RIPPLE_SPREAD = 0.15, 0.09
"""What smoking adds to the within-segment pattern in log flow, and its spread in everybody."""


@dataclass(frozen=True)
class Population:
    """n patients, before anything is drawn.

    Attributes:
        traits: (n,) each. Binary: sex (1 = female), diabetes, smoking, hypertension,
            dyslipidaemia, family_history. Else age (years), bmi (kg/m2), duke_score (pre-test
            probability, %), rest_lvef and stress_lvef (%).
        rest: float64 (n, 17), rest flow of each segment, ml/g/min.
        stress: float64 (n, 17), stress flow of each segment, ml/g/min.
        ripple: float64 (n,), amplitude in log flow of the pattern within segments.
    """

    traits: Mapping[str, np.ndarray]
    rest: np.ndarray
    stress: np.ndarray
    ripple: np.ndarray


def populate(
    count: int, *, generator: np.random.Generator, vessel: str | None = None
) -> Population:
    """Return ``count`` patients drawn from the population.

    Args:
        count: how many.
        generator: draws them.
        vessel: LAD, RCA or LCx: everybody has a tight stenosis of this vessel, reaching all its
            segments, and of no other. None draws stenoses as the population has them.
    """
    traits = _draw_traits(count, generator)
    log_rest = (
        np.log(0.87)
        + 0.20 * traits["sex"]
        + 0.02 * traits["hypertension"]
        + 0.19 * generator.standard_normal(count)
    )
    log_reserve = (
        np.log(2.68)
        - 0.06 * traits["sex"]
        - 0.10 * traits["diabetes"]
        - 0.03 * traits["smoking"]
        - 0.04 * traits["hypertension"]
        - 0.02 * traits["dyslipidaemia"]
        - 0.0055 * (traits["age"] - 66)
        - 0.60 * (log_rest - np.log(0.93))
        + 0.185 * generator.standard_normal(count)
    )
    highest = np.log(HIGHEST_MEAN)
    log_reserve = np.minimum(log_reserve, highest - np.maximum(log_rest, 0.0))
    rest = log_rest[:, None] + 0.70 * np.outer(traits["sex"] - FEMALE, _SEX)
    rest += 0.06 * generator.standard_normal((count, SEGMENTS))
    losses = (
        _draw_stenoses(traits["diabetes"], generator)
        if vessel is None
        else generator.uniform(*TIGHT, (count, 1)) * _pattern({1.0: TERRITORIES[vessel]})
    )
    reserve = log_reserve[:, None] + _RESERVE - losses
    reserve += 0.09 * generator.standard_normal((count, SEGMENTS))
    return Population(
        traits=traits,
        rest=np.exp(rest),
        stress=np.exp(rest + reserve),
        ripple=RIPPLE * (traits["smoking"] - SMOKING)
        + RIPPLE_SPREAD * generator.standard_normal(count),
    )


def _draw_traits(count: int, generator: np.random.Generator) -> dict[str, np.ndarray]:
    def happens(probability: float | np.ndarray) -> np.ndarray:
        return (generator.random(count) < probability).astype(np.int64)

    def normal(mean: float | np.ndarray, sd: float, low: float, high: float) -> np.ndarray:
        return np.clip(mean + sd * generator.standard_normal(count), low, high)

    female = happens(FEMALE)
    rest_lvef = normal(61, 9.5, 15, 85)
    return {
        "sex": female,
        "age": normal(66, 10.5, 25, 95).round(1),
        "diabetes": happens(DIABETES),
        "smoking": happens(np.where(female, SMOKING_OF_WOMEN, SMOKING_OF_MEN)),
        "hypertension": happens(HYPERTENSION),
        "dyslipidaemia": happens(DYSLIPIDAEMIA),
        "family_history": happens(0.43),
        "bmi": normal(27.5, 4.8, 16, 55).round(1),
        "duke_score": _whole(100 * ndtr(normal(-0.15, 0.85, -3, 3))),
        "rest_lvef": _whole(rest_lvef),
        "stress_lvef": _whole(normal(rest_lvef + 4, 4.5, 15, 90)),
    }


def _whole(values: np.ndarray) -> np.ndarray:
    return np.asarray(np.rint(values), np.int64)


def _draw_stenoses(diabetes: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Return what stenoses take from the log flow reserve of each segment, (n, 17)."""
    count = len(diabetes)
    shared = np.sqrt(MULTIVESSEL) * generator.standard_normal((count, 1))
    own = np.sqrt(1 - MULTIVESSEL) * generator.standard_normal((count, len(STENOSIS)))
    risk = np.exp(0.5 * diabetes - 0.07)[:, None] * np.array(list(STENOSIS.values()))
    stenosed = ndtr(shared + own) < risk
    supplied = np.array([_pattern({1.0: TERRITORIES[vessel]}) for vessel in STENOSIS])
    reached = generator.random((count, SEGMENTS)) < 0.75
    loss = generator.uniform(0.15, 0.6, (count, SEGMENTS))
    return np.asarray((stenosed @ supplied) * reached * loss)


def _pattern(values: Mapping[float, Sequence[int]]) -> np.ndarray:
    """Return 17 values: each key at its segments (numbered from 1), 0 elsewhere."""
    pattern = np.zeros(SEGMENTS)
    for value, numbers in values.items():
        pattern[[number - 1 for number in numbers]] = value
    return pattern


_RESERVE = _pattern({-0.045: (3, 4, 9, 10), 0.055: (5, 6, 11, 12, 16)})
_SEX = _pattern({0.05: (13, 14, 15, 16, 17), -0.04: (1, 7), 0.03: (4, 10)})
_SEX -= _SEX.mean()
