"""Nested cross-validation: a whole search inside each outer fold, one prediction for every patient.

The cohort is cut into outer folds. Each is the test set of a study of its own, whose search sees
the other folds alone. All is frozen before the first of them is opened.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from polartune.steps import LOG, step
from polartune.turns import Turn, bars, holding, train_in_turn
from spaces.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cohort.patients import Patients
    from spaces.study import Study


def run_nested(
    file: Path, *, out: Path = Path("runs"), address: str | None = None, console: Console
) -> Path:
    """Run the search of a study inside each outer fold, or continue; return the folder of the runs.

    Raises:
        InputError: the file, the cohort or the weights break a rule, or the study cannot be nested.
        RefusedError: a run is in use, or belongs to another study, cohort or split.
        NoCompleteTrialError: a search gave no model; the others have, and nothing was opened.
    """
    from analysis.judge.evaluate import evaluate_together
    from analysis.judge.nested import judge_nested
    from analysis.report.nested import write_nested
    from analysis.report.page import write_report
    from cohort.enrolment import enrol
    from spaces.environment import check_packages
    from spaces.run_files import RunFiles
    from spaces.session import driving
    from spaces.study import read_study

    check_packages()
    study, folder = read_study(file), file.parent
    name = f"{study.name}-nested"
    root = out / name
    turns = []
    for its in outer_studies(study):
        console.print(f"Checking the cohort for {its.name}.", highlight=False)
        run = RunFiles(root / its.name)
        turns.append(Turn(its, run, enrol(its, folder, run)))
    for warning in {warning: None for turn in turns for warning in turn.cohort.warnings}:
        LOG.warning(warning)
    members = [(turn.run, turn.cohort) for turn in turns]

    def summarise(outcomes: Sequence[Patients]) -> None:
        judge_nested(root, study, members, outcomes)

    with driving(RunFiles(root)):
        train_in_turn(name, folder, turns, address=address, console=console)
        with holding(folder, turns):
            with step("evaluate", console), bars(len(turns), console) as progress:
                evaluate_together(
                    members,
                    name=name,
                    frozen_file=root / "frozen.json",
                    progress=progress,
                    summarise=summarise,
                )
            with step("report", console):
                for run, cohort in members:
                    write_report(run, cohort)
                write_nested(root, study)
    return root


def outer_studies(study: Study) -> list[Study]:
    """Return the study of each outer fold, called ``outer1`` and so on.

    Raises:
        InputError: it searches nothing, trains no logits, starts from another run, or says itself
            who is test.
    """
    from spaces.study import Study as AnyStudy

    if study.is_fixed:
        raise InputError(
            "space",
            "searches nothing: a configuration that was found on these patients has seen them all",
            "Give at least one parameter a range",
        )
    if study.space.lambda_ == 0:
        raise InputError(
            "space.lambda",
            "is 0: the logits, which nested cross-validation judges, are not trained",
            "Give it a value above 0, or a range",
        )
    section = study.cohort.split
    if section.outer_fold is not None or section.column is not None:
        key = "outer_fold" if section.outer_fold is not None else "column"
        raise InputError(
            f"cohort.split.{key}",
            "must be left out: nested cross-validation tests every patient once",
            "Remove it",
        )
    if study.transfer is not None:
        raise InputError(
            "transfer", "cannot be nested: the first step has seen every patient", "Remove it"
        )
    content = study.model_dump(by_alias=True, exclude={"evidence"})
    return [
        AnyStudy.model_validate(
            {
                **content,
                "name": f"outer{fold + 1}",
                "cohort": {
                    **content["cohort"],
                    "split": {**content["cohort"]["split"], "outer_fold": fold},
                },
            }
        )
        for fold in range(section.outer_folds)
    ]
