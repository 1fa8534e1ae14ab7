"""The command line: what each command is called, takes and says."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from rich.console import Console
from rich.markup import escape

from polartune import data_commands, many_commands, model_commands
from polartune.many_commands import Address, StudyFile
from polartune.steps import continued, resumed, retrain, run, say, search
from spaces import errors
from spaces.errors import InputError
from spaces.storage import refuse_overwriting

HELP = """
From cardiac polar maps and a table of labels to a test result with its interval.

[bold]polartune init cohort.csv[/] drafts a study file, [bold]polartune check study.yaml[/] says \
what it would cost, [bold]polartune run study.yaml[/] does everything: a search over the loss \
weight, learning rate, weight decay and augmentation, each trial a full cross-validation; the \
best configuration retrained; its test AUC with intervals; a report.

Every scientific setting stands in the study file; no flag changes one. A run directory holds \
everything a run wrote, and running a study again continues it.
"""
EPILOG = f"""
[bold]Examples[/]
  polartune phantom cohorts/phantom && polartune run studies/demo.yaml
  polartune run study.yaml --address auto   [dim]on a Ray cluster[/]
  polartune run runs/demo/best.yaml         [dim]without searching[/]

[bold]Exit codes[/]
  {errors.DONE:>3}  done
  {errors.BAD_INPUT:>3}  bad input: a study, cohort, image or option breaks a rule
  {errors.SOME_TRIALS_FAILED:>3}  done, but some trials failed
  {errors.NO_COMPLETE_TRIAL:>3}  no trial was completed, so nothing can be chosen
  {errors.REFUSED:>3}  refused: the run is in use or another study's, or a file exists already
  {errors.INTERRUPTED:>3}  interrupted ({errors.TERMINATED}: terminated); run it again to continue
"""
app = typer.Typer(
    help=HELP,
    epilog=EPILOG,
    rich_markup_mode="rich",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.add_typer(data_commands.imports, name="import", rich_help_panel="Cohorts")
app.add_typer(data_commands.banks, name="bank", rich_help_panel="Look")

ASK, RUN, STEPS, LOOK = "Prepare", "Run", "Single steps of a run", "Look"
USE, COHORTS = "Use a model", "Cohorts"
RunFolder = Annotated[Path, typer.Argument(metavar="RUN", help="A run directory: runs/NAME.")]


@app.command("init", rich_help_panel=ASK)
def init_command(
    cohort: Annotated[Path, typer.Argument(metavar="COHORT", help="Your cohort table (CSV).")],
) -> None:
    """Draft a commented [bold]study.yaml[/] beside your cohort table.

    Looks for columns of images, of segments (prefix_01 to prefix_17) and of 0
    and 1, and names in the draft what it found. An existing study.yaml is never
    overwritten. Beside it comes study.schema.json, for editors.
    """
    from cohort.draft import draft_study
    from spaces.run_files import write_text
    from spaces.schema import SCHEMA_FILE, study_schema

    target = cohort.parent / "study.yaml"
    refuse_overwriting(target, "Move it away first")
    write_text(target, draft_study(cohort))
    write_text(cohort.parent / SCHEMA_FILE, study_schema())
    say(f"Wrote {target}. Read it, then: polartune check {shlex.quote(str(target))}")


@app.command("check", rich_help_panel=ASK)
def check_command(study: StudyFile) -> None:
    """Validate a study (or a campaign) and its cohort; say what would run and what it would cost.

    Shows patients per fold and class, the size of the search, time, memory and
    disk, and how wide the test AUC's interval will be. Changes nothing. Weights
    that are neither here nor in a file are downloaded by torchvision.
    """
    from analysis.show.check import show_forecast, show_patients, show_size
    from analysis.show.forecast import Size, forecast
    from cohort.table import read_cohort
    from spaces.campaign import is_campaign
    from spaces.study import read_study

    if is_campaign(study):
        from polartune.campaign import check_campaign

        check_campaign(study, Console())
        return
    content = read_study(study)
    cohort = read_cohort(content, study.parent)
    console = Console()
    show_patients(content, cohort, console)  # before the weights, which may not be had
    show_size(content, Size.of(content, cohort), console)
    show_forecast(forecast(content, cohort, study.parent), console)


app.command("check-cluster", rich_help_panel=ASK)(data_commands.check_cluster_command)


@app.command("schema", rich_help_panel=ASK)
def schema_command() -> None:
    """Print the JSON schema of study files: every key, what it means, which values it takes.

    An editor for YAML completes and checks study files whose first line names the
    schema, as in the drafts of init.
    """
    from spaces.schema import study_schema

    sys.stdout.write(study_schema())


@app.command("run", rich_help_panel=RUN)
def run_command(
    study: StudyFile,
    out: Annotated[Path, typer.Option(help="Folder of run directories.")] = Path("runs"),
    address: Address = None,
) -> None:
    """Do everything: search, select, retrain, evaluate, report.

    Running the same study again continues an interrupted run.
    """
    from analysis.show.result import show_result

    console = Console()
    result = run(study, out=out, address=address, console=console, ends_process=True)
    show_result(result, console)
    if result.failed_trials:
        _end_with_failures(result.root)


app.command("campaign", rich_help_panel=RUN)(many_commands.campaign_command)
app.command("nested", rich_help_panel=RUN)(many_commands.nested_command)


@app.command("search", rich_help_panel=STEPS)
def search_command(folder: RunFolder, address: Address = None) -> None:
    """Fill the feature bank and try the configurations that are still to be tried."""
    from analysis.choose.choice import choose
    from spaces.study import read_study
    from spaces.trial_log import read_trials

    console = Console()
    with continued(folder) as (files, cohort), resumed(files, cohort, address, console) as place:
        outcome = search(files, place, console)
    if not outcome.complete:
        choose(read_study(files.study), read_trials(files.trials))  # says why it cannot
    if outcome.failed:
        _end_with_failures(folder)


def _end_with_failures(folder: Path) -> NoReturn:
    """Say in one line how many trials of a run failed, and why the first did; exit with 3."""
    from spaces.run_files import RunFiles
    from spaces.trial_log import read_trials

    trials = read_trials(RunFiles(folder).trials)
    failed = [trial for trial in trials if trial.state == "failed"]
    sys.stderr.write(
        f"polartune: {len(failed)} of {len(trials)} trials failed: {failed[0].reason}\n"
    )
    raise typer.Exit(errors.SOME_TRIALS_FAILED)


@app.command("select", rich_help_panel=STEPS)
def select_command(folder: RunFolder) -> None:
    """Choose the configuration: write best.yaml, best/1..5.yaml and best.json."""
    from analysis.choose.select import select

    with continued(folder) as (files, _):
        select(files)
    say(f"Wrote {files.best_study}")


@app.command("retrain", rich_help_panel=STEPS)
def retrain_command(folder: RunFolder, address: Address = None) -> None:
    """Train the chosen configuration again: each fold (replay check), then all of development.

    Chooses it first, as select does.
    """
    console = Console()
    with continued(folder) as (files, cohort), resumed(files, cohort, address, console) as place:
        retrain(files, place, console)


@app.command("evaluate", rich_help_panel=STEPS)
def evaluate_command(
    folder: RunFolder,
    cohort: Annotated[
        Path | None,
        typer.Option(
            metavar="OTHER.csv", help="Judge what was frozen on the patients of this table instead."
        ),
    ] = None,
) -> None:
    """Freeze the model, then open the sealed test set and measure. Each opening is recorded.

    With --cohort, what was frozen is judged on the patients of another table:
    external validation. Nothing is fitted on them; their openings are recorded.
    """
    from analysis.judge.evaluate import evaluate, evaluate_external

    console = Console()
    with continued(folder) as (files, own):
        if cohort is None:
            console.print(evaluate(files, own).sentence, markup=False)
            return
        judged = evaluate_external(files, own, cohort)
    console.print(judged.sentence, markup=False)
    for warning in judged.content["warnings"]:
        console.print(f"[yellow]warning[/] {escape(warning)}", highlight=False)
    say(f"polartune report {shlex.quote(str(folder))} shows it.")


@app.command("report", rich_help_panel=STEPS)
def report_command(folder: RunFolder) -> None:
    """Write report.html, one file that needs nothing else."""
    from analysis.report.page import write_report

    with continued(folder) as (files, cohort):
        say(f"Wrote {write_report(files, cohort)}")


app.command("predict", rich_help_panel=USE)(model_commands.predict_command)
app.command("export", rich_help_panel=USE)(model_commands.export_command)


@app.command("status", rich_help_panel=LOOK)
def status_command(folder: RunFolder) -> None:
    """Show trials, the best one, which steps are done and where the files are."""
    from analysis.show.status import show_status
    from spaces.run_files import RunFiles

    show_status(RunFiles(folder), Console())


@app.command("compare", rich_help_panel=LOOK)
def compare_command(
    folders: Annotated[
        list[Path], typer.Argument(metavar="RUN", help="Two or more run directories.")
    ],
    csv: Annotated[
        Path | None, typer.Option(help="Also write the table (CSV), to a new file.")
    ] = None,
) -> None:
    """Show runs side by side: score, test AUC, paired difference, settings that differ.

    Opens no test set: it shows the test AUC of a run that has one already.
    """
    from analysis.show.compare import compare, show_comparison, write_comparison

    if csv is not None:
        refuse_overwriting(csv, "Name another file with --csv, or move it away")
    runs, differences = compare(folders)
    show_comparison(runs, differences, Console())
    if csv is not None:
        write_comparison(runs, differences, csv)
        say(f"Wrote {csv}")


@app.command("watch", rich_help_panel=LOOK)
def watch_command(folder: RunFolder) -> None:
    """Serve TensorBoard for a run, on this computer only (127.0.0.1). Ctrl-C ends it."""
    from tensorboard import program

    from spaces.run_files import RunFiles

    files = RunFiles(folder)
    if not files.tensorboard.is_dir():
        raise InputError(str(files.tensorboard), "does not exist", "Search first")
    board = program.TensorBoard()
    board.configure(argv=["", "--logdir", str(files.tensorboard), "--host", "127.0.0.1"])
    raise typer.Exit(board.main())


app.command("phantom", rich_help_panel=COHORTS)(data_commands.phantom_command)


@app.callback(invoke_without_command=True)
def root_command(
    version: Annotated[bool, typer.Option("--version", help="Show the version and exit.")] = False,
) -> None:
    """See ``HELP``."""
    if version:
        from spaces.environment import version_of

        typer.echo(f"polartune {version_of('polartune') or 'not installed'}")
        raise typer.Exit
