"""Age and sex of patients, coded from what development patients carry."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from pandas.api.types import is_numeric_dtype

from cohort.patients import Patients
from spaces.study import Study

AGE, SEX = "age", "sex"


def learn_traits(study: Study, development: Patients) -> dict[str, Any]:
    """Return what age and sex mean in this cohort, from its development patients alone.

    Returns:
        ``age``: ``{"column", "cut"}``, the median age, and ``sex``: ``{"column", "values"}``, both
        values, the first one coded 0. A trait that is the target, or no column, or no such column,
        is absent.
    """
    found: dict[str, Any] = {}
    settings, target = study.evaluation, study.cohort.target
    ages = _column(development, settings.age)
    if ages is not None and settings.age != target and is_numeric_dtype(ages):
        known = ages.dropna()
        if len(known) and known.min() < known.max():
            found[AGE] = {"column": settings.age, "cut": float(known.median())}
    sexes = _column(development, settings.sex)
    if sexes is not None and settings.sex != target:
        values = sorted(set(_words(sexes).dropna()))
        if len(values) == 2:
            found[SEX] = {"column": settings.sex, "values": values}
    return found


def read_age(traits: Mapping[str, Any], patients: Patients) -> np.ndarray:
    """Return ages, (n,), nan where missing."""
    return np.asarray(patients.covariates[traits[AGE]["column"]], dtype=np.float64)


def read_sex(traits: Mapping[str, Any], patients: Patients) -> np.ndarray:
    """Return 0 or 1, (n,), in the order of the ``values``; nan where missing or neither."""
    codes = {value: float(code) for code, value in enumerate(traits[SEX]["values"])}
    words = _words(patients.covariates[traits[SEX]["column"]])
    return np.asarray(words.map(codes), dtype=np.float64)


def known_in(traits: Mapping[str, Any], patients: Patients) -> dict[str, Any]:
    """Return the traits that these patients carry, in the coding in which they were learnt."""
    found: dict[str, Any] = {}
    for name, its in traits.items():
        column = _column(patients, its["column"])
        if column is None or (name == AGE and not is_numeric_dtype(column)):
            continue
        read = read_age if name == AGE else read_sex
        if np.isfinite(read(traits, patients)).any():
            found[name] = its
    return found


def divide(traits: Mapping[str, Any], patients: Patients) -> dict[str, dict[str, np.ndarray]]:
    """Return the members, bool (n,), of both groups of each trait, by trait and name of group.

    A trait that these patients do not carry is left out.
    """
    traits = known_in(traits, patients)
    groups: dict[str, dict[str, np.ndarray]] = {}
    if SEX in traits:
        its, column = read_sex(traits, patients), traits[SEX]["column"]
        names = [f"{column} {value}" for value in traits[SEX]["values"]]
        groups[SEX] = {name: its == code for code, name in enumerate(names)}
    if AGE in traits:
        its, cut, column = read_age(traits, patients), traits[AGE]["cut"], traits[AGE]["column"]
        groups[AGE] = {
            f"{column} below {cut:g}": its < cut,
            f"{column} {cut:g} or more": its >= cut,
        }
    return groups


def _column(patients: Patients, name: str | None) -> pd.Series | None:
    return None if name is None else patients.covariates.get(name)


def _words(values: pd.Series) -> pd.Series:
    """Return values as words, missing ones as missing; 1.0 as ``1``."""
    if is_numeric_dtype(values):
        return values.map(lambda value: f"{value:g}", na_action="ignore")
    stripped = values.astype("string").str.strip()
    return stripped.where(stripped != "")
