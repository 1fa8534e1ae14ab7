"""The four searched parameters: their names, their ranges, and one configuration of them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import (
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    field_validator,
    model_validator,
)

# One name for one thing: these stand in YAML, Optuna, TensorBoard, best.yaml and every figure.
LAMBDA = "lambda"
LEARNING_RATE = "learning_rate"
WEIGHT_DECAY = "weight_decay"
AUGMENTATION_STRENGTH = "augmentation_strength"
NAMES = (LAMBDA, LEARNING_RATE, WEIGHT_DECAY, AUGMENTATION_STRENGTH)

STRICT = ConfigDict(
    frozen=True,
    extra="forbid",
    strict=True,
    allow_inf_nan=False,
    use_attribute_docstrings=True,  # they are the descriptions in the JSON schema
)


class Range(BaseModel):
    """An interval to search, uniformly or on a log scale."""

    model_config = STRICT

    low: float
    """The smallest value."""
    high: float
    """The largest value."""
    log: bool = False
    """Whether to search its logarithm; low must then be above 0."""

    @model_validator(mode="after")
    def _ordered(self) -> Range:
        if self.low >= self.high:
            raise ValueError(
                f"low must be < high, got low {self.low} and high {self.high}; exchange them, or "
                "write one number to fix the parameter"
            )
        if self.log and self.low <= 0:
            raise ValueError(
                f"low must be > 0 on a log scale, got {self.low}; use log: false or a positive low"
            )
        return self

    def contains(self, value: float) -> bool:
        """Return whether ``value`` lies in [low, high]."""
        return self.low <= value <= self.high

    def middle(self) -> float:
        """Return the middle of the interval on its own scale."""
        if self.log:
            return math.exp((math.log(self.low) + math.log(self.high)) / 2)
        return (self.low + self.high) / 2


class Choices(BaseModel):
    """A finite, increasing grid to search."""

    model_config = STRICT

    choices: Annotated[list[float], Field(min_length=1)]
    """The values to search, increasing."""

    @model_validator(mode="after")
    def _increasing(self) -> Choices:
        pairs = zip(self.choices, self.choices[1:], strict=False)
        if any(left >= right for left, right in pairs):
            raise ValueError(f"choices must increase, got {self.choices}")
        return self

    def contains(self, value: float) -> bool:
        """Return whether ``value`` is one of the choices."""
        return value in self.choices


def _kind(value: Any) -> str:
    if isinstance(value, Choices) or (isinstance(value, Mapping) and "choices" in value):
        return "choices"
    return "range" if isinstance(value, Range | Mapping) else "number"


_Number = Annotated[float, Tag("number")]
_Range = Annotated[Range, Tag("range")]
_Choices = Annotated[Choices, Tag("choices")]
Parameter = Annotated[_Number | _Range | _Choices, Discriminator(_kind)]
Grid = Annotated[_Number | _Choices, Discriminator(_kind)]
# Pydantic puts these into an error's location; they are no keys of the file.
TAGS = ("number", "range", "choices")


class Space(BaseModel):
    """What each trial may vary; a plain number fixes a parameter.

    ``lambda`` weighs the losses: lambda * cross-entropy + (1 - lambda) * mean squared error
    (Yeung et al. 2022). ``augmentation_strength`` multiplies the limits of the study's
    ``augmentation`` section.
    """

    model_config = STRICT | ConfigDict(populate_by_name=True)

    lambda_: Parameter = Field(default=Range(low=0.0, high=1.0), alias=LAMBDA)
    """Weight of the cross-entropy; the mean squared error of the segments has 1 - lambda."""
    learning_rate: Parameter = Range(low=1e-5, high=1e-2, log=True)
    """AdamW's learning rate."""
    weight_decay: Parameter = Range(low=1e-6, high=1e-1, log=True)
    """AdamW's weight decay."""
    augmentation_strength: Grid = Choices(choices=[0.0, 0.25, 0.5, 0.75, 1.0])
    """Multiplies the limits in ``augmentation``; a number or choices, since views are kept."""

    @field_validator("lambda_", AUGMENTATION_STRENGTH)
    @classmethod
    def _at_most_1(cls, value: float | Range | Choices) -> float | Range | Choices:
        return _within(value, 1.0)

    @field_validator(LEARNING_RATE, WEIGHT_DECAY)
    @classmethod
    def _not_negative(cls, value: float | Range | Choices) -> float | Range | Choices:
        return _within(value, math.inf)

    def parameter(self, name: str) -> float | Range | Choices:
        """Return the parameter called ``name`` in the study file."""
        value: float | Range | Choices = getattr(self, "lambda_" if name == LAMBDA else name)
        return value

    def searched(self) -> dict[str, Range | Choices]:
        """Return the parameters that vary, in the fixed order of ``NAMES``."""
        items = ((name, self.parameter(name)) for name in NAMES)
        return {name: value for name, value in items if isinstance(value, Range | Choices)}

    def fixed(self) -> dict[str, float]:
        """Return the parameters that do not vary."""
        items = ((name, self.parameter(name)) for name in NAMES)
        return {name: value for name, value in items if isinstance(value, float)}

    def strengths(self) -> list[float]:
        """Return every augmentation strength a trial may ask for."""
        value = self.augmentation_strength
        return list(value.choices) if isinstance(value, Choices) else [value]


def _within(parameter: float | Range | Choices, most: float) -> float | Range | Choices:
    """Return ``parameter`` unchanged, if all of it lies between 0 and ``most``."""
    low, high = _extremes(parameter)
    if low < 0 or high > most:
        bounds = f"in [0, {most:g}]" if most < math.inf else ">= 0"
        got = f"{low:g}" if low == high else f"{low:g} to {high:g}"
        raise ValueError(f"must be {bounds}, got {got}; keep it inside")
    return parameter


def _extremes(parameter: float | Range | Choices) -> tuple[float, float]:
    if isinstance(parameter, Range):
        return parameter.low, parameter.high
    if isinstance(parameter, Choices):
        return parameter.choices[0], parameter.choices[-1]
    return parameter, parameter


@dataclass(frozen=True)
class Configuration:
    """The values of one trial."""

    lambda_: float
    learning_rate: float
    weight_decay: float
    augmentation_strength: float

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any]) -> Configuration:
        """Build from a mapping that holds (at least) the four YAML names."""
        lambda_, learning_rate, weight_decay, strength = (float(values[name]) for name in NAMES)
        return cls(lambda_, learning_rate, weight_decay, strength)

    def as_dict(self) -> dict[str, float]:
        """Return the values under their YAML names."""
        values = (self.lambda_, self.learning_rate, self.weight_decay, self.augmentation_strength)
        return dict(zip(NAMES, values, strict=True))


# The paper names its optimiser and loss but no values; these are ordinary ones for fine-tuning.
PAPER_LIKE = Configuration(
    lambda_=0.5, learning_rate=1e-3, weight_decay=1e-2, augmentation_strength=0.5
)


def first_configurations(space: Space, *, has_segments: bool) -> list[tuple[str, Configuration]]:
    """Return what is asked before the sampler proposes: paper-like, then the same at lambda = 1.

    Each value is moved into the study's space. Equal configurations are returned once; without
    segments lambda is 1 everywhere.
    """
    default = {
        name: _into(space.parameter(name), value) for name, value in PAPER_LIKE.as_dict().items()
    }
    if not has_segments:
        default[LAMBDA] = 1.0
    single_task = default | {LAMBDA: _into(space.parameter(LAMBDA), 1.0)}
    found = [("default", default)]
    if single_task != default and single_task[LAMBDA] == 1.0:
        found.append(("single_task", single_task))
    return [(source, Configuration.from_mapping(values)) for source, values in found]


def _into(parameter: float | Range | Choices, value: float) -> float:
    if isinstance(parameter, Range):
        return value if parameter.contains(value) else parameter.middle()
    if isinstance(parameter, Choices):
        return min(parameter.choices, key=lambda choice: abs(choice - value))
    return parameter
