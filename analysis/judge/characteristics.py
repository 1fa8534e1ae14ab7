"""Which characteristics of patients stand in the cohort tables, and between which groups."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import pandas as pd
from pandas.api.types import is_numeric_dtype

from analysis.judge.subgroups import FEWEST_SHOWN
from analysis.statistics.cohort_tables import BINARY, compare_groups
from cohort.patients import Patients
from cohort.reading.cell_values import derive_target
from cohort.segments import segment_columns
from spaces.study import Study

NEGATIVE, POSITIVE = "negative", "positive"
DEVELOPMENT, TEST, EXTERNAL = "development", "test", "external"
OF_SEGMENTS = ", mean of 17 segments"
WITHHELD = "withheld"


def compare_classes(study: Study, development: Patients) -> dict[str, Any]:
    """Return what tells labelled development patients of the two classes of the target apart.

    Returns:
        ``n`` by group, ``unlabelled`` patients, who are left out, and ``rows``: ``Characteristic``
        as plain data, with ``withheld``: whether too few have or lack it to say anything.
    """
    known = np.isfinite(development.target)
    table = characteristics_of(study, development).drop(columns=study.cohort.target)
    is_positive = development.target[known] == 1
    compared = _as_data(table[known], is_positive, (NEGATIVE, POSITIVE), study.cohort.target)
    return compared | {"unlabelled": int((~known).sum())}


def compare_sets(
    study: Study, development: Patients, test: Patients, called: str = TEST
) -> dict[str, Any]:
    """Return how development patients and others differ: ``n`` by group and ``rows``.

    Only what is known of both is compared. Only for who may see the others; what is returned are
    summaries of all of them.
    """
    parts = [characteristics_of(study, patients) for patients in (development, test)]
    is_test = np.arange(len(development) + len(test)) >= len(development)
    both = pd.concat(parts, ignore_index=True, join="inner")
    return _as_data(both, is_test, (DEVELOPMENT, called), study.cohort.target)


def characteristics_of(study: Study, patients: Patients) -> pd.DataFrame:
    """Return what is known of patients as columns of numbers, nan where missing.

    In this order: the target, the other targets that the study file can derive, every further
    column of numbers, and of each 17 segment columns their mean (over those that are known).
    """
    segments = segment_values(study, patients)
    columns = {study.cohort.target: patients.target}
    for name, rule in study.cohort.derive.items():
        if rule.columns in segments and name not in patients.covariates:
            columns.setdefault(name, derive_target(segments[rule.columns], rule))
    in_segments = {name for prefix in segments for name in segment_columns(prefix)}
    for column, values in patients.covariates.items():
        if str(column) not in in_segments and is_numeric_dtype(values):
            columns.setdefault(str(column), values.to_numpy(dtype=np.float64))
    for prefix, its in segments.items():
        columns[mean_name(prefix)] = mean_of_known(its)
    return pd.DataFrame(columns)


def mean_name(prefix: str) -> str:
    """Return how the mean of the 17 columns of a prefix is called."""
    return prefix + OF_SEGMENTS


def words_of(patients: Patients) -> list[str]:
    """Return the columns that hold words; they may say who somebody is, and are not shown."""
    return [str(name) for name, its in patients.covariates.items() if not is_numeric_dtype(its)]


def segment_values(study: Study, patients: Patients) -> dict[str, np.ndarray]:
    """Return (n, 17) by prefix, wherever the patients carry 17 columns of one; nan = missing."""
    found: dict[str, np.ndarray] = {}
    names = list(map(str, patients.covariates.columns))
    for prefix in _prefixes(names):
        its = patients.covariates[segment_columns(prefix)]
        if all(is_numeric_dtype(kind) for kind in its.dtypes):
            found[prefix] = its.to_numpy(dtype=np.float64)
    for name, values in patients.baseline_segments.items():
        found[study.cohort.baseline_segments[name]] = values
    if study.cohort.segments is not None and patients.segments is not None:
        found[study.cohort.segments] = patients.segments
    return dict(sorted(found.items()))


def _prefixes(names: Sequence[str]) -> list[str]:
    firsts = [match[1] for name in names if (match := re.fullmatch(r"(.+)_01", name))]
    return [prefix for prefix in firsts if {*segment_columns(prefix)} <= {*names}]


def mean_of_known(values: np.ndarray) -> np.ndarray:
    """Return each row's mean over what is known, (n,); nan where nothing is."""
    known = np.isfinite(values)
    counts = known.sum(axis=1)
    sums = np.where(known, values, 0.0).sum(axis=1)
    return np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)


def _as_data(
    table: pd.DataFrame, is_second: np.ndarray, groups: tuple[str, str], target: str
) -> dict[str, Any]:
    """Return ``n`` by group and the rows; of the target, whose counts stand everywhere, all."""
    found = compare_groups(table, is_second, groups)
    rows = [{WITHHELD: False, **asdict(row)} for row in found]
    sizes: Mapping[str, int] = dict(
        zip(groups, (int((~is_second).sum()), int(is_second.sum())), strict=True)
    )
    return {"n": sizes, "rows": [row if row["name"] == target else hide(row) for row in rows]}


def hide(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row without what could name somebody: counts below five.

    Where in a group fewer than five patients have or lack a characteristic, or fewer than five are
    known, nothing is said of either group: one count would follow from the other, or from p-value
    and difference. Where it is unknown of fewer than five, it is not said of how many.
    """
    summaries = [its for its in row["groups"].values() if its["n"]]
    counts = [its["n"] for its in summaries]
    counts += [its["count"] for its in summaries if row["kind"] == BINARY]
    counts += [its["n"] - its["count"] for its in summaries if row["kind"] == BINARY]
    if min(counts) < FEWEST_SHOWN:
        silent = [dict.fromkeys(its) for its in row["groups"].values()]
        gone = ("p", "skewness", "mann_whitney_p", "standardised_difference", "doubt")
        return {**row, WITHHELD: True, "groups": _named(row, silent), **dict.fromkeys(gone)}
    if any(0 < its["missing"] < FEWEST_SHOWN for its in row["groups"].values()):
        vague = [
            {**its, "n": None, "missing": None, "count": None, "share": _rounded(its["share"])}
            for its in row["groups"].values()
        ]
        return {**row, "groups": _named(row, vague)}
    return dict(row)


def _named(row: Mapping[str, Any], summaries: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    return dict(zip(row["groups"], summaries, strict=True))


def _rounded(share: float | None) -> float | None:
    """Return a share that no longer tells of how many it is one."""
    return None if share is None else round(share, 2)
