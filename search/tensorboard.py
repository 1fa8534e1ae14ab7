"""Curves for TensorBoard, written by the driver alone with TensorBoard's own writer."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Mapping
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
from spaces.trial_log import Epoch, TrialRecord

SCORE = "mean/metric/score"
STATE = "state"
_STATUS = {
    "complete": api_pb2.STATUS_SUCCESS,
    "stopped": api_pb2.STATUS_SUCCESS,
    "failed": api_pb2.STATUS_FAILURE,
}


class Curves:
    """One folder a trial (``trial_0007``) and one for the study with the best score so far.

    Tags are ``fold{k}/loss/{name}``, ``fold{k}/metric/auc``, ``mean/...`` for the mean over folds,
    ``mean/metric/score``, and in the study's folder ``best/metric/score`` by ended trials. HParams
    carry the names of the study file, the final state and the final score.
    """

    def __init__(self, folder: Path, space: Space, trials: Iterable[TrialRecord] = ()) -> None:
        self._folder = folder
        self._writers: dict[int, EventFileWriter] = {}
        ended = [trial for trial in trials if trial.state is not None]
        self._ended = len(ended)
        self._best = max(
            (t.score for t in ended if t.is_complete and t.score is not None), default=None
        )
        self._study = _writer(folder / "study")
        _add(self._study, hparams_config_pb(_hparams(space), [Metric(SCORE)]))
        self._study.flush()

    def reported(self, trial: TrialRecord, epoch: Epoch) -> None:
        """Write the curves of one epoch."""
        writer = self._writer(trial.number)
        _add(writer, _scalars(_points(epoch)), step=epoch.epoch)
        writer.flush()

    def ended(self, trial: TrialRecord) -> None:
        """Write the trial's HParams and final state, and the best score so far."""
        writer = self._writer(trial.number)
        values = {**trial.configuration.as_dict(), STATE: str(trial.state)}
        _add(writer, hparams_pb(values, trial_id=_name(trial.number)))
        _add(writer, _end_of_session(trial))
        self._writers.pop(trial.number).close()
        self._ended += 1
        if trial.is_complete and trial.score is not None:
            self._best = trial.score if self._best is None else max(self._best, trial.score)
        if self._best is not None:
            _add(self._study, _scalars({"best/metric/score": self._best}), step=self._ended)
            self._study.flush()

    def close(self) -> None:
        """Close all files."""
        for writer in (self._study, *self._writers.values()):
            with suppress(OSError):  # it would hide why nothing more can be written
                writer.close()

    def _writer(self, number: int) -> EventFileWriter:
        if number not in self._writers:
            self._writers[number] = _writer(self._folder / _name(number))
        return self._writers[number]


def _name(number: int) -> str:
    return f"trial_{number:04d}"


def _writer(folder: Path) -> EventFileWriter:
    # Two drivers of one run within a second would otherwise append to one file.
    return EventFileWriter(str(folder), filename_suffix=f".{os.getpid()}.{time.monotonic_ns()}")


def _points(epoch: Epoch) -> dict[str, float]:
    """Return the value of every tag of one epoch."""
    points = {}
    for fold, auc in enumerate(epoch.auc):
        points[f"fold{fold}/metric/auc"] = auc
    for name, values in epoch.loss.items():
        for fold, value in enumerate(values):
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


def _add(writer: EventFileWriter, summary: Summary, step: int = 0) -> None:
    # Serialised and parsed again: TensorBoard's stub has message classes of its own.
    own = Summary.FromString(summary.SerializeToString())
    writer.add_event(Event(wall_time=time.time(), step=step, summary=own))
