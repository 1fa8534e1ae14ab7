"""The report: one HTML file that says what was found, of whom, and how sure one may be."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from analysis.judge.answer import answer, headline, limits, number, percent, question, say_p, title
from analysis.judge.evaluate import list_openings, list_openings_of_other_splits
from analysis.report.attention_panel import show_attention
from analysis.report.checklists import fill, table
from analysis.report.contents import Contents, describe
from analysis.report.findings import Findings, read_findings
from analysis.report.honesty import moment, own_up
from analysis.report.membership import read_membership
from analysis.report.panels import FOLDER, METHODS, table_of
from analysis.report.pointing_panel import show_pointing
from analysis.report.search_panels import show_endings, show_search
from cohort.table import Cohort
from spaces.parameters import Choices, Range
from spaces.run_files import RunFiles, write_json, write_text
from spaces.study import Study

TEMPLATE, STYLE = "report.html", "report.css"
SUMMARY = "summary.json"
SHOWN_TRIALS = 10
# Files that hold the numbers, in the order in which they are listed when they exist.
FILES = {
    f"{FOLDER}/{SUMMARY}": "the first page of this report, for programs",
    "best.yaml": "the chosen configuration; run it to train again without searching",
    "best.json": "the choice, its alternatives and the ranking of all trials",
    "model/model.json": "the retrained model and its replay check",
    "test/metrics.json": "every test metric with its intervals",
    "test/metrics.csv": "the same as a table",
    "test/roc.csv": "the ROC curves of the test set",
    "test/bland_altman.csv": "mean segment values of the test patients, unnamed",
    "model/out_of_fold_segments.parquet": "segment values of patients their fold model never saw",
    "test/baselines.json": "the frozen logistic regressions, or why there are none",
    "test/simple_predictors.json": "the frozen simpler predictors and subgroup definitions",
    "test/frozen.json": "digests of everything fixed before the test set was opened",
    "test/membership.json": "what this study is within its campaign",
    "test/attention.json": "where the model looked: patients shown, check with random heads",
    "test/predictions.parquet": "test predictions by keyed hash",
    "trials.jsonl": "the event log of the search",
    "environment.json": "versions and hashes",
    "network.json": "the frozen trunk's digest, and the precision of products",
    "study.yaml": "the study as run",
}
TABLES = {
    "flow": "who was studied",
    "patients_by_target": "characteristics of development patients by class",
    "patients_by_set": "characteristics of development and test patients",
    "aucs": "every AUC with every interval",
    "out_of_fold_and_test": "development and test side by side",
    "differences": "the model against the regressions",
    "performance": "every predictor on the test set with every metric",
    "calibration_estimates": "calibration slope, intercept and Brier score",
    "subgroups": "AUCs of subgroups and their differences",
    "decision": "net benefit over the declared range",
    "calls": "calls at each threshold, counts and intervals",
    "roc_out_of_fold": "the out-of-fold ROC curve",
    "roc_band": "intervals of sensitivity along the test ROC curve",
    "calibration": "the bins of the calibration",
    "segments": "errors of the segment values",
    "agreement": "agreement of predicted and measured segment values",
    "bland_altman_out_of_fold": "the points of its out-of-fold figure",
    "lowest_segment": "the lowest predicted segment as a classifier",
    "attention_segments": "mean attention of each segment by the class that the model says",
    "pointing": "whether Grad-CAM lies where phantoms have their stenosis",
    "references": "the winner beside the default configuration and lambda = 1",
    "configuration": "the chosen configuration and what was searched",
    "trials": "every trial",
    "strengths": "scores by augmentation strength",
    "endings": "how trials ended",
    "learning_curves": "the chosen trial by epoch",
    "external": "the model in other cohorts beside its own test set",
    "external_performance": "every predictor in other cohorts with every metric",
    "external_subgroups": "AUCs of subgroups of other cohorts and their differences",
    "honesty": "the honesty box",
    "checklists": "what TRIPOD+AI and CLAIM ask for, and where it is answered",
}


@dataclass(frozen=True)
class Words:
    """What the first page says, for programs too."""

    headline: str
    question: str
    answer: str | None
    flags: list[str]
    believe: list[str]
    do_not_believe: list[str]


def write_report(run: RunFiles, cohort: Cohort) -> Path:
    """Write report.html, its tables and figures (report/*.csv, *.json, *.svg); return its path.

    It can be written at any time: what has not been computed yet is named. The same run gives the
    same bytes. No id and no hash appears in it; a figure may have a dot a patient, unnamed.
    """
    found = read_findings(run, cohort)
    write_text(run.report, render(run, cohort, found))
    return run.report


def render(run: RunFiles, cohort: Cohort, found: Findings) -> str:
    """Return the report as one self-contained HTML document; write its tables and figures."""
    contents = describe(run, cohort, found)
    words = _words(found, contents)
    write_json(run.root / FOLDER / SUMMARY, "summary", asdict(words))
    membership = read_membership(run)
    statements = own_up(
        found.study,
        found.best,
        found.model,
        found.metrics,
        openings=list_openings(run, cohort),
        elsewhere=list_openings_of_other_splits(run, cohort),
        external=found.external,
        membership=membership,
    )
    table_of(run, "honesty", pd.DataFrame([asdict(statement) for statement in statements]))
    parameters = configuration_rows(found.study, found.best) if found.best else []
    if parameters:
        table_of(run, "configuration", pd.DataFrame(parameters))
    attention = show_attention(run) if found.metrics else None
    figures = contents.figures | show_search(run, found.study, found.trials, found.best)
    if attention is not None:
        figures = figures | dict(attention.figures)
    for name, figure in figures.items():
        write_text(run.root / FOLDER / f"{name}.svg", figure.svg)
    shown = {
        "cohort": cohort,
        "found": found,
        "study": found.study,
        "best": found.best,
        "metrics": found.metrics,
        "model": found.model,
        "environment": found.environment,
        "words": words,
        "membership": membership,
        "contents": contents,
        "attention": attention,
        "pointing": show_pointing(run, cohort, found),
        "figures": figures,
        "methods": METHODS,
        "statements": statements,
        "endings": show_endings(run, found.trials),
        "parameters": parameters,
        "shown_trials": SHOWN_TRIALS,
        "openings": list_openings(run, cohort),
        "warnings": cohort.warnings,
    }
    template = environment().get_template(TEMPLATE)
    # What the report answers is known when it is written; the checklists then stand in it too.
    checklists = fill(template.render(shown, checklists=[], files={}))
    table_of(run, "checklists", table(checklists))
    return template.render(shown, checklists=checklists, files=_files(run) | _external_files(run))


def _words(found: Findings, contents: Contents) -> Words:
    belief = contents.belief
    return Words(
        headline=headline(found.study.cohort),
        question=question(found.study.cohort),
        answer=answer(found.metrics) if found.metrics else None,
        flags=found.flags(),
        believe=belief.yes if belief else [],
        do_not_believe=belief.no if belief else [],
    )


def environment() -> Environment:
    """Return where the templates lie, with the filters and the looks that they share."""
    made = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {
        "number": number,
        "limits": limits,
        "capital": title,
        "percent": percent,
        "p": say_p,
        "short": _short,
        "moment": moment,
    }
    style = Path(__file__).with_name(STYLE).read_text(encoding="utf-8")
    made.globals["style"] = Markup(style)  # noqa: S704  our own file
    return made


def _files(run: RunFiles) -> dict[str, str]:
    tables = {f"{FOLDER}/{name}.csv": said for name, said in TABLES.items()}
    listed = FILES | tables
    return {name: said for name, said in listed.items() if (run.root / name).exists()}


def _external_files(run: RunFiles) -> dict[str, str]:
    found = {}
    for folder in sorted(path.parent for path in run.external.glob("*/metrics.json")):
        name = folder.relative_to(run.root).as_posix()
        found[f"{name}/metrics.json"] = f"what was measured in the cohort {folder.name}"
        found[f"{name}/metrics.csv"] = "the same as a table"
        found[f"{name}/frozen.json"] = "digests of what was fixed before its outcomes were opened"
        table = f"{FOLDER}/patients_external_{folder.name}.csv"
        found[table] = f"characteristics of development patients and {folder.name}"
    return found


def _short(value: float) -> str:
    """Return three significant digits."""
    return f"{value:.3g}"


def configuration_rows(study: Study, best: Mapping[str, Any]) -> list[dict[str, Any]]:
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
