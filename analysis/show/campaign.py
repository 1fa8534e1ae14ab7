"""What a finished campaign says, in one table for the terminal."""

from __future__ import annotations

from collections.abc import Mapping
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
    if any(is_doubted(cell) for cell in cells.values()):
        console.print("\N{DAGGER}: its interval is not to be relied on, see report", style="dim")
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


def is_doubted(cell: Mapping[str, Any]) -> bool:
    """Whether the interval of a cell's AUC says nothing, or is not to be relied on."""
    if cell["untrained"]:
        return False
    return not cell["auc_usable"] or cell["unreliable"] is not None


def _show(cell: Mapping[str, Any]) -> str:
    if cell["untrained"]:
        return "not trained"
    text = number(cell["auc"])
    if cell["auc_usable"]:
        text += f" {number(cell['auc_low'])}-{number(cell['auc_high'])}"
    marks = ("*" if cell["above_chance"] else "") + ("\N{DAGGER}" if is_doubted(cell) else "")
    return (f"[bold]{text}[/]" if cell["headline"] else text) + f"{marks:2}"
