"""The commands that run several studies: a campaign, and nested cross-validation."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from polartune.steps import say
from spaces import errors

StudyFile = Annotated[Path, typer.Argument(metavar="STUDY", help="A study file (YAML).")]
Address = Annotated[
    str | None,
    typer.Option(help="A running Ray cluster: auto or HOST:PORT. Default: a local Ray of its own."),
]


def campaign_command(
    file: Annotated[Path, typer.Argument(metavar="CAMPAIGN", help="A campaign file (YAML).")],
    out: Annotated[Path, typer.Option(help="Folder of run directories.")] = Path("runs"),
    address: Address = None,
) -> None:
    """Do everything for many targets and inputs: one split, one look at the test set.

    Running the same campaign again continues an interrupted one.
    """
    from analysis.show.campaign import show_campaign
    from polartune.campaign import run_campaign

    console = Console()
    plan = run_campaign(file, out=out, address=address, console=console)
    if show_campaign(plan, console):
        raise typer.Exit(errors.SOME_TRIALS_FAILED)


def nested_command(
    study: StudyFile,
    out: Annotated[Path, typer.Option(help="Folder of run directories.")] = Path("runs"),
    address: Address = None,
) -> None:
    """Run the whole search inside each outer fold: a prediction for every patient.

    Costs a search for each of cohort.split.outer_folds. Running it again
    continues an interrupted one.
    """
    from analysis.judge.nested import KIND, RESULT
    from analysis.report.nested import PAGE, nested_answer
    from polartune.nested import run_nested
    from spaces.run_files import read_json

    console = Console()
    root = run_nested(study, out=out, address=address, console=console)
    console.print()
    console.print(nested_answer(read_json(root / RESULT, KIND)), highlight=False, markup=False)
    console.print()
    say(f"{'report':<12} {root / PAGE}")
