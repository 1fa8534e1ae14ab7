"""Curves for TensorBoard, written by the driver alone with TensorBoard's own writer."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.plugins.hparams import api_pb2, metadata, plugin_data_pb2
from tensorboard.plugins.hparams.summary_v2 import (
    Discrete,
    HParam,
    Metric,
    RealInterval,
    hparams_config_pb,
    hparams_pb,
)
from tensorboard.summary.writer.event_file_writer import EventFileWriter

from spaces.parameters import Choices, Range, Space
from spaces.storage import outlasting
from spaces.trial_log import Epoch, TrialRecord

SCORE = "mean/metric/score"
STATE, STUDY = "state", "study"
_STATUS = {
    "complete": api_pb2.STATUS_SUCCESS,
    "stopped": api_pb2.STATUS_SUCCESS,
    "failed": api_pb2.STATUS_FAILURE,
}


class Curves:
    """One folder a trial (``trial_0007``) and one for the study with the best score so far.

    Tags are ``fold{k}/loss/{name}``, ``fold{k}/metric/auc`` (k from 1), ``mean/...`` for the mean
    over folds, ``mean/metric/score``, and in the study's folder ``best/metric/score`` by ended
    trials. HParams carry the names of the study file, the final state and the final score.
    """

    def __init__(self, folder: Path, space: Space, trials: Iterable[TrialRecord] = ()) -> None:
        self._folder = folder
        self._writers: dict[str, EventFileWriter] = {}
        ended = [trial for trial in trials if trial.state is not None]
        self._ended = len(ended)
        self._best = max(
            (t.score for t in ended if t.is_complete and t.score is not None), default=None
        )
        folder.mkdir(parents=True, exist_ok=True)
        self._write(STUDY, [(hparams_config_pb(_hparams(space), [Metric(SCORE)]), 0)])

    def reported(self, trial: TrialRecord, epoch: Epoch) -> None:
        """Write the curves of one epoch."""
        self._write(_name(trial.number), [(_scalars(_points(epoch)), epoch.epoch)])

    def ended(self, trial: TrialRecord) -> None:
        """Write the trial's HParams and final state, and the best score so far."""
        name = _name(trial.number)
        values = {**trial.configuration.as_dict(), STATE: str(trial.state)}
        self._write(name, [(hparams_pb(values, trial_id=name), 0), (_end_of_session(trial), 0)])
        self._writers.pop(name).close()
        self._ended += 1
        if trial.is_complete and trial.score is not None:
            self._best = trial.score if self._best is None else max(self._best, trial.score)
        if self._best is not None:
            self._write(STUDY, [(_scalars({"best/metric/score": self._best}), self._ended)])

    def close(self) -> None:
        """Close all files."""
        for writer in self._writers.values():
            with suppress(OSError):  # it would hide why nothing more can be written
                writer.close()

    def _write(self, name: str, summaries: Sequence[tuple[Summary, int]]) -> None:
        """Write summaries, each with its step, and wait until they are in the file."""
        outlasting(lambda: self._write_once(name, summaries))

    def _write_once(self, name: str, summaries: Sequence[tuple[Summary, int]]) -> None:
        if name not in self._writers:
            # A writer makes its folder, and would make one where the run's storage is away.
            self._folder.stat()
            self._writers[name] = _writer(self._folder / name)
        writer = self._writers[name]
        try:
            for summary, step in summaries:
                _add(writer, summary, step)
            writer.flush()
        except OSError:
            del self._writers[name]  # it raises the same for ever; another one begins a new file
            raise


def _name(number: int) -> str:
    return f"trial_{number:04d}"


def _writer(folder: Path) -> EventFileWriter:
    # Two drivers of one run within a second would otherwise append to one file.
    return EventFileWriter(str(folder), filename_suffix=f".{os.getpid()}.{time.monotonic_ns()}")


def _points(epoch: Epoch) -> dict[str, float]:
    """Return the value of every tag of one epoch."""
    points = {}
    for fold, auc in enumerate(epoch.auc, start=1):
        points[f"fold{fold}/metric/auc"] = auc
    for name, values in epoch.loss.items():
        for fold, value in enumerate(values, start=1):
            points[f"fold{fold}/loss/{name}"] = value
        points[f"mean/loss/{name}"] = sum(values) / len(values)
    points["mean/metric/auc"] = epoch.mean_auc
    points["mean/metric/pooled_auc"] = epoch.pooled_auc
    points[SCORE] = epoch.score
    return points


def _hparams(space: Space) -> list[HParam]:
    searched = space.searched()
    found = [HParam(name, _domain(parameter)) for name, parameter in searched.items()]
    fixed = [HParam(name, Discrete([value])) for name, value in space.fixed().items()]
    return [*found, *fixed, HParam(STATE, Discrete(sorted(_STATUS)))]


def _domain(parameter: Range | Choices) -> RealInterval | Discrete:
    if isinstance(parameter, Range):
        return RealInterval(parameter.low, parameter.high)
    return Discrete(parameter.choices)


def _end_of_session(trial: TrialRecord) -> Summary:
    end = plugin_data_pb2.SessionEndInfo(
        status=_STATUS[str(trial.state)], end_time_secs=time.time()
    )
    data = plugin_data_pb2.HParamsPluginData(session_end_info=end)
    value = Summary.Value(
        tag=metadata.SESSION_END_INFO_TAG,
        metadata=metadata.create_summary_metadata(data),
        tensor=metadata.NULL_TENSOR,
    )
    return Summary(value=[value])


def _scalars(points: Mapping[str, float]) -> Summary:
    values = [Summary.Value(tag=tag, simple_value=value) for tag, value in points.items()]
    return Summary(value=values)


def _add(writer: EventFileWriter, summary: Summary, step: int) -> None:
    # Serialised and parsed again: TensorBoard's stub has message classes of its own.
    own = Summary.FromString(summary.SerializeToString())
    writer.add_event(Event(wall_time=time.time(), step=step, summary=own))
