"""The report: one HTML file that says what was found, of whom, and how sure one may be."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from analysis.answer import answer, limits, meaning, number, why_exploratory
from analysis.baselines import LABELS
from analysis.bootstrap import CLOPPER_PEARSON
from analysis.evaluate import list_openings, list_openings_of_other_splits
from analysis.metrics import HALF, PROPORTIONS, YOUDEN
from analysis.panels import METHODS, draw_calibration, draw_search, draw_test
from cohort.table import Cohort
from spaces.parameters import Choices, Range
from spaces.run_files import RunFiles, read_json, write_text
from spaces.study import Study, read_study
from spaces.trial_log import TrialRecord, read_trials

TEMPLATE = "report.html"
SHOWN_TRIALS = 10
# Files that hold the numbers, in the order in which they are listed when they exist.
FILES = {
    "best.yaml": "the chosen configuration; run it to train again without searching",
    "best.json": "the choice, its alternatives and the ranking of all trials",
    "model/model.json": "the retrained model and its replay check",
    "test/metrics.json": "every test metric with its intervals",
    "test/metrics.csv": "the same as a table",
    "test/frozen.json": "digests of everything fixed before the test set was opened",
    "test/predictions.parquet": "test predictions by keyed hash",
    "trials.jsonl": "the event log of the search",
    "environment.json": "versions and hashes",
    "study.yaml": "the study as run",
}


@dataclass(frozen=True)
class Findings:
    """What the run directory holds so far; None where a step has not been done."""

    study: Study
    trials: list[TrialRecord]
    best: Mapping[str, Any] | None
    model: Mapping[str, Any] | None
    metrics: Mapping[str, Any] | None
    environment: Mapping[str, Any] | None


def write_report(run: RunFiles, cohort: Cohort) -> Path:
    """Write report.html and the tables behind its figures (report/*.csv); return its path.

    It can be written at any time: what has not been computed yet is named. The same run gives the
    same bytes. No patient appears in it.
    """
    found = Findings(
        study=read_study(run.study),
        trials=read_trials(run.trials),
        best=_read(run.best, "best"),
        model=_read(run.model / "model.json", "model"),
        metrics=_read(run.metrics, "metrics"),
        environment=_read(run.environment, "environment"),
    )
    write_text(run.report, render(run, cohort, found))
    return run.report


def render(run: RunFiles, cohort: Cohort, found: Findings) -> str:
    """Return the report as one self-contained HTML document."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"number": number, "limits": limits, "short": _short}
    return environment.get_template(TEMPLATE).render(
        study=found.study,
        cohort=cohort,
        trials=found.trials,
        best=found.best,
        metrics=found.metrics,
        model=found.model,
        environment=found.environment,
        answer=answer(found.metrics) if found.metrics else None,
        meaning=meaning(found.metrics) if found.metrics else None,
        classifiers=_classifiers(found.metrics) if found.metrics else [],
        methods=METHODS,
        proportions={name: _METRIC_LABELS[name] for name in PROPORTIONS},
        exact=CLOPPER_PEARSON,
        thresholds={HALF: "at", YOUDEN: "Youden"},
        flags=_flags(found, cohort),
        missing=_missing(found),
        parameters=_parameters(found.study, found.best) if found.best else [],
        shown_trials=SHOWN_TRIALS,
        openings=list_openings(run, cohort),
        openings_of_other_splits=list_openings_of_other_splits(run, cohort),
        test_figures=draw_test(run, cohort, found.best, found.metrics),
        calibration_figures=draw_calibration(run, cohort, found.study, found.best),
        search_figures=draw_search(run, found.study, found.trials, found.best),
        excluded=_excluded(cohort),
        warnings=[*(found.best["warnings"] if found.best else []), *cohort.warnings],
        files={name: said for name, said in FILES.items() if (run.root / name).exists()},
    )


_METRIC_LABELS = {
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "sensitivity": "sensitivity",
    "specificity": "specificity",
    "ppv": "positive predictive value",
    "npv": "negative predictive value",
}


def _read(path: Path, kind: str) -> dict[str, Any] | None:
    return read_json(path, kind) if path.exists() else None


def _short(value: float) -> str:
    """Return three significant digits."""
    return f"{value:.3g}"


def _classifiers(metrics: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    """Return the model and the regressions that it is compared with, the primary one first."""
    found: list[tuple[str, Mapping[str, Any]]] = [("model", metrics["model"])]
    if "skipped" in metrics["baselines"]:
        return found
    primary = metrics["primary_comparison"]
    names = sorted(metrics["baselines"], key=lambda name: name != primary)
    return found + [(LABELS[name], metrics["baselines"][name]) for name in names]


def _flags(found: Findings, cohort: Cohort) -> list[str]:
    """Return what a reader must know before any number."""
    flags = []
    if (cohort.folder / "truth.json").exists():
        flags.append("phantom: drawn maps of invented patients")
    if found.metrics is None:
        flags.append("test set not evaluated by this run")
    elif found.metrics["exploratory"]:
        flags.append(f"exploratory: {why_exploratory(found.metrics)}")
    if found.study.network.weights == "random":
        flags.append("random trunk: the network was not pretrained")
    if found.best and any("Under-searched" in text for text in found.best["warnings"]):
        flags.append("under-searched")
    if found.study.search.order == "asynchronous" and not found.study.is_fixed:
        flags.append("asynchronous search: proposals depend on timing")
    if found.model and not found.model["replay"]["bit_equal"]:
        flags.append("replay differs from the search")
    return flags


def _missing(found: Findings) -> list[tuple[str, str]]:
    """Return the steps that were not done, with the command that does each."""
    steps = (
        ("search", "polartune run STUDY", bool(found.trials)),
        ("selection", "polartune select RUN", found.best is not None),
        ("retraining", "polartune retrain RUN", found.model is not None),
        ("evaluation on the test set", "polartune evaluate RUN", found.metrics is not None),
    )
    return [(name, command) for name, command, is_done in steps if not is_done]


def _parameters(study: Study, best: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return each parameter with its value under both rules and what was searched."""
    alternatives = best["alternatives"]
    return [
        {
            "name": name,
            "chosen": value,
            "best": alternatives["best"]["configuration"][name],
            "one_se": alternatives["one_se"]["configuration"][name],
            "searched": _describe_parameter(study.space.parameter(name)),
        }
        for name, value in best["configuration"].items()
    ]


def _describe_parameter(parameter: float | Range | Choices) -> str:
    if isinstance(parameter, Range):
        scale = ", log scale" if parameter.log else ""
        return f"{parameter.low:g} to {parameter.high:g}{scale}"
    if isinstance(parameter, Choices):
        return ", ".join(f"{choice:g}" for choice in parameter.choices)
    return "fixed"


def _excluded(cohort: Cohort) -> dict[str, int]:
    excluded = cohort.flow.get("excluded", {})
    return dict(excluded) if isinstance(excluded, Mapping) else {}
