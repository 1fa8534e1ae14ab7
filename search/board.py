"""What the driver knows of a search: who runs, what was reported, how each number ended."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Protocol

from search.fitness import Fitness
from search.report import Report
from spaces.errors import RefusedError, UserError
from spaces.parameters import Configuration
from spaces.run_files import RunFiles, read_out_of_fold, sha256_of
from spaces.storage import unwritable
from spaces.study import Study
from spaces.trial_log import Epoch, State, TrialLog, TrialRecord, best_epoch, read_trials

LOST = "lost: its process or node died"

_log = logging.getLogger(__name__)


class Observer(Protocol):
    """Sees every event once, after it is on disk."""

    def reported(self, trial: TrialRecord, epoch: Epoch) -> None:
        """See one epoch of one trial."""
        ...

    def ended(self, trial: TrialRecord) -> None:
        """See how a trial ended."""
        ...


class TuneTrial(Protocol):
    """The part of ``ray.tune.experiment.Trial`` that is read."""

    trial_id: str
    status: str

    def is_finished(self) -> bool:
        """Whether Tune is done with it, in whatever way."""
        ...


@dataclass
class Seat:
    """A number that Tune is running, and Tune's own object for it once there is one.

    Attributes:
        reports: how many its process has made, repeated epochs included.
    """

    trial: TrialRecord
    tune_trial: TuneTrial | None = None
    reports: int = 0

    @property
    def is_pending(self) -> bool:
        """Whether it still waits for the slot to become free."""
        return self.tune_trial is None or self.tune_trial.status == "PENDING"

    @property
    def is_finished(self) -> bool:
        """Whether Tune is done with it."""
        return self.tune_trial is not None and self.tune_trial.is_finished()


class Board:
    """The one state that searcher, scheduler and views share; trials.jsonl is its memory.

    A board on a log that an interrupted driver left knows all its trials again: those that ended
    stay so, those that did not wait for a slot, with the configuration that was logged.

    Attributes:
        trials: every asked trial, by number; its epochs without loss terms, most of their bytes:
            the log has them, and no decision asks for them.
        total: how many will be asked; one if the study fixes every parameter.
        obstacle: what keeps every trial from going on, and so ended the search; None if nothing.
    """

    def __init__(
        self,
        study: Study,
        run: RunFiles,
        *,
        device: str = "cpu",
        observers: Sequence[Observer] = (),
        nodes: Callable[[], Collection[str]] = tuple,
    ) -> None:
        self.study = study
        self.run = run
        self.total = 1 if study.is_fixed else study.search.trials
        self.trials = read_trials(run.trials)
        if [trial.number for trial in self.trials] != list(range(len(self.trials))):
            raise RefusedError(
                str(run.trials), "trial numbers have gaps", "Restore the file from a copy"
            )
        for trial in self.trials:
            trial.epochs = [_light(epoch) for epoch in trial.epochs]
        self._log = TrialLog(run.trials)
        self._device = device
        self._observers = observers
        self._fitness = Fitness(nodes)
        self._seats: dict[str, Seat] = {}
        self._causes: dict[int, tuple[str, bool]] = {}
        self.obstacle: UserError | None = None
        self._waiting = [trial for trial in self.trials if trial.state is None]
        self.tidy()
        for trial in self._waiting:
            trial.oof_sha256 = self._digest(trial)

    def __deepcopy__(self, memo: dict[int, Any]) -> Board:
        """Stay one board when Tune copies what holds it."""
        return self

    def __reduce__(self) -> tuple[type[str], tuple[str]]:
        """Cost nothing in Tune's snapshots, which are never read back."""
        return str, (f"the board of {self.run.root}",)

    @property
    def unfit(self) -> Collection[str]:
        """The nodes, by Ray's id, on which no trial can go on; more may join them."""
        return self._fitness.unfit

    @property
    def running(self) -> list[TrialRecord]:
        """The trials that occupy a slot."""
        return [seat.trial for seat in self._seats.values()]

    @property
    def seats(self) -> list[Seat]:
        """The occupied slots."""
        return list(self._seats.values())

    @property
    def waiting(self) -> list[TrialRecord]:
        """The trials that were asked and need a slot (again), by number."""
        return list(self._waiting)

    @property
    def is_over(self) -> bool:
        """Whether every trial was asked and has ended."""
        return len(self.trials) >= self.total and not self._waiting and not self._seats

    def best(self) -> TrialRecord | None:
        """Return the complete trial with the highest score; the earliest of equals."""
        complete = [t for t in self.trials if t.is_complete and t.score is not None]
        return max(complete, key=lambda t: t.score or 0.0, default=None)

    def ask(self, configuration: Configuration, source: str) -> TrialRecord:
        """Log a proposed configuration under the next number; it then waits for a slot."""
        trial = TrialRecord(len(self.trials), configuration, source)
        with self._recording():
            self._log.asked(trial.number, configuration, source)
        self.trials.append(trial)
        self._waiting.append(trial)
        return trial

    def start(self, tune_id: str, trial: TrialRecord) -> None:
        """Give a waiting trial the slot that Tune calls ``tune_id``."""
        self._waiting.remove(trial)
        self._seats[tune_id] = Seat(trial)

    def introduce(self, tune_trial: TuneTrial) -> None:
        """Remember Tune's object of a started trial, to notice when Tune has lost it."""
        if tune_trial.trial_id in self._seats:
            self._seats[tune_trial.trial_id].tune_trial = tune_trial

    def report(self, tune_id: str, report: Report) -> TrialRecord | None:
        """Take in a report and log what is new.

        Returns:
            The trial; None if it does not run.
        """
        seat = self._seats.get(tune_id)
        if seat is None:
            return None
        trial = seat.trial
        seat.reports += 1
        if report.unfit is not None:
            self.obstacle = self._fitness.avoid(report.unfit) or self.obstacle
            # Why stands in run.log alone: it may name files of the cohort.
            self.suspect(trial, "its node is unfit", counts=False)
            return trial
        if report.lost:
            _log.warning("trial %d: %s\n%s", trial.number, report.lost, report.traceback)
            self.suspect(trial, report.lost)
            return trial
        trial.host = report.host
        trial.oof_sha256 = report.oof_sha256 or trial.oof_sha256
        if report.epoch is None:
            _log.warning("trial %d: %s\n%s", trial.number, report.failed, report.traceback)
            self.end(trial, "failed", report.failed)
        elif report.epoch.epoch == len(trial.epochs) + 1:
            with self._recording():
                self._log.epoch(trial.number, report.epoch, report.host)
                trial.epochs.append(_light(report.epoch))
                trial.fruitless = 0
                for observer in self._observers:
                    observer.reported(trial, report.epoch)
        else:
            self._compare(trial, report.epoch)
        return trial

    def end(self, trial: TrialRecord, state: State, reason: str) -> None:
        """Log how a trial ended, free its slot and delete its checkpoints."""
        trial.state, trial.reason = state, reason
        trial.seconds = sum(epoch.seconds for epoch in trial.epochs)
        trial.device = self._device
        trial.threads = self.study.resources.cpus_per_trial
        if state != "failed":
            trial.score = trial.epochs[-1].score
            means = [epoch.mean_auc for epoch in trial.epochs]
            trial.best_epoch = best_epoch(means, self.study.training.epochs)
        with self._recording():
            self._log.ended(trial)
        score = "no score" if trial.score is None else f"score {trial.score:.4f}"
        _log.info(
            "trial %d: %s after epoch %d, %s (%s)",
            trial.number,
            state,
            len(trial.epochs),
            score,
            reason,
        )
        self._vacate(trial)
        self._delete_checkpoints(trial)
        with self._recording():
            for observer in self._observers:
                observer.ended(trial)

    def tidy(self) -> None:
        """Delete what a dying driver, or storage that went, left of ended trials' checkpoints."""
        for trial in self.trials:
            if trial.state is not None:
                self._delete_checkpoints(trial)

    def require_fit_node(self) -> None:
        """End the search if no trial can go on on any of the nodes that are there."""
        self.obstacle = self._fitness.obstacle() or self.obstacle

    def suspect(self, trial: TrialRecord, cause: str, *, counts: bool = True) -> None:
        """Remember why the process of a trial is about to be lost.

        Args:
            trial: that it runs.
            cause: for the log.
            counts: see ``TrialLog.lost``.
        """
        self._causes[trial.number] = cause, counts

    def collect_lost(self) -> None:
        """Let trials that Tune finished without an end wait again, or fail after all retries.

        This one path covers a dead process, a dead node, and the errors of reused actors of which
        Tune tells neither searcher nor scheduler.
        """
        if self.obstacle is not None:
            return  # Tune was told to stop them; their numbers stay open
        for seat in list(self._seats.values()):
            if not seat.is_finished:
                continue
            trial = seat.trial
            self._vacate(trial)
            cause, counts = self._causes.pop(trial.number, (LOST, True))
            if not counts or trial.fruitless < self.study.search.retries:
                trial.retries += 1
                trial.fruitless += counts
                with self._recording():
                    self._log.lost(trial.number, cause, counts=counts)
                _log.warning("trial %d: %s; it starts again", trial.number, cause)
                self._waiting.append(trial)
                self._waiting.sort(key=lambda waiting: waiting.number)
            else:
                starts = trial.fruitless + 1
                self.end(trial, "failed", f"{cause}, {starts} of {starts}")

    @contextmanager
    def _recording(self) -> Iterator[None]:
        """Keep why the run cannot be written: Tune would put it into an error of its own."""
        try:
            yield
        except OSError as error:
            self.obstacle = unwritable(str(self.run.root), error)
            raise
        except UserError as error:
            self.obstacle = error
            raise

    def _delete_checkpoints(self, trial: TrialRecord) -> None:
        shutil.rmtree(self.run.checkpoint_folder(trial.number), ignore_errors=True)

    def _vacate(self, trial: TrialRecord) -> None:
        self._seats = {key: seat for key, seat in self._seats.items() if seat.trial is not trial}
        self._waiting = [other for other in self._waiting if other is not trial]
        # Else the next process of this number would seem to have left it.
        self.run.heartbeat_of(trial.number).unlink(missing_ok=True)

    def _digest(self, trial: TrialRecord) -> str | None:
        """Return the digest of the logits, if they cover exactly the logged epochs."""
        path = self.run.out_of_fold_of(trial.number)
        if not trial.epochs or not path.exists():
            return None
        try:
            whole = len(read_out_of_fold(path)) == len(trial.epochs)
        except RefusedError:
            return None  # damaged: the trial has not ended, and computes them again
        return sha256_of(path) if whole else None

    def _compare(self, trial: TrialRecord, repeated: Epoch) -> None:
        logged = trial.epochs[repeated.epoch - 1]
        if logged.auc != repeated.auc:
            _log.warning(
                "trial %d: epoch %d was repeated and its AUC differs from the logged one",
                trial.number,
                repeated.epoch,
            )
        else:
            _log.info("trial %d: epoch %d was repeated", trial.number, repeated.epoch)


def _light(epoch: Epoch) -> Epoch:
    return replace(epoch, loss={})
