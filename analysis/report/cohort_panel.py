"""The report's tables of who the patients are: by class of the target, development beside test."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pandas as pd

from analysis.judge.answer import SPACE, number, percent, plain, say_p
from analysis.judge.characteristics import (
    DEVELOPMENT,
    OF_SEGMENTS,
    WITHHELD,
    compare_classes,
    words_of,
)
from analysis.judge.subgroups import FEWEST_SHOWN
from analysis.report.findings import Findings
from analysis.report.panels import table_of
from analysis.statistics.cohort_tables import BINARY, PEARSON, STUDENT
from cohort.table import Cohort
from spaces.run_files import RunFiles
from spaces.study import Study

BY_TARGET, BY_SET = "patients_by_target", "patients_by_set"
ORIGINS = {BY_TARGET: "cohort table, development patients", BY_SET: "test/metrics.json"}
SHORT = {PEARSON: "χ²", STUDENT: "t"}
SYLLABLES = {DEVELOPMENT: "develop\N{SOFT HYPHEN}ment"}
SEALED = "The test patients' characteristics are sealed until the test set is opened."
NOT_SHOWN = (
    f"Not shown: fewer than {FEWEST_SHOWN} patients of a group have it, lack it or are known, and "
    "could be recognised; the other group's numbers would tell how many."
)
NOTHING = "The cohort table has no further columns of numbers to compare the classes by."


@dataclass(frozen=True)
class Line:
    """One characteristic as printed.

    Attributes:
        label: its name as words.
        known: of how many patients of each group it is known; empty if of all.
        cells: by group, what stands first and what below it.
        difference: standardised.
        tests: (p-value, test).
        doubt: why the p-value cannot be relied on, or None.
        of_segments: whether it is the mean of the 17 segments.
    """

    label: str
    known: str
    cells: Sequence[tuple[str, str]]
    difference: str
    tests: Sequence[tuple[str, str]]
    doubt: str | None
    of_segments: bool


@dataclass(frozen=True)
class PatientTable:
    """Two groups of patients.

    Attributes:
        title: of the table.
        groups: (name, patients).
        lines: one a characteristic.
        instead: what is said where there is no table; empty if there is one.
        notes: sentences below it.
        file: with the numbers.
        origin: where they come from.
    """

    title: str
    groups: Sequence[tuple[str, int]] = ()
    lines: Sequence[Line] = ()
    instead: str = ""
    notes: Sequence[str] = ()
    file: str = ""
    origin: str = ""


@dataclass
class CohortPanel:
    """Who the patients are.

    Attributes:
        tables: by class of the target; development beside test.
        words: columns that are not shown.
    """

    tables: list[PatientTable] = field(default_factory=list)
    words: list[str] = field(default_factory=list)

    @property
    def has_segments(self) -> bool:
        """Whether some line is a mean of segments."""
        return any(line.of_segments for table in self.tables for line in table.lines)

    @property
    def is_doubted(self) -> bool:
        """Whether some p-value cannot be relied on."""
        return any(line.doubt for table in self.tables for line in table.lines)


def show_patients(run: RunFiles, cohort: Cohort, found: Findings) -> CohortPanel:
    """Return both tables and write them beside the report.

    The first one is of development patients alone. The second one is read from metrics.json, where
    the opening of the test set left it.
    """
    study = found.study
    classes = compare_classes(study, cohort.development)
    by_target = _show(
        run, BY_TARGET, f"Development patients by {plain(study.cohort.target)}", classes
    )
    title = "Development and test set"
    if found.metrics is None:
        by_set = PatientTable(title, instead=SEALED)
    else:
        by_set = _show(run, BY_SET, title, found.metrics["patients"], [_say_how_drawn(study)])
    return CohortPanel([_explain(by_target, study, classes), by_set], words_of(cohort.development))


def _explain(table: PatientTable, study: Study, classes: Mapping[str, Any]) -> PatientTable:
    """Return the table of classes with what must be said of it."""
    notes = []
    if classes["unlabelled"]:
        notes.append(f"Without a label, and left out: {classes['unlabelled']}.")
    rule = study.cohort.derive.get(study.cohort.target)
    if rule is not None:
        notes.append(
            f"The target is derived from {plain(rule.columns)}, so that what is made of "
            f"{plain(rule.columns)} differs by definition."
        )
    instead = "" if table.lines else NOTHING
    return replace(table, instead=instead, notes=[*notes, *table.notes])


def _say_how_drawn(study: Study) -> str:
    """Return what the p-values of the table of sets are about."""
    split, target = study.cohort.split, plain(study.cohort.target)
    if split.column is not None:
        return (
            f"The test set was given by the column {split.column}: whether differences are chance "
            "depends on how that was filled."
        )
    if not split.stratify:
        drawn, others, share = "at random", "differences", "about"
    else:
        drawn = f"at random within each class of {target}, which evens that row out"
        others, share = "all other differences", "at most about"
    return (
        f"The test set was drawn {drawn}: {others} are chance by design, and of their p-values "
        f"{share} one in twenty is below 0.05."
    )


def _show(
    run: RunFiles, name: str, title: str, compared: Mapping[str, Any], notes: Sequence[str] = ()
) -> PatientTable:
    origin = ORIGINS[name]
    return show_groups(run, name, title, compared, origin=origin, notes=notes)


def show_groups(
    run: RunFiles,
    name: str,
    title: str,
    compared: Mapping[str, Any],
    *,
    origin: str,
    notes: Sequence[str] = (),
) -> PatientTable:
    """Return two groups of patients side by side, and write them beside the report.

    Args:
        run: the run directory.
        name: of the file.
        title: of the table.
        compared: ``n`` and ``rows``, as ``compare_sets`` gives them.
        origin: where they come from.
        notes: sentences below the table.
    """
    rows = compared["rows"]
    records = [_record(row, origin) for row in rows]
    file = table_of(run, name, pd.DataFrame(records)) if rows else ""
    lines = [_line(row) for row in rows]
    groups = [(SYLLABLES.get(group, group), n) for group, n in compared["n"].items()]
    said = [*notes, *([NOT_SHOWN] if any(row.get(WITHHELD) for row in rows) else [])]
    return PatientTable(title, groups, lines, "", said, file, origin)


def _record(row: Mapping[str, Any], origin: str) -> dict[str, Any]:
    """Return a characteristic as one row of a table for spreadsheets."""
    of_groups = {
        f"{group}_{quantity}": value
        for group, summary in row["groups"].items()
        for quantity, value in summary.items()
    }
    keys = ("standardised_difference", "test", "p", "skewness", "mann_whitney_p", "doubt")
    head = {"characteristic": row["name"], "kind": row["kind"], WITHHELD: row.get(WITHHELD, False)}
    return head | of_groups | {key: row[key] for key in keys} | {"origin": origin}


def _line(row: Mapping[str, Any]) -> Line:
    groups = row["groups"]
    tests = [(say_p(row["p"]), SHORT[row["test"]])]
    if row["mann_whitney_p"] is not None:
        tests.append((say_p(row["mann_whitney_p"]), "U"))
    difference = row["standardised_difference"]
    return Line(
        label=_label(row["name"]),
        known="" if row.get(WITHHELD) else _say_known(list(groups.values())),
        cells=_cells(row),
        difference=number(difference) if difference is not None else "—",
        tests=tests,
        doubt=row["doubt"],
        of_segments=row["name"].endswith(OF_SEGMENTS),
    )


def _say_known(summaries: Sequence[Mapping[str, Any]]) -> str:
    """Return of how many of each group it is known, as far as that may be said."""
    if any(its["n"] is None for its in summaries):
        return "not known of all"
    if not any(its["missing"] for its in summaries):
        return ""
    return "known in " + " and ".join(str(its["n"]) for its in summaries)


def _label(name: str) -> str:
    """Return a column's name as words.

    >>> _label("rest_mbf, mean of 17 segments")
    'mean rest mbf'
    """
    prefix = name.removesuffix(OF_SEGMENTS)
    return plain(name) if prefix == name else f"mean {plain(prefix)}"


def _cells(row: Mapping[str, Any]) -> list[tuple[str, str]]:
    summaries = list(row["groups"].values())
    if row.get(WITHHELD):
        return [("not shown", "")] * len(summaries)
    if row["kind"] == BINARY:
        return [(_say_share(its), "") for its in summaries]
    digits = _digits([its["sd"] for its in summaries if its["sd"]])
    is_skewed = row["mann_whitney_p"] is not None
    return [_say_values(its, digits, with_median=is_skewed) for its in summaries]


def _say_share(its: Mapping[str, Any]) -> str:
    if its["share"] is None:
        return "—"
    share = percent(its["share"])
    return share if its["count"] is None else f"{its['count']} ({share})"


def _say_values(its: Mapping[str, Any], digits: int, *, with_median: bool) -> tuple[str, str]:
    if its["mean"] is None:
        return "—", ""
    spread = number(its["sd"], digits) if its["sd"] is not None else "—"
    said = f"{number(its['mean'], digits)} ±{SPACE}{spread}"
    if not with_median:
        return said, ""
    lower, upper = (number(its[name], digits) for name in ("lower_quartile", "upper_quartile"))
    return said, f"{number(its['median'], digits)} ({lower} to {upper})"


def _digits(deviations: Sequence[float]) -> int:
    """Return how many decimals show at least two digits of the smallest standard deviation.

    >>> _digits([10.4]), _digits([0.31, 0.2]), _digits([140.0, 200.0])
    (1, 2, 0)
    """
    if not deviations or 1 <= min(deviations) < 100:
        return 1
    return min(4, max(0, 1 - math.floor(math.log10(min(deviations)))))
