"""trials.jsonl: what was asked, what each epoch gave, how each trial ended."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

from spaces.environment import describe_computing
from spaces.errors import RefusedError
from spaces.parameters import Configuration
from spaces.run_files import check_format
from spaces.storage import outlasting, unwritable
from spaces.trial_events import Asked, Ended, EpochEnded, Event, Lost, read_event

# Characters: a version is shown, a digest is not; and so much of what is wrong with a line.
SHORT, SHOWN = 20, 160
State = Literal["complete", "stopped", "failed"]
WINDOW = 3


def scores(mean_auc: Sequence[float], epochs: int) -> list[float]:
    """Return, after each epoch, the best moving average of the mean validation AUC so far.

    This is the one score: reported, compared by the scheduler, told to Optuna and selected on.
    The window is ``WINDOW`` epochs, or ``epochs`` if the study trains for fewer. Before the first
    full window the value is the mean of what there is, and counts for nothing later.

    >>> [round(value, 2) for value in scores([0.5, 0.7, 0.9, 0.8, 0.4], epochs=5)]
    [0.5, 0.6, 0.7, 0.8, 0.8]
    """
    window = min(WINDOW, epochs)
    found: list[float] = []
    best = -math.inf
    for end in range(1, len(mean_auc) + 1):
        values = mean_auc[max(0, end - window) : end]
        average = math.fsum(values) / len(values)
        if end >= window:
            best = max(best, average)
        found.append(best if end >= window else average)
    return found


def best_epoch(mean_auc: Sequence[float], epochs: int) -> int:
    """Return the last epoch (1-based) of the first window that reaches the final score."""
    reached = scores(mean_auc, epochs)
    window = min(WINDOW, epochs)
    start = min(window, len(reached)) - 1
    return start + 1 + reached[start:].index(reached[-1])


@dataclass(frozen=True)
class Epoch:
    """One epoch of all folds.

    Attributes:
        epoch: 1-based.
        auc: validation AUC of each fold.
        pooled_auc: AUC of the pooled out-of-fold probabilities.
        loss: each loss term, one value a fold; keys as in ``LOSSES``.
        score: see ``scores``.
        seconds: computing time of this epoch.
    """

    epoch: int
    auc: tuple[float, ...]
    pooled_auc: float
    loss: Mapping[str, tuple[float, ...]]
    score: float
    seconds: float

    @property
    def mean_auc(self) -> float:
        """Mean over the folds."""
        return math.fsum(self.auc) / len(self.auc)

    @property
    def sd_auc(self) -> float:
        """Standard deviation over the folds (divisor n - 1)."""
        mean = self.mean_auc
        return math.sqrt(math.fsum((a - mean) ** 2 for a in self.auc) / (len(self.auc) - 1))


# The keys of Epoch.loss: classification is the cross-entropy, regression the mean squared error of
# the standardised segment values, total their lambda-weighted sum.
LOSSES = (
    "train_total",
    "train_classification",
    "train_regression",
    "validation_total",
    "validation_classification",
    "validation_regression",
)


@dataclass
class TrialRecord:
    """Everything the log says of one trial.

    Attributes:
        retries: how often it was started again, for whatever reason.
        fruitless: losses since its last new epoch, but for those that its node is to blame for.
    """

    number: int
    configuration: Configuration
    source: str
    epochs: list[Epoch] = field(default_factory=list)
    state: State | None = None
    reason: str = ""
    score: float | None = None
    best_epoch: int | None = None
    oof_sha256: str | None = None
    retries: int = 0
    fruitless: int = 0
    seconds: float = 0.0
    host: str = ""
    device: str = ""
    threads: int = 0

    @property
    def is_complete(self) -> bool:
        """Whether all epochs of the study were trained."""
        return self.state == "complete"


class TrialLog:
    """Appends events to trials.jsonl, each line whole and on disk before the call returns.

    The first line says what computes the trials; scores of other code or libraries would not be
    comparable, so nothing is appended to a log that they wrote.

    Raises:
        RefusedError: other code, or another version of a library, began the log.
        InputError: the file cannot be written; whoever appends may meet that, too.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        if path.exists():
            self._cut_torn_line()
        if not path.exists() or not path.stat().st_size:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
            self._append({"format": "polartune/trials/1", "computed_by": describe_computing()})
        refuse_other_code(path)

    def asked(self, number: int, configuration: Configuration, source: str) -> None:
        """Record that a configuration was proposed, before its trial starts."""
        self._append(
            {
                "event": "asked",
                "number": number,
                "config": configuration.as_dict(),
                "source": source,
            }
        )

    def epoch(self, number: int, epoch: Epoch, host: str) -> None:
        """Record one epoch of one trial, and which machine computed it."""
        self._append(
            {
                "event": "epoch",
                "number": number,
                "epoch": epoch.epoch,
                "auc": epoch.auc,
                "mean_auc": epoch.mean_auc,
                "pooled_auc": epoch.pooled_auc,
                "loss": dict(epoch.loss),
                "score": epoch.score,
                "seconds": epoch.seconds,
                "host": host,
            }
        )

    def lost(self, number: int, reason: str, *, counts: bool = True) -> None:
        """Record that a trial must start again: its process or node was lost, or is unfit.

        Args:
            number: the trial's.
            reason: why.
            counts: against ``search.retries``; not where its node is to blame.
        """
        self._append({"event": "lost", "number": number, "reason": reason, "counts": counts})

    def ended(self, record: TrialRecord) -> None:
        """Record how a trial ended; exactly once for each asked number."""
        self._append(
            {
                "event": "ended",
                "number": record.number,
                "state": record.state,
                "reason": record.reason,
                "score": record.score,
                "best_epoch": record.best_epoch,
                "oof_sha256": record.oof_sha256,
                "retries": record.retries,
                "seconds": record.seconds,
                "host": record.host,
                "device": record.device,
                "threads": record.threads,
            }
        )

    def _cut_torn_line(self) -> None:
        """Remove what a driver that died in the middle of a line left, before adding to it."""
        content = self.path.read_bytes()
        whole = content.rfind(b"\n") + 1
        if whole < len(content):
            with self.path.open("r+b") as file:
                file.truncate(whole)

    def _append(self, event: Mapping[str, Any]) -> None:
        line = (json.dumps(event, allow_nan=False) + "\n").encode()
        try:
            outlasting(lambda: self._write(line))
        except OSError as error:
            raise unwritable(str(self.path), error) from None

    def _write(self, line: bytes) -> None:
        # Not "ab", which would make the file: while the storage is away, a second log would begin.
        with self.path.open("r+b", buffering=0) as file:
            whole, written = file.seek(0, os.SEEK_END), 0
            try:
                while written < len(line):
                    written += file.write(line[written:])
                os.fsync(file.fileno())
            except OSError:
                file.truncate(whole)  # else the next line would follow half a one
                raise


def refuse_other_code(path: Path) -> None:
    """Make sure that what computes here is what began the log; a missing log has no beginning.

    Raises:
        RefusedError: other code, or another version of a library, began it.
    """
    if not path.exists():
        return
    with path.open(encoding="utf-8", errors="replace") as file:
        first = file.readline()
    if not first.endswith("\n"):
        return  # torn: its driver died before there was a trial
    try:
        begun = dict(json.loads(first).get("computed_by", {}))
    except (ValueError, TypeError, AttributeError, RecursionError):
        return  # damaged, as read_trials will say
    here = describe_computing()
    changed = [
        name if name not in here or len(str(now)) > SHORT else f"{name} ({now} -> {here[name]})"
        for name, now in begun.items()
        if here.get(name) != now
    ]
    if changed:
        told = ", ".join(changed)
        if len(told) > SHOWN:  # a damaged log may hold anything
            told = f"{told[:SHOWN]} ..."
        raise RefusedError(
            str(path),
            f"{told} changed since the first trial: scores would not compare",
            "Restore what began the run, or begin a run of another name",
        )


def read_trials(path: Path) -> list[TrialRecord]:
    """Return the trials of a log, by number; a missing log has none.

    A torn last line (the driver died while writing it) is ignored. Epochs that a retried trial
    repeated are taken once, the first time.

    Raises:
        RefusedError: another line than the last is damaged, or an event contradicts an earlier one.
    """
    if not path.exists():
        return []
    lines = path.read_text(encoding="utf-8", errors="replace").split("\n")
    trials: dict[int, TrialRecord] = {}
    for at, line in enumerate(lines[:-1], start=1):
        try:
            if at == 1:
                check_format(path, json.loads(line).get("format"), "trials")
                continue
            _apply(read_event(line), trials)
        except ValidationError as error:
            [first, *_] = error.errors(include_url=False, include_input=False)
            where = ".".join(map(str, first["loc"]))
            raise _damaged(
                path, at, f"{where}: {first['msg']}" if where else first["msg"]
            ) from None
        except (ValueError, KeyError, AttributeError, RecursionError) as error:
            raise _damaged(path, at, str(error)) from None
    return [trials[number] for number in sorted(trials)]


def _damaged(path: Path, line: int, problem: str) -> RefusedError:
    short = " ".join(problem.split())[:SHOWN]
    return RefusedError(f"{path}:{line}", f"a damaged line ({short})", "Restore it from a copy")


def _apply(event: Event, trials: dict[int, TrialRecord]) -> None:
    number = event.number
    if isinstance(event, Asked):
        if number in trials:
            raise ValueError(f"trial {number} is asked twice")
        trials[number] = TrialRecord(number, Configuration.from_mapping(event.config), event.source)
        return
    if number not in trials:
        raise ValueError(f"trial {number} was never asked")
    trial = trials[number]
    if trial.state is not None:
        raise ValueError(f"trial {number} has ended already")
    if isinstance(event, EpochEnded):
        if event.epoch == len(trial.epochs) + 1:
            values = {part.name: getattr(event, part.name) for part in fields(Epoch)}
            trial.epochs.append(Epoch(**values))
            trial.host = event.host
            trial.fruitless = 0
    elif isinstance(event, Lost):
        trial.retries += 1
        trial.fruitless += event.counts
    else:
        _end(trial, event)


def _end(trial: TrialRecord, event: Ended) -> None:
    for name in Ended.model_fields.keys() - {"event", "number"}:
        setattr(trial, name, getattr(event, name))
