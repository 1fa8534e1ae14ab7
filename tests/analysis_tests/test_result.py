"""What a run says on the terminal when it has ended."""

from __future__ import annotations

import io
from pathlib import Path

from rich.console import Console

from analysis.show.result import Result, show_result


def test_the_answer_is_shown_to_the_letter() -> None:
    """It names columns of the cohort, and a name in brackets is no markup."""
    sentence = "On 40 patients the AUC for flow[rest] is 0.80."
    result = Result(
        root=Path("run"),
        score=0.8,
        score_sd=0.1,
        auc=0.8,
        interval=(0.7, 0.9),
        baseline_auc=None,
        patients=40,
        failed_trials=0,
        sentence=sentence,
        report=Path("report.html"),
        best_study=Path("best.yaml"),
        model=Path("model"),
        metrics={"model": {"auc": {}}},
    )
    console = Console(file=io.StringIO(), width=80, record=True)
    show_result(result, console)
    assert sentence in console.export_text()
