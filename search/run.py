"""The search of a run, from its study file to the last line of trials.jsonl."""

from __future__ import annotations

import logging
import os
import shutil
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from signal import SIGTERM
from typing import Any, NoReturn

import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from ray import tune
from ray.tune.progress_reporter import TrialProgressCallback
from rich.console import Console

from search.actor import Slot, TrialActor
from search.board import Board, Observer
from search.hands import COUNT_SECONDS
from search.heartbeat import Overseer, beat_seconds
from search.live import Display
from search.place import Place, SlotCount
from search.scheduler import RungScheduler, settle
from search.searcher import StudySearcher
from search.signals import Signals
from search.tensorboard import Curves
from search.trial import UNSAVED_SECONDS
from search.workplace import OPENER
from spaces.errors import TERMINATED, RefusedError
from spaces.run_files import RunFiles, replacing
from spaces.session import LogFile
from spaces.study import read_study
from spaces.trial_log import read_trials

# Snapshots, logs and tables of Tune's own are never read: trials.jsonl has it all. The older of
# its two terminal outputs is the one that verbose=0 silences.
TUNE_ENVIRONMENT = {
    "RAY_AIR_NEW_OUTPUT": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_GLOBAL_CHECKPOINT_S": "1000000000",
}

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class SearchOutcome:
    """How many trials were asked, and how they ended."""

    asked: int
    complete: int
    stopped: int
    failed: int


def search(
    run: RunFiles,
    place: Place,
    *,
    console: Console | None,
    opener: str = OPENER,
    stalled_after: float | None = None,
    unsaved_seconds: float = UNSAVED_SECONDS,
) -> SearchOutcome:
    """Run the search of ``run`` to its end, from wherever an earlier driver left it.

    Args:
        run: a run directory with its study.yaml; trials.jsonl may hold trials already.
        place: where trials run.
        console: where progress is shown; None for nowhere.
        opener: ``module:function`` that opens the problem in a slot.
        stalled_after: seconds, if other than when the run began.
        unsaved_seconds: computing of a trial that may be lost with its process.

    Raises:
        KeyboardInterrupt: SIGINT arrived; the run can be continued.
        SystemExit: SIGTERM arrived; likewise.
        RefusedError: trials.jsonl is damaged, or was written by other code or on another kind of
            device.
        UserError: no trial can start or go on: what opening the study in a slot raised, or that
            the run cannot be written.
    """
    study = read_study(run.study)
    _refuse_other_device(run, place.device)
    curves = Curves(run.tensorboard, study.space, read_trials(run.trials))
    display = Display(console, place.slots) if console else None
    observers: list[Observer] = [curves, *([display] if display else [])]
    with _logged(run.log), closing(curves):
        board = Board(study, run, device=place.device, observers=observers, nodes=place.nodes_now)
        if display:
            display.open(board)
        try:
            _settle_all(board)
            searcher = StudySearcher(board, place.slots)
            if not board.is_over:
                patience = stalled_after or study.search.stalled_after
                given = {
                    "workplace": place.workplace(run.root, opener),
                    "epochs": study.training.epochs,
                    "beat_seconds": beat_seconds(patience),
                    "unsaved_seconds": unsaved_seconds,
                }
                with closing(Overseer(board, patience)) as overseer:
                    scheduler = RungScheduler(board, place.slots)
                    tell = [searcher.set_max_concurrency, scheduler.set_slots]
                    shown = [display.set_slots] if display else []
                    count = SlotCount(place, [*tell, *shown], unfit=board.unfit)
                    ticker = Ticker(board, display, overseer, count)
                    _tune(board, searcher, scheduler, place=place, given=given, ticker=ticker)
        finally:
            if display:
                display.close()
        board.tidy()
        searcher.tell()
        _export(searcher.study, run.optuna_journal)
    return _outcome(board)


def _refuse_other_device(run: RunFiles, device: str) -> None:
    """Make sure that a continued search computes where it began: scores differ between kinds."""
    used = {trial.device for trial in read_trials(run.trials) if trial.device}
    if used - {device}:
        raise RefusedError(
            str(run.trials),
            f"its trials were computed on {', '.join(sorted(used))}, and here is {device}",
            f"Set resources.device: {min(used)} where there is one, or begin a run of another name",
        )


def _settle_all(board: Board) -> None:
    """End the trials whose last epoch was logged, but not that it was the last."""
    for trial in board.waiting:
        if trial.epochs and trial.oof_sha256:
            settle(board, trial)


def _tune(
    board: Board,
    searcher: StudySearcher,
    scheduler: RungScheduler,
    *,
    place: Place,
    given: Mapping[str, Any],
    ticker: Ticker,
) -> None:
    """Let Ray Tune run what the searcher hands out, until every trial has ended.

    All of them are ``given`` the same beside it.
    """
    run, signals = board.run, Signals()
    shutil.rmtree(run.tune, ignore_errors=True)

    def slot(config: Mapping[str, Any]) -> Slot:
        return Slot(place.cpus, place.gpus, config["unfit"])

    tuner = tune.Tuner(
        tune.with_resources(TrialActor, slot),
        param_space=dict(given),
        tune_config=tune.TuneConfig(
            search_alg=searcher,
            scheduler=scheduler,
            # As many as the searcher gives: it says when it has finished.
            num_samples=-1,
            max_concurrent_trials=place.slots,
            reuse_actors=True,
            trial_dirname_creator=_folder_name,
        ),
        run_config=tune.RunConfig(
            name="trials",
            storage_path=str(run.tune.resolve()),
            verbose=0,
            callbacks=[ticker, signals, Silence()],
            checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
        ),
    )
    with _environment(TUNE_ENVIRONMENT), signals.noted():
        try:
            tuner.fit()
        except KeyboardInterrupt:  # before Tune had an answer to it, or the second
            _interrupt(signals)
        except Exception:
            if board.obstacle is None:
                raise
    if board.obstacle is not None:
        raise board.obstacle
    if signals.received or not board.is_over:
        _interrupt(signals)


def _interrupt(signals: Signals) -> NoReturn:
    if SIGTERM in signals.received:
        raise SystemExit(TERMINATED)
    raise KeyboardInterrupt


def _folder_name(trial: Any) -> str:
    return f"{trial.config['number']:04d}_{trial.trial_id}"


class Ticker(tune.Callback):
    """Redraws the display, looks after trials and slots, as often as Tune's loop turns."""

    def __init__(
        self, board: Board, display: Display | None, overseer: Overseer, count: SlotCount
    ) -> None:
        self._board = board
        self._display = display
        self._overseer = overseer
        self._count = count
        self._asked = 0.0

    def __reduce__(self) -> tuple[type[tune.Callback], tuple[()]]:
        """Stay out of Tune's snapshots."""
        return tune.Callback, ()

    def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:  # noqa: ARG002
        """Redraw and look.

        Raises:
            UserError: the search has met it, and all that Tune still has are trials that wait for
                a slot, maybe for ever.
        """
        if self._display:
            self._display.tick()
        self._overseer.look()
        self._count.look()
        self._require_fit_node()
        waits = [seat.is_pending for seat in self._board.seats if not seat.is_finished]
        if self._board.obstacle is not None and waits and all(waits):
            raise self._board.obstacle

    def _require_fit_node(self) -> None:
        if self._board.unfit and time.monotonic() - self._asked >= COUNT_SECONDS:
            self._asked = time.monotonic()
            self._board.require_fit_node()


class Silence(TrialProgressCallback):
    """Tune's lines on the terminal, none of them; its own callback keeps every trial it ever saw.

    Tune adds that one, silent at verbose=0, unless it is given one of the kind.
    """

    def log_result(self, *_: Any, **__: Any) -> None:
        """Print and keep nothing."""

    def on_trial_complete(self, *_: Any, **__: Any) -> None:
        """Print and keep nothing."""


def _export(study: optuna.Study, path: Path) -> None:
    """Write the study as a journal for optuna-dashboard; a failure costs only the journal."""
    try:
        with replacing(path) as partial:
            storage = JournalStorage(JournalFileBackend(str(partial)))
            copy = optuna.create_study(
                study_name=study.study_name, storage=storage, direction="maximize"
            )
            copy.add_trials(study.get_trials(deepcopy=False))
    except OSError as error:
        _log.warning("the Optuna journal could not be written: %s", error)


def _outcome(board: Board) -> SearchOutcome:
    states = Counter(trial.state for trial in board.trials)
    return SearchOutcome(len(board.trials), states["complete"], states["stopped"], states["failed"])


@contextmanager
def _logged(path: Path) -> Iterator[None]:
    """Send what we and Ray say to run.log, and nothing of Ray to the terminal."""
    handler = LogFile(path, delay=True)
    loggers = [logging.getLogger(name) for name in ("search", "ray")]
    before = [(logger.propagate, logger.handlers[:]) for logger in loggers]
    for logger in loggers:
        logger.propagate, logger.handlers = False, [handler]
    try:
        yield
    finally:
        for logger, (propagate, handlers) in zip(loggers, before, strict=True):
            logger.propagate, logger.handlers = propagate, handlers
        handler.close()


@contextmanager
def _environment(values: dict[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
