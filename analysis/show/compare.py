"""Runs side by side: what each found, by how much they differ, and which settings differ.

Nothing is opened here: a test AUC is shown where a run has one already.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from analysis.choose.choice import LOGITS_NOT_TRAINED, why_not_trained
from analysis.judge.answer import limits, number, why_exploratory
from analysis.statistics.bootstrap import LOGIT_DELONG, PERCENTILE, draw_resamples
from analysis.statistics.metrics import Estimate, compare_aucs, log_odds_of
from cohort.enrolment import reopen
from spaces.csv_files import write_csv
from spaces.errors import InputError, UserError
from spaces.run_files import RunFiles, read_json, read_out_of_fold, require_run
from spaces.study import Study, read_study
from spaces.trial_log import read_trials

# Where a run lies and what it is called; the digest of the table says which cohort it is.
NO_SETTINGS = ("format", "name", "evidence", "cohort.path", "bank.path")


@dataclass(frozen=True)
class Compared:
    """One run, from its files."""

    files: RunFiles

    def __post_init__(self) -> None:
        """Raises InputError if the folder is no run."""
        require_run(self.files)

    @cached_property
    def study(self) -> Study:
        """The study as run."""
        return read_study(self.files.study)

    @cached_property
    def best(self) -> dict[str, Any] | None:
        """The choice; None before one was made."""
        return read_json(self.files.best, "best") if self.files.best.exists() else None

    @cached_property
    def metrics(self) -> dict[str, Any] | None:
        """What was measured on the test set; None if this run has not opened it."""
        return read_json(self.files.metrics, "metrics") if self.files.metrics.exists() else None

    @property
    def test_auc(self) -> Estimate | None:
        """The test AUC; None if this run has not opened the test set, or trained no logits."""
        return self.metrics["model"].get("auc") if self.metrics else None

    @property
    def untrained(self) -> str:
        """Why neither score nor AUC is a result; empty if they are."""
        return (why_not_trained(self.best) or "") if self.best else ""

    @property
    def exploratory(self) -> str:
        """Why the test AUC is exploratory; empty if it is not, or if there is none."""
        return why_exploratory(self.metrics) if self.metrics else ""

    @cached_property
    def trials(self) -> tuple[int, int]:
        """How many trials are complete, and how many were asked."""
        trials = read_trials(self.files.trials)
        return sum(trial.is_complete for trial in trials), len(trials)

    @cached_property
    def settings(self) -> dict[str, Any]:
        """Every setting by its dotted name."""
        content = self.study.model_dump(mode="json", by_alias=True)
        return {name: value for name, value in _flat(content) if not name.startswith(NO_SETTINGS)}

    @property
    def identity(self) -> dict[str, Any]:
        """What must be equal for the patients and their outcomes to be the same."""
        begun = read_json(self.files.environment, "environment")
        section = self.study.cohort
        rule = section.derive.get(section.target)
        return {
            "cohort table": begun["cohort_sha256"],
            "split": begun["split_sha256"],
            "target": section.target,
            "rule for the target": rule.model_dump() if rule else None,
        }

    def log_odds(self) -> np.ndarray:
        """Return the winner's out-of-fold log odds, (development patients,)."""
        assert self.best is not None
        path = self.files.out_of_fold_of(self.best["trial"])
        logits = read_out_of_fold(path, self.best["oof_sha256"])
        return log_odds_of(logits[self.best["epochs"] - 1])


@dataclass(frozen=True)
class Difference:
    """The winner of one run against that of the first.

    Attributes:
        estimate: AUC minus the first run's, with intervals; None if they are not comparable.
        reason: why they are not.
    """

    estimate: Estimate | None
    reason: str = ""


def compare(folders: Sequence[Path]) -> tuple[list[Compared], list[Difference]]:
    """Return the runs, and how each but the first differs from the first.

    Raises:
        InputError: fewer than two runs, one given twice, or a folder that is no run.
    """
    if len({folder.resolve() for folder in folders}) < max(2, len(folders)):
        raise InputError("RUN", "needs at least two different runs", "Give each run once")
    runs = [Compared(RunFiles(folder)) for folder in folders]
    return runs, [_difference(runs[0], other) for other in runs[1:]]


def _difference(first: Compared, second: Compared) -> Difference:
    reason = _why_not(first, second)
    if reason:
        return Difference(None, reason)
    try:
        target = reopen(first.files, verify_images=False).development.target
        known = np.isfinite(target)
        mine, other = (run.log_odds()[known] for run in (first, second))
    except UserError as error:
        return Difference(None, str(error))
    except FileNotFoundError as error:
        return Difference(None, f"{Path(error.filename).name} is missing")
    positive, section = target[known] == 1, first.study.evaluation
    generator = np.random.default_rng(first.study.seed)
    resamples = draw_resamples(positive, section.bootstraps, generator=generator)
    return Difference(compare_aucs(positive, other, mine, resamples, section.confidence))


def _why_not(first: Compared, second: Compared) -> str:
    mine, other = first.identity, second.identity
    differ = [name for name in mine if mine[name] != other[name]]
    if differ:
        return f"another {', another '.join(differ)}"
    untrained = [run.files.root.name for run in (first, second) if run.untrained]
    if untrained:
        return f"{LOGITS_NOT_TRAINED} in {' and '.join(untrained)}"
    unchosen = [run.files.root.name for run in (first, second) if run.best is None]
    return f"nothing was selected yet in {' and '.join(unchosen)}" if unchosen else ""


def differing_settings(runs: Sequence[Compared]) -> dict[str, list[str]]:
    """Return the settings that are not the same in all runs, each with one value a run."""
    names = dict.fromkeys(name for run in runs for name in run.settings)
    values = {name: [_words(run.settings.get(name)) for run in runs] for name in names}
    return {name: found for name, found in values.items() if len(set(found)) > 1}


def show_comparison(
    runs: Sequence[Compared], differences: Sequence[Difference], console: Console
) -> None:
    """Print the runs, the differences of their winners, and the settings that differ."""
    console.print(_run_table(runs))
    for at, run in enumerate(runs, start=1):
        if run.exploratory:
            console.print(f"{at}  test AUC exploratory: {run.exploratory}", highlight=False)
    console.print("\n[bold]Winner's out-of-fold AUC[/], minus that of 1, on the same patients")
    for at, difference in enumerate(differences, start=2):
        console.print(f"  {at} - 1  {escape(_sentence(difference, runs[0]))}", highlight=False)
    console.print()
    console.print(_setting_table(runs))
    console.print(
        "\nEach winner was chosen by these very patients, so its score is optimistic, more so after"
        " more trials. A run chosen by its test AUC would make that optimistic too.",
        style="dim",
    )


def write_comparison(
    runs: Sequence[Compared], differences: Sequence[Difference], path: Path
) -> None:
    """Write one row a run, with every setting that differs, as CSV."""
    settings = differing_settings(runs)
    first = dict.fromkeys(("difference", "difference_low", "difference_high", "not_comparable"))
    rows = []
    for at, run in enumerate(runs):
        row = _row(run) | (_difference_row(differences[at - 1]) if at else first)
        rows.append(row | {name: values[at] for name, values in settings.items()})
    write_csv(path, pd.DataFrame(rows))


def _row(run: Compared) -> dict[str, Any]:
    best, section = {} if run.untrained else run.best or {}, run.study.cohort
    auc = run.test_auc or {"estimate": None, "intervals": {}}
    interval = auc["intervals"].get(LOGIT_DELONG, {})
    complete, asked = run.trials
    return {
        "run": run.files.root.name,
        "study": run.study.name,
        "target": section.target,
        "inputs": "+".join(section.inputs),
        "trials_complete": complete,
        "trials_asked": asked,
        "cv_score": best.get("score"),
        "cv_score_sd": best.get("score_sd"),
        "test_auc": auc["estimate"],
        "test_auc_low": interval.get("low"),
        "test_auc_high": interval.get("high"),
        "test_exploratory": run.exploratory,
    }


def _difference_row(difference: Difference) -> dict[str, Any]:
    found = difference.estimate or {"estimate": None, "intervals": {}}
    interval = found["intervals"].get(PERCENTILE, {})
    return {
        "difference": found["estimate"],
        "difference_low": interval.get("low"),
        "difference_high": interval.get("high"),
        "not_comparable": difference.reason,
    }


def _run_table(runs: Sequence[Compared]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("", no_wrap=True)
    for heading in ("run", "study", "target", "inputs"):
        table.add_column(heading, overflow="fold")
    for heading in ("trials", "CV score\n(SD)", "test AUC\n(interval)"):
        table.add_column(heading, justify="right", no_wrap=True)
    for at, run in enumerate(runs, start=1):
        section, best, auc = run.study.cohort, run.best, run.test_auc
        complete, asked = run.trials
        score = f"{best['score']:.3f}\n({best['score_sd']:.3f})" if best else "not selected"
        test = "not opened" if run.metrics is None else "not trained"
        if run.untrained:
            score = "not trained"
        if auc:
            test = f"{number(auc['estimate'])}\n({limits(auc['intervals'][LOGIT_DELONG])})"
        if run.exploratory:
            test += "\nexploratory"
        names = (run.files.root.name, run.study.name, section.target, " + ".join(section.inputs))
        words = [escape(name) for name in names]
        table.add_row(str(at), *words, f"{complete} of {asked}", score, test)
    return table


def _setting_table(runs: Sequence[Compared]) -> Table:
    settings = differing_settings(runs)
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("settings that differ" if settings else "no setting differs", overflow="fold")
    for at in range(1, len(runs) + 1):
        table.add_column(str(at), overflow="fold")
    for name, values in settings.items():
        table.add_row(name, *map(escape, values))
    return table


def _sentence(difference: Difference, first: Compared) -> str:
    found = difference.estimate
    if found is None:
        return f"not comparable: {difference.reason}"
    level = f"{first.study.evaluation.confidence:.0%}".replace("%", " %")
    interval = limits(found["intervals"][PERCENTILE], 3)
    words = f"{number(found['estimate'], 3)} ({level} interval {interval}, paired bootstrap, "
    unreliable = f"; unreliable: {found['unreliable']}" if found["unreliable"] else ""
    return f"{words}n = {found['n']}{unreliable})"


def _flat(content: Mapping[str, Any], before: str = "") -> list[tuple[str, Any]]:
    """Return the leaves of nested mappings by dotted name; a searched parameter is one leaf."""
    found = []
    for key, value in content.items():
        if isinstance(value, Mapping) and value and before != "space.":
            found += _flat(value, f"{before}{key}.")
        else:
            found.append((f"{before}{key}", value))
    return found


def _words(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
