"""The steps of a run in their order, for the command line and for notebooks alike."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from importlib import import_module
from itertools import accumulate
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Any

from rich.console import Console

# Packages with torch, ray or pandas are imported where they are needed: --help must be quick.
if TYPE_CHECKING:
    from rich.progress import Progress

    from analysis.show.result import Result
    from cohort.table import Cohort
    from search.place import Place
    from search.run import SearchOutcome
    from spaces.run_files import RunFiles
    from spaces.study import Study

LOG = logging.getLogger("polartune")


def run(
    study: str | Path,
    *,
    out: str | Path = "runs",
    address: str | None = None,
    console: Console | None = None,
    ends_process: bool = False,
) -> Result:
    """Run a study from its file to its report, or continue it, and return the result.

    Args:
        study: the study file.
        out: folder of run directories; this one is ``out/<name of the study>``.
        address: a running Ray cluster; None starts an own, local Ray.
        console: where progress is shown.
        ends_process: whether this process leaves at once where its Ray ends, as the command does.

    Raises:
        InputError: study, cohort or weights break a rule; no run directory is left behind.
        RefusedError: the run is in use, or belongs to another study, cohort or split.
        RayLostError: Ray has ended; the same call goes on from there. Where a call to its head was
            under way, Ray itself still ends the process, after a minute.
        NoCompleteTrialError: every trial failed.
    """
    from analysis.judge.evaluate import evaluate
    from analysis.report.page import write_report
    from analysis.show.result import read_result
    from spaces.study import read_study

    console = console or Console()
    console.print("Checking the cohort; the first lines take half a minute.", highlight=False)
    with begun(Path(study), Path(out)) as (files, cohort):
        if not (files.model / "model.json").exists():
            # A run may be continued on other slots than those it began with.
            now = read_study(Path(study))
            folders = shared_folders(now, Path(study).parent, files.root, cohort)
            with placed(now, address, folders, console, ends_process) as place:
                search(files, place, console, now.search.stalled_after)
                retrain(files, place, console)
        with step("evaluate", console):
            LOG.info(evaluate(files, cohort).sentence)
        with step("report", console):
            write_report(files, cohort)
        return read_result(files)


@contextmanager
def begun(study_file: Path, out: Path) -> Iterator[tuple[RunFiles, Cohort]]:
    """Give a run's files and cohort; begin the run if it is new, refuse if it is another's."""
    from cohort.enrolment import enrol
    from spaces.environment import check_packages
    from spaces.run_files import RunFiles
    from spaces.study import read_study

    check_packages()
    study, folder = read_study(study_file), study_file.parent
    files = RunFiles(out / study.name)
    cohort = enrol(study, folder, files)
    with driven(study, folder, files, cohort):
        for warning in cohort.warnings:
            LOG.warning(warning)
        yield files, cohort


@contextmanager
def driven(study: Study, folder: Path, files: RunFiles, cohort: Cohort) -> Iterator[None]:
    """Hold a run and its banks; begin it if it is new, once it is sure that it can run."""
    from cohort.enrolment import record
    from spaces.bank_files import bank_folder, using_banks
    from spaces.session import driving
    from trainable.problem import Problem

    if not files.study.exists():
        # What cannot be had, weights or disk, must fail here, before there is a run directory.
        problem = Problem(study, cohort, folder, "cpu")
        problem.check_weights()
        problem.check_disk()
    with driving(files), using_banks(bank_folder(study.bank, folder, cohort.folder)):
        _warn_of_changes(record(files, study, folder, cohort))
        yield


@contextmanager
def continued(folder: Path) -> Iterator[tuple[RunFiles, Cohort]]:
    """Give the files and the cohort of a run that has begun."""
    from cohort.enrolment import record, reopen
    from spaces.bank_files import bank_folder, using_banks
    from spaces.run_files import RunFiles, require_run
    from spaces.session import driving
    from spaces.study import read_study

    files = RunFiles(folder)
    require_run(files)
    cohort, study = reopen(files), read_study(files.study)
    with driving(files), using_banks(bank_folder(study.bank, folder, cohort.folder)):
        _warn_of_changes(record(files, study, folder, cohort))
        yield files, cohort


def shared_folders(study: Study, folder: Path, root: Path, cohort: Cohort) -> list[Path]:
    """Return what every node of a cluster has to see and write to: the run, and the banks.

    Args:
        study: its paths are relative to ``folder``.
        folder: see there.
        root: the run directory, or one with several.
        cohort: beside which the banks lie, if the study does not say where.
    """
    from spaces.bank_files import bank_folder

    banks = [bank_folder(study.bank, folder, cohort.folder)] if study.bank.mode == "on" else []
    return [root, *banks]


@contextmanager
def placed(
    study: Study,
    address: str | None,
    folders: Sequence[Path],
    console: Console,
    ends_process: bool = True,
) -> Iterator[Place]:
    """Give the place that a study asks for; a cluster's only if it can run trials.

    Args:
        study: says what a slot is.
        address: a running Ray cluster; None starts an own, local Ray.
        folders: see ``shared_folders``.
        console: is told what is waited for.
        ends_process: see ``run``.
    """
    from search.place import connected
    from search.preflight import preflight

    # Ray's start is mostly waiting, and what comes next takes seconds to import.
    Thread(target=_import_ahead).start()
    with connected(study.resources, address=address, ends_process=ends_process) as place:
        if not place.is_own:
            with step("preflight", console):
                preflight(
                    place, folders, say=partial(console.print, highlight=False, soft_wrap=True)
                )
        yield place


@contextmanager
def resumed(
    files: RunFiles, cohort: Cohort, address: str | None, console: Console
) -> Iterator[Place]:
    """Give the place that a run's own study asks for."""
    from spaces.study import read_study

    study = read_study(files.study)
    folders = shared_folders(study, files.root, files.root, cohort)
    with placed(study, address, folders, console) as place:
        yield place


def search(
    files: RunFiles, place: Place, console: Console, stalled_after: float | None = None
) -> SearchOutcome:
    """Fill the feature bank, then run every trial that has not ended."""
    from search.run import search as search_trials
    from spaces.trial_log import refuse_other_code

    refuse_other_code(files.trials)
    LOG.info(
        "%d slots on %s: %d CPUs, %g GPUs each", place.slots, place.device, place.cpus, place.gpus
    )
    with step("bank", console):
        fill_bank(files, place, console)
    with step("search", console):
        return search_trials(files, place, console=console, stalled_after=stalled_after)


def fill_bank(files: RunFiles, place: Place, console: Console) -> None:
    """Compute the parts of the feature bank that are missing, on all slots."""
    from trainable.problem import fill_part, missing_parts, open_problem

    open_problem.cache_clear()  # a notebook may have opened it with another folder of banks
    root, run_on_slots = str(files.root.resolve()), _slots_for(files, place)
    if place.is_own and place.device == "cpu":
        parts = missing_parts(root, place.device)  # a slot would first start a process
    else:
        [parts] = run_on_slots(missing_parts, [(root, place.device)])
    images = list(accumulate(part.images for part in parts))
    LOG.info(
        "bank: %d parts to fill, %d images and views", len(parts), sum(p.images for p in parts)
    )
    if not images:
        return
    with progress_bar(console) as progress:
        task = progress.add_task("feature bank: images", total=images[-1])
        run_on_slots(
            fill_part,
            [(root, place.device, part) for part in parts],
            progress=lambda done, _: progress.update(task, completed=images[done - 1]),
        )


def retrain(files: RunFiles, place: Place, console: Console) -> None:
    """Choose the configuration and train its models."""
    from analysis.choose.retrain import retrain as retrain_models
    from analysis.choose.select import select
    from spaces.run_files import RunFiles
    from spaces.trial_log import refuse_other_code

    refuse_other_code(files.trials)
    with step("select", console):
        select(files)
    with step("retrain", console):
        # Slots may work in another folder, so they get an absolute path.
        retrain_models(RunFiles(files.root.resolve()), _slots_for(files, place), place.device)


def _slots_for(files: RunFiles, place: Place) -> partial[list[Any]]:
    """Return what runs work for a run on all slots, but on no node that is unfit for it."""
    return partial(place.run_on_slots, workplace=place.workplace(files.root))


@contextmanager
def step(name: str, console: Console) -> Iterator[None]:
    """Log that a step begins and what it took; show the seconds."""
    LOG.info("%s begins", name)
    start = time.monotonic()
    yield
    seconds = time.monotonic() - start
    LOG.info("%s took %.1f s", name, seconds)
    console.print(f"{name:<9} {seconds:5.0f} s", highlight=False)


def say(text: str) -> None:
    """Print a line as it is: no name in it is markup, and a long path stays in one piece."""
    Console().print(text, highlight=False, markup=False, soft_wrap=True)


def progress_bar(console: Console) -> Progress:
    """Return a bar with counts and the time remaining, gone when it is done."""
    from rich import progress

    return progress.Progress(
        progress.TextColumn("{task.description}"),
        progress.BarColumn(),
        progress.MofNCompleteColumn(),
        progress.TimeRemainingColumn(),
        console=console,
        transient=True,
    )


def _import_ahead() -> None:
    with suppress(Exception):  # whoever needs it will import it again, and say what is wrong
        for module in ("trainable.problem", "search.run"):
            import_module(module)


def _warn_of_changes(changed: list[str]) -> None:
    if changed:
        LOG.warning("continued with another environment: %s", ", ".join(changed))
