"""polartune: the command line, and ``polartune.run`` for notebooks. Walks the packages in order."""

from __future__ import annotations

import logging
import shlex
import signal
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib import import_module
from itertools import accumulate
from pathlib import Path
from threading import Thread
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer
from rich.console import Console

from spaces import errors
from spaces.errors import InputError, RefusedError, UserError

# Packages with torch, ray or pandas are imported where they are needed: --help must be quick.
if TYPE_CHECKING:
    from rich.progress import Progress

    from analysis.result import Result
    from cohort.table import Cohort
    from search.place import Place
    from spaces.run_files import RunFiles

LOG = logging.getLogger("polartune")

HELP = """
From cardiac polar maps and a table of labels to a test result with its interval.

[bold]polartune init cohort.csv[/] drafts a study file, [bold]polartune check study.yaml[/] says \
what it would cost, [bold]polartune run study.yaml[/] does everything: a search over the loss \
weight, learning rate, weight decay and augmentation, each trial a full cross-validation; the \
best configuration retrained; its test AUC with bootstrapped interval; a report.

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
imports = typer.Typer(
    help="Bring a public data set into the form of a cohort.", no_args_is_help=True
)
app.add_typer(imports, name="import", rich_help_panel="Cohorts")
banks = typer.Typer(help="List and remove feature banks on disk.", no_args_is_help=True)
app.add_typer(banks, name="bank", rich_help_panel="Look")

ASK, RUN, STEPS, LOOK, COHORTS = "Prepare", "Run", "Single steps of a run", "Look", "Cohorts"
StudyFile = Annotated[Path, typer.Argument(metavar="STUDY", help="A study file (YAML).")]
RunFolder = Annotated[Path, typer.Argument(metavar="RUN", help="A run directory: runs/NAME.")]
BanksFolder = Annotated[
    Path, typer.Argument(metavar="FOLDER", help="A folder of banks, or a cohort's folder.")
]
Address = Annotated[
    str | None,
    typer.Option(help="A running Ray cluster: auto or HOST:PORT. Default: an own, local Ray."),
]


def run(
    study: str | Path,
    *,
    out: str | Path = "runs",
    address: str | None = None,
    console: Console | None = None,
) -> Result:
    """Run a study from its file to its report, or continue it, and return the result.

    Args:
        study: the study file.
        out: folder of run directories; this one is ``out/<name of the study>``.
        address: a running Ray cluster; None starts an own, local Ray.
        console: where progress is shown.

    Raises:
        InputError: study, cohort or weights break a rule; no run directory is left behind.
        RefusedError: the run is in use, or belongs to another study, cohort or split.
        NoCompleteTrialError: every trial failed.
    """
    from analysis.evaluate import evaluate
    from analysis.report import write_report
    from analysis.result import read_result
    from spaces.study import read_study

    console = console or Console()
    console.print("Checking the cohort; the first lines take half a minute.", highlight=False)
    with _begun(Path(study), Path(out)) as (files, cohort):
        if not (files.model / "model.json").exists():
            # A run may be continued on other slots than those it began with.
            with _placed(Path(study), address) as place:
                _search(files, place, console, read_study(Path(study)).search.stalled_after)
                _retrain(files, place, console)
        with _step("evaluate", console):
            LOG.info(evaluate(files, cohort).sentence)
        with _step("report", console):
            write_report(files, cohort)
        return read_result(files)


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
    if target.exists():
        raise RefusedError(str(target), "exists already", "Move it away first")
    write_text(target, draft_study(cohort))
    write_text(cohort.parent / SCHEMA_FILE, study_schema())
    advice = f"Wrote {target}. Read it, then: polartune check {shlex.quote(str(target))}"
    Console().print(advice, soft_wrap=True, highlight=False)


@app.command("check", rich_help_panel=ASK)
def check_command(study: StudyFile) -> None:
    """Validate a study and its cohort; say what would run and what it would cost.

    Shows patients per fold and class, the size of the search, time, memory and
    disk, and how wide the test AUC's interval will be. Changes nothing. Weights
    that are neither here nor in a file are downloaded by torchvision.
    """
    from analysis.forecast import forecast, show_forecast, show_patients
    from cohort.table import read_cohort
    from spaces.study import read_study

    content = read_study(study)
    cohort = read_cohort(content, study.parent)
    console = Console()
    show_patients(content, cohort, console)  # before the weights, which may not be had
    show_forecast(content, forecast(content, cohort, study.parent), console)


@app.command("schema", rich_help_panel=ASK)
def schema_command() -> None:
    """Print the JSON schema of study files: every key, what it means, which values it takes.

    An editor for YAML completes and checks a study whose first line names it.
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
    from analysis.result import show_result

    console = Console()
    result = run(study, out=out, address=address, console=console)
    show_result(result, console)
    if result.failed_trials:
        raise typer.Exit(errors.SOME_TRIALS_FAILED)


@app.command("search", rich_help_panel=STEPS)
def search_command(folder: RunFolder, address: Address = None) -> None:
    """Fill the feature bank and try the configurations that are still to be tried."""
    with _continued(folder) as (files, _), _placed(files.study, address) as place:
        _search(files, place, Console())


@app.command("select", rich_help_panel=STEPS)
def select_command(folder: RunFolder) -> None:
    """Choose the configuration: write best.yaml, best/1..5.yaml and best.json."""
    from analysis.select import select

    with _continued(folder) as (files, _):
        select(files)
    Console().print(f"Wrote {files.best_study}")


@app.command("retrain", rich_help_panel=STEPS)
def retrain_command(folder: RunFolder, address: Address = None) -> None:
    """Train the chosen configuration again: each fold (replay check), then all of development."""
    with _continued(folder) as (files, _), _placed(files.study, address) as place:
        _retrain(files, place, Console())


@app.command("evaluate", rich_help_panel=STEPS)
def evaluate_command(folder: RunFolder) -> None:
    """Freeze the model, then open the sealed test set and measure. Each opening is recorded."""
    from analysis.evaluate import evaluate

    with _continued(folder) as (files, cohort):
        Console().print(evaluate(files, cohort).sentence)


@app.command("report", rich_help_panel=STEPS)
def report_command(folder: RunFolder) -> None:
    """Write report.html, one file that needs nothing else."""
    from analysis.report import write_report

    with _continued(folder) as (files, cohort):
        Console().print(f"Wrote {write_report(files, cohort)}")


@app.command("status", rich_help_panel=LOOK)
def status_command(folder: RunFolder) -> None:
    """Show trials, the best one, which steps are done and where the files are."""
    from analysis.status import show_status
    from spaces.run_files import RunFiles

    show_status(RunFiles(folder), Console())


@app.command("compare", rich_help_panel=LOOK)
def compare_command(
    folders: Annotated[
        list[Path], typer.Argument(metavar="RUN", help="Two or more run directories.")
    ],
    csv: Annotated[Path | None, typer.Option(help="Also write the table to this file.")] = None,
) -> None:
    """Show runs side by side: score, test AUC, paired difference, settings that differ.

    Opens no test set: it shows the test AUC of a run that has one already.
    """
    from analysis.compare import compare, show_comparison, write_comparison

    runs, differences = compare(folders)
    show_comparison(runs, differences, Console())
    if csv is not None:
        write_comparison(runs, differences, csv)
        Console().print(f"Wrote {csv}")


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


@banks.command("list")
def bank_list_command(folder: BanksFolder) -> None:
    """List feature banks: map, network, strength, size, last use, whole or partial."""
    from spaces.bank_files import find_banks, in_words, read_banks, show_banks

    found = read_banks(find_banks(folder))
    show_banks(found, Console())
    total = in_words(sum(bank.size for bank in found))
    Console().print(f"{len(found)} banks, {total}", highlight=False)


@banks.command("prune")
def bank_prune_command(
    folder: BanksFolder,
    unused_for: Annotated[
        float, typer.Option(min=0.0, metavar="DAYS", help="Keep what was used since.")
    ] = 30.0,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Remove feature banks that no run has used for some days, after asking.

    A run that needs one again computes it again. Refused while a run works with
    these banks. Files that a dead process left unfinished go too, after an hour.
    """
    from spaces.bank_files import find_banks, in_words, removable, remove, show_banks

    console, root = Console(), find_banks(folder)
    found = removable(root, unused_for)
    if not found.banks and not found.leftovers:
        console.print(f"Nothing to remove: no bank is unused for {unused_for:g} days.")
        return
    if found.banks:
        show_banks(found.banks, console)
    what = f"{len(found.banks)} banks and {len(found.leftovers)} unfinished files"
    if not yes and not typer.confirm(f"Remove {what}, {in_words(found.size)}?"):
        console.print("Nothing was removed.")
        return
    console.print(f"Freed {in_words(remove(root, found, unused_for))}.", highlight=False)


@app.command("phantom", rich_help_panel=COHORTS)
def phantom_command(
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Folder to write.")],
    patients: Annotated[int, typer.Option(min=1, help="How many to draw.")] = 944,
    seed: Annotated[int, typer.Option(min=0, help="Patient i of a seed is always the same.")] = 0,
    maps: Annotated[
        list[str], typer.Option("--map", help="A map to draw; give it again for more.")
    ] = ["rest", "stress", "reserve"],  # noqa: B006  typer never changes it
    ceiling: Annotated[
        bool,
        typer.Option(
            "--ceiling", help="Also measure what model could reach, on 100,000 more: minutes."
        ),
    ] = False,
) -> None:
    """Draw a cohort of invented patients whose truth is known (truth.json)."""
    from cohort.phantom import draw_phantom

    if (out / "cohort.csv").exists():
        raise RefusedError(str(out / "cohort.csv"), "exists already", "Give another folder")
    with _progress(Console()) as progress:
        task = progress.add_task("drawing patients", total=patients)

        def advance(done: int, total: int) -> None:
            progress.update(task, completed=done)
            if ceiling and done == total:
                progress.add_task("measuring what any model could reach", total=None)

        table = draw_phantom(
            out,
            patients=patients,
            seed=seed,
            inputs=maps,
            ceiling=ceiling,
            progress=advance,
        )
    Console().print(f"Wrote {table}")


@imports.command("spectf")
def spectf_command(
    source: Annotated[
        Path, typer.Argument(metavar="SRC", help="Folder with SPECTF.train and SPECTF.test.")
    ],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Folder to write.")],
) -> None:
    """Draw rest and stress maps of the 267 patients of UCI's SPECTF Heart data set.

    The files are published as UCI Machine Learning Repository no. 96 (CC BY 4.0).
    """
    from cohort.spectf import import_spectf

    Console().print(f"Wrote {import_spectf(source, out)}")


@app.callback(invoke_without_command=True)
def root_command(
    version: Annotated[bool, typer.Option("--version", help="Show the version and exit.")] = False,
) -> None:
    """See ``HELP``."""
    if version:
        from spaces.environment import version_of

        typer.echo(f"polartune {version_of('polartune') or 'not installed'}")
        raise typer.Exit


@contextmanager
def _begun(study_file: Path, out: Path) -> Iterator[tuple[RunFiles, Cohort]]:
    """Give a run's files and cohort; begin the run if it is new, refuse if it is another's."""
    from cohort.enrolment import enrol, record
    from spaces.bank_files import bank_folder, using_banks
    from spaces.environment import check_packages
    from spaces.run_files import RunFiles
    from spaces.session import driving
    from spaces.study import read_study
    from trainable.problem import Problem

    check_packages()
    study, folder = read_study(study_file), study_file.parent
    files = RunFiles(out / study.name)
    cohort = enrol(study, folder, files)
    if not files.study.exists():
        # What cannot be had, weights or disk, must fail here, before there is a run directory.
        problem = Problem(study, cohort, folder, "cpu")
        problem.check_weights()
        problem.check_disk()
    with driving(files), using_banks(bank_folder(study.bank, folder, cohort.folder)):
        _warn_of_changes(record(files, study, folder, cohort))
        for warning in cohort.warnings:
            LOG.warning(warning)
        yield files, cohort


@contextmanager
def _continued(folder: Path) -> Iterator[tuple[RunFiles, Cohort]]:
    """Give the files and the cohort of a run that has begun."""
    from cohort.enrolment import record, reopen
    from spaces.bank_files import bank_folder, using_banks
    from spaces.run_files import RunFiles
    from spaces.session import driving
    from spaces.study import read_study

    files = RunFiles(folder)
    if not files.study.exists():
        raise InputError(str(folder), "is no run directory", "Give the folder with study.yaml")
    cohort, study = reopen(files), read_study(files.study)
    with driving(files), using_banks(bank_folder(study.bank, folder, cohort.folder)):
        _warn_of_changes(record(files, study, folder, cohort))
        yield files, cohort


def _warn_of_changes(changed: list[str]) -> None:
    if changed:
        LOG.warning("continued with another environment: %s", ", ".join(changed))


@contextmanager
def _placed(study_file: Path, address: str | None) -> Iterator[Place]:
    """Give the place that a study asks for."""
    from search.place import connected
    from spaces.study import read_study

    # Ray's start is mostly waiting, and what comes next takes seconds to import.
    Thread(target=_import_ahead).start()
    with connected(read_study(study_file).resources, address=address) as place:
        yield place


def _import_ahead() -> None:
    with suppress(Exception):  # whoever needs it will import it again, and say what is wrong
        for module in ("trainable.problem", "search.run"):
            import_module(module)


@contextmanager
def _step(name: str, console: Console) -> Iterator[None]:
    LOG.info("%s begins", name)
    start = time.monotonic()
    yield
    seconds = time.monotonic() - start
    LOG.info("%s took %.1f s", name, seconds)
    console.print(f"{name:<9} {seconds:5.0f} s", highlight=False)


def _search(
    files: RunFiles, place: Place, console: Console, stalled_after: float | None = None
) -> None:
    from search.run import search
    from spaces.trial_log import refuse_other_code

    refuse_other_code(files.trials)
    LOG.info(
        "%d slots on %s: %d CPUs, %g GPUs each", place.slots, place.device, place.cpus, place.gpus
    )
    with _step("bank", console):
        _fill_bank(files, place, console)
    with _step("search", console):
        search(files, place, console=console, stalled_after=stalled_after)


def _fill_bank(files: RunFiles, place: Place, console: Console) -> None:
    from trainable.problem import fill_part, missing_parts

    root = str(files.root.resolve())
    if place.is_own and place.device == "cpu":
        parts = missing_parts(root, place.device)  # a slot would first start a process
    else:
        [parts] = place.run_on_slots(missing_parts, [(root, place.device)])
    images = list(accumulate(part.images for part in parts))
    LOG.info(
        "bank: %d parts to fill, %d images and views", len(parts), sum(p.images for p in parts)
    )
    if not images:
        return
    with _progress(console) as progress:
        task = progress.add_task("feature bank: images", total=images[-1])
        place.run_on_slots(
            fill_part,
            [(root, place.device, part) for part in parts],
            progress=lambda done, _: progress.update(task, completed=images[done - 1]),
        )


def _retrain(files: RunFiles, place: Place, console: Console) -> None:
    from analysis.retrain import retrain
    from analysis.select import select
    from spaces.run_files import RunFiles
    from spaces.trial_log import refuse_other_code

    refuse_other_code(files.trials)
    with _step("select", console):
        select(files)
    with _step("retrain", console):
        # Slots may work in another folder, so they get an absolute path.
        retrain(RunFiles(files.root.resolve()), place.run_on_slots, place.device)


def _progress(console: Console) -> Progress:
    from rich import progress

    return progress.Progress(
        progress.TextColumn("{task.description}"),
        progress.BarColumn(),
        progress.MofNCompleteColumn(),
        progress.TimeRemainingColumn(),
        console=console,
        transient=True,
    )


def _terminate(_number: int, _frame: FrameType | None) -> NoReturn:
    sys.exit(errors.TERMINATED)


def _explain_on_one_line(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    """Print an unexpected error shortly when its traceback stands in a run's log."""
    notes = getattr(error, "__notes__", [])
    if not notes:
        traceback.print_exception(kind, error, trace)
        return
    text = " ".join(str(error).split())
    sys.stderr.write(f"polartune: unexpected {kind.__name__}: {text}; {'; '.join(notes)}\n")


def main() -> None:
    """Run the command line; never returns."""
    from spaces.environment import check_packages

    sys.excepthook = _explain_on_one_line
    signal.signal(signal.SIGTERM, _terminate)
    try:
        check_packages()
        typer.main.get_command(app)(prog_name="polartune")
    except UserError as error:
        sys.stderr.write(f"polartune: {error}\n")
        sys.exit(error.exit_code)
    except SystemExit as stop:
        if stop.code in {errors.INTERRUPTED, errors.TERMINATED}:
            sys.stderr.write("polartune: stopped. The same command goes on from here.\n")
        raise


if __name__ == "__main__":
    main()
