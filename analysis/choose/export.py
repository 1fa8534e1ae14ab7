"""The chosen configuration as files: best.yaml, best/1..5.yaml, best.json."""

from __future__ import annotations

import posixpath
from typing import Any

from analysis.choose.choice import Choice, Selection
from spaces.run_files import RunFiles, read_json, write_json, write_text
from spaces.sections import Evidence
from spaces.study import Study, fixed_study
from spaces.trial_log import TrialRecord

RANKED = 5
NAME_LENGTH = 64


def write_selection(
    run: RunFiles, study: Study, selection: Selection, *, split_sha256: str
) -> None:
    """Write best.yaml, the configurations of rank 1 to 5, and best.json.

    best.yaml lies beside study.yaml, so its paths are the study's; those in best/ gain a ``../``.
    """
    best = as_study(study, selection, selection.chosen, split_sha256=split_sha256, suffix="best")
    write_text(run.best_study, best.as_yaml())
    for choice in selection.complete[:RANKED]:
        ranked = as_study(
            study, selection, choice, split_sha256=split_sha256, suffix=f"rank{choice.rank}"
        )
        write_text(run.ranked_study(choice.rank), one_folder_deeper(ranked).as_yaml())
    write_json(run.best, "best", describe_selection(study, selection, split_sha256=split_sha256))


def as_study(
    study: Study, selection: Selection, choice: Choice, *, split_sha256: str, suffix: str
) -> Study:
    """Return a study that trains ``choice`` without searching, with the evidence for it.

    It gets its own name, hence its own run directory. A study that was fixed already keeps its
    name and the evidence of the search that it came from.
    """
    evidence = Evidence(
        study=study.name,
        trial=choice.trial.number,
        rank=choice.rank,
        score=choice.score,
        score_sd=choice.score_sd,
        best_epoch=choice.epochs,
        trials_complete=len(selection.complete),
        trials_asked=len(selection.ranking),
        split_sha256=split_sha256,
    )
    name = f"{study.name[: NAME_LENGTH - len(suffix) - 1]}-{suffix}"
    if study.is_fixed:
        evidence, name = study.evidence or evidence, study.name
    values = choice.trial.configuration.as_dict()
    fixed = fixed_study(study, values, choice.epochs, evidence)
    return fixed.model_copy(update={"name": name})


def one_folder_deeper(study: Study) -> Study:
    """Return the study as it must read in a subfolder: its relative paths gain a ``../``."""
    return study.with_paths(lambda path: posixpath.join("..", path))


def advise_another(run: RunFiles) -> str:
    """Return what to do about a choice that cannot be used: the best other one, if there is any."""
    other = run.ranked_study(2 if read_json(run.best, "best")["rank"] == 1 else 1)
    command = f": polartune run {other}" if other.exists() else ""
    return f"Select another configuration{command}"


def describe_selection(study: Study, selection: Selection, *, split_sha256: str) -> dict[str, Any]:
    """Return the content of best.json: the chosen trial, the alternatives and the ranking."""
    states = [trial.state for trial in selection.ranking]
    return {
        "study": study.name,
        "primary": selection.primary,
        **_describe_choice(selection.chosen),
        "alternatives": {
            rule: _describe_choice(choice) for rule, choice in selection.alternatives.items()
        },
        "one_se": {
            "difference": selection.difference,
            "standard_error": selection.standard_error,
        },
        "counts": {
            "asked": len(states),
            **{state: states.count(state) for state in ("complete", "stopped", "failed")},
        },
        "ranking": [_describe_trial(trial, selection) for trial in selection.ranking],
        "warnings": list(selection.warnings),
        "split_sha256": split_sha256,
    }


def _describe_choice(choice: Choice) -> dict[str, Any]:
    return {
        "trial": choice.trial.number,
        "rank": choice.rank,
        "configuration": choice.trial.configuration.as_dict(),
        "epochs": choice.epochs,
        "score": choice.score,
        "score_sd": choice.score_sd,
        "fold_auc": list(choice.fold_auc),
        "oof_sha256": choice.trial.oof_sha256,
    }


def _describe_trial(trial: TrialRecord, selection: Selection) -> dict[str, Any]:
    ranks = {choice.trial.number: choice.rank for choice in selection.complete}
    return {
        "rank": ranks.get(trial.number),
        "trial": trial.number,
        "state": trial.state,
        "reason": trial.reason,
        "source": trial.source,
        "score": trial.score,
        "best_epoch": trial.best_epoch,
        "epochs": len(trial.epochs),
        "configuration": trial.configuration.as_dict(),
    }
