"""What a finished run says, in one value for notebooks and a few lines for the terminal."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from analysis.judge.answer import answer
from analysis.statistics.bootstrap import LOGIT_DELONG
from spaces.run_files import RunFiles, read_json
from spaces.trial_log import read_trials


@dataclass(frozen=True)
class Result:
    """What a finished run says, and where it says it.

    Attributes:
        root: the run directory.
        score: cross-validation score of the chosen trial; says nothing at lambda = 0.
        score_sd: its standard deviation over the folds.
        auc: test AUC; None if undefined, or if the logits were not trained (lambda = 0).
        interval: its lower and upper limit (logit-DeLong); None where undefined.
        baseline_auc: test AUC of logistic regression on the segment values; None without segments.
        patients: labelled test patients.
        failed_trials: trials that ended in an error.
        sentence: the answer in one sentence.
        report: the report, a single HTML file.
        best_study: the chosen configuration as a study file.
        model: the folder of the retrained model.
        metrics: everything that was measured on the test set.
    """

    root: Path
    score: float
    score_sd: float
    auc: float | None
    interval: tuple[float | None, float | None]
    baseline_auc: float | None
    patients: int
    failed_trials: int
    sentence: str
    report: Path
    best_study: Path
    model: Path
    metrics: dict[str, Any]


def read_result(run: RunFiles) -> Result:
    """Return the result of a finished run.

    Raises:
        InputError: a step has not been done.
    """
    metrics, best = read_json(run.metrics, "metrics"), read_json(run.best, "best")
    auc = metrics["model"].get("auc", {"estimate": None, "intervals": {}})
    interval = auc["intervals"].get(LOGIT_DELONG, {"low": None, "high": None})
    baselines = metrics["baselines"]
    primary = None if "skipped" in baselines else baselines[metrics["primary_comparison"]]
    return Result(
        root=run.root,
        score=best["score"],
        score_sd=best["score_sd"],
        auc=auc["estimate"],
        interval=(interval["low"], interval["high"]),
        baseline_auc=primary["auc"]["estimate"] if primary else None,
        patients=metrics["n"],
        failed_trials=sum(trial.state == "failed" for trial in read_trials(run.trials)),
        sentence=answer(metrics),
        report=run.report,
        best_study=run.best_study,
        model=run.model,
        metrics=metrics,
    )


def show_result(result: Result, console: Console) -> None:
    """Print the score, the answer, and where to read on."""
    console.print()
    model = result.metrics["model"]
    if "skipped" not in model:
        console.print(
            f"Cross-validation score {result.score:.3f} (SD over folds {result.score_sd:.3f})."
        )
    console.print(result.sentence, markup=False)
    unreliable = model.get("auc", {}).get("unreliable")
    if unreliable:
        console.print(f"Its intervals are unreliable: {unreliable}.", style="yellow")
    if result.failed_trials:
        console.print(f"{result.failed_trials} trials failed; see run.log", style="yellow")
    console.print()
    for what, where in (
        ("report", result.report),
        ("best.yaml", result.best_study),
        ("TensorBoard", f"polartune watch {result.root}"),
    ):
        console.print(f"{what:<12} {where}", soft_wrap=True, highlight=False)
