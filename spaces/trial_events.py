"""The events of trials.jsonl as they are read: each field of its type, and no NaN or infinity."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

_READ = ConfigDict(frozen=True, strict=True, extra="ignore", allow_inf_nan=False)
Number = Annotated[int, Field(ge=0, lt=2**31)]
Share = Annotated[float, Field(ge=0.0, le=1.0)]
Seconds = Annotated[float, Field(ge=0.0)]


class Asked(BaseModel):
    """A configuration was proposed."""

    model_config = _READ

    event: Literal["asked"]
    number: Number
    config: dict[str, float]
    source: str


class EpochEnded(BaseModel):
    """All folds of a trial finished an epoch; see ``spaces.trial_log.Epoch``."""

    model_config = _READ

    event: Literal["epoch"]
    number: Number
    epoch: Annotated[int, Field(ge=1, lt=2**31)]
    auc: Annotated[tuple[Share, ...], Field(min_length=2)]
    pooled_auc: Share
    loss: dict[str, tuple[float, ...]]
    score: Share
    seconds: Seconds
    host: str


class Lost(BaseModel):
    """A trial must start again: its process or node was lost, or its node is unfit."""

    model_config = _READ

    event: Literal["lost"]
    number: Number
    counts: bool


class Ended(BaseModel):
    """A trial ended; see ``spaces.trial_log.TrialRecord``."""

    model_config = _READ

    event: Literal["ended"]
    number: Number
    state: Literal["complete", "stopped", "failed"]
    reason: str
    score: Share | None
    best_epoch: Annotated[int, Field(ge=1, lt=2**31)] | None
    oof_sha256: str | None
    retries: Number
    seconds: Seconds
    host: str
    device: str
    threads: Number


Event = Annotated[Asked | EpochEnded | Lost | Ended, Field(discriminator="event")]
_EVENT: TypeAdapter[Asked | EpochEnded | Lost | Ended] = TypeAdapter(Event)


def read_event(line: str) -> Asked | EpochEnded | Lost | Ended:
    """Return the event of one line.

    Raises:
        pydantic.ValidationError: it is no JSON, or a field is missing or of another type.
    """
    return _EVENT.validate_json(line)
