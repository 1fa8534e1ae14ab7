"""What a finished campaign says, in one table for the terminal."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table

from analysis.judge.answer import number, plain
from spaces.campaign import Plan
from spaces.run_files import RunFiles, read_json
from spaces.trial_log import read_trials


def show_campaign(plan: Plan, console: Console) -> int:
    """Print the test AUC of every study, and where to read on; return how many trials failed."""
    cells = {
        (cell["target"], cell["input"]): cell
        for cell in read_json(plan.summary, "campaign-result")["cells"]
    }
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("test AUC")
    for name in plan.campaign.inputs:
        table.add_column(name, justify="right", no_wrap=True)
    for target in plan.targets:
        shown = (_show(cells[target, name]) for name in plan.campaign.inputs)
        table.add_row(plain(target), *shown)
    console.print()
    console.print(table)
    console.print(
        "bold: the input with the highest development score; *: better than chance", style="dim"
    )
    failed = sum(
        trial.state == "failed"
        for member in plan.members
        for trial in read_trials(RunFiles(plan.root / member.study.name).trials)
    )
    if failed:
        console.print(f"{failed} trials failed; see the run.log of each study", style="yellow")
    console.print()
    console.print(f"{'report':<12} {plan.report}", soft_wrap=True, highlight=False)
    console.print(f"{'table':<12} {plan.summary.with_suffix('.csv')}", soft_wrap=True)
    return failed


def _show(cell: dict[str, Any]) -> str:
    text = number(cell["auc"])
    if cell["auc"] is not None:
        text += f" {number(cell['auc_low'])}-{number(cell['auc_high'])}"
    better = "*" if cell["auc_low"] is not None and cell["auc_low"] > 0.5 else " "
    return f"[bold]{text}[/]{better}" if cell["headline"] else f"{text}{better}"
