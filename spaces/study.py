"""The study file: every setting of a study; errors name line, rule and value."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from spaces.errors import InputError
from spaces.explain import explain
from spaces.parameters import LAMBDA, STRICT, Space

FORMAT = "polartune/study/1"

Positive = Annotated[int, Field(ge=1)]
Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
Territory = Literal["any", "LAD", "RCA", "LCx"]


class DerivedTarget(BaseModel):
    """A binary target computed from segment values: positive when any is below a limit."""

    model_config = STRICT

    below: float
    segments: Territory = "any"
    columns: str = "mfr"


class SplitSection(BaseModel):
    """Development against test, and the folds inside development."""

    model_config = STRICT

    test: float = Field(default=0.1, gt=0.0)
    """Patients in the test set: a count when >= 1, else a fraction of the cohort."""
    folds: Annotated[int, Field(ge=2, le=20)] = 5
    stratify: bool = False
    column: str | None = None
    """A column with ``development`` or ``test`` in every row; overrides ``test``."""
    seed: Annotated[int, Field(ge=0)] = 0

    @model_validator(mode="after")
    def _whole_count(self) -> SplitSection:
        if self.test >= 1 and self.test != int(self.test):
            raise ValueError(f"test must be a whole count or a fraction below 1, got {self.test}")
        return self


class CohortSection(BaseModel):
    """Which patients, which maps, which target."""

    model_config = STRICT

    path: str
    """The cohort table, relative to the study file."""
    inputs: Annotated[list[str], Field(min_length=1)]
    stack: Literal["late", "early"] = "late"
    target: str
    derive: dict[str, DerivedTarget] = {}
    segments: str | None = "mfr"
    """Prefix of the 17 columns that the network regresses; null for none (lambda is then 1)."""
    baseline_segments: dict[str, str] = {
        "rest": "rest_mbf",
        "stress": "stress_mbf",
        "reserve": "mfr",
    }
    """Per input, the prefix of the 17 columns that logistic regression sees."""
    colour_scale: Literal["fixed", "relative", "unknown"]
    split: SplitSection = SplitSection()

    @model_validator(mode="after")
    def _inputs_once(self) -> CohortSection:
        if len(set(self.inputs)) != len(self.inputs):
            raise ValueError(f"inputs must differ, got {self.inputs}")
        return self


class WeightsFile(BaseModel):
    """Backbone weights in a local file, with the digest that they must have."""

    model_config = STRICT

    file: str
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class NetworkSection(BaseModel):
    """The backbone and how much of it trains."""

    model_config = STRICT

    backbone: Literal["efficientnet_lite0", "resnet18", "resnet34", "resnet50"] = "resnet50"
    weights: Literal["imagenet", "random"] | WeightsFile = "imagenet"
    trainable_layers: Positive | Literal["all"] = 3
    """The last weighted layers, counted from the output, each with its batch norm."""
    image_size: Annotated[int, Field(ge=32, le=1024)] = 224
    precision: Literal["auto", "bf16", "fp32"] = "auto"


class TransferSection(BaseModel):
    """The first of two steps: a finished run, whose models this study goes on from."""

    model_config = STRICT

    run: str
    """Its directory, relative to the study file. Fold k starts from fold k of that run, with new
    logits; so both need the same split, maps and network."""


class DropoutSection(BaseModel):
    """Random dropout of square patches of pixels, at strength 1."""

    model_config = STRICT

    rate: Fraction = 0.0
    """Expected share of the image that is blanked. A pretrained frozen trunk never saw such noise:
    single black pixels at a rate of 0.01 cost most of the signal, so the default is none."""
    patch: Positive = 16
    fill: Annotated[int, Field(ge=0, le=255)] = 0


class AugmentationSection(BaseModel):
    """The limits at strength 1; each trial's ``augmentation_strength`` multiplies them."""

    model_config = STRICT

    rotation: Annotated[float, Field(ge=0.0, le=180.0)] = 10.0
    """Degrees, to either side."""
    rescaling: Annotated[float, Field(ge=0.0, le=0.5)] = 0.1
    """Relative change of size, to either side."""
    dropout: DropoutSection = DropoutSection()
    views: Positive = 4
    """Fixed draws per patient and strength; epoch e uses view e mod views."""
    view_seed: Annotated[int, Field(ge=0)] = 0


class TrainingSection(BaseModel):
    """How one configuration trains."""

    model_config = STRICT

    epochs: Positive = 20
    batch_size: Positive = 32
    schedule: Literal["constant", "cosine"] = "constant"
    horizon: Positive | None = None
    """Epochs that the schedule is laid out for, if other than ``epochs``; best.yaml keeps the
    search's here, so that retraining for fewer epochs follows the same learning rates."""


class SearchSection(BaseModel):
    """How many configurations, proposed and stopped how."""

    model_config = STRICT

    trials: Positive = 32
    sampler: Literal["tpe", "gp", "random"] = "tpe"
    order: Literal["reproducible", "asynchronous"] = "reproducible"
    generation: Positive = 4
    scheduler: Literal["asha", "none"] = "asha"
    grace: Positive = 3
    eta: Annotated[int, Field(ge=2)] = 3
    retries: Annotated[int, Field(ge=0)] = 2
    """How often a trial is started again after its process or node was lost, or stalled."""
    stalled_after: Annotated[float, Field(ge=1.0)] = 600.0
    """Seconds without one finished batch after which a trial's process is ended as stalled."""
    trial_minutes: Annotated[float, Field(gt=0.0)] | None = None
    """Minutes of computing after which a trial fails; null for no limit."""

    @property
    def startup(self) -> int:
        """Trials proposed at random before the model of the sampler is used."""
        return max(4, self.trials // 4)


class ResourcesSection(BaseModel):
    """Where trials run."""

    model_config = STRICT

    device: Literal["auto", "cpu", "cuda"] = "auto"
    slots: Positive | Literal["auto"] = "auto"
    """Trials at a time."""
    cpus_per_trial: Positive = 1
    gpus_per_trial: float = Field(default=1.0, gt=0.0)
    """Whole GPUs, or 1/n of one."""

    @model_validator(mode="after")
    def _whole_or_one_nth(self) -> ResourcesSection:
        share = self.gpus_per_trial
        whole = share >= 1 and share == int(share)
        if not whole and abs(1 / share - round(1 / share)) > 1e-6:
            raise ValueError(f"gpus_per_trial must be a whole number or 1/n, got {share}")
        return self


class BankSection(BaseModel):
    """Where the trunk's outputs are kept."""

    model_config = STRICT

    mode: Literal["on", "off"] = "on"
    path: str | None = None
    """A folder for banks, relative to the study file; null for ``banks`` beside the cohort."""


class EvaluationSection(BaseModel):
    """What is decided before the test set is opened."""

    model_config = STRICT

    selection: Literal["best", "one_se"] = "best"
    bootstraps: Annotated[int, Field(ge=100)] = 4000
    confidence: float = Field(default=0.95, gt=0.5, lt=1.0)


class Evidence(BaseModel):
    """Where a fixed configuration comes from; written into best.yaml, never read for training."""

    model_config = STRICT

    study: str
    trial: int
    rank: int
    score: float
    score_sd: float
    best_epoch: int
    trials_complete: int
    trials_asked: int
    split_sha256: str


class Study(BaseModel):
    """One study file."""

    model_config = STRICT | ConfigDict(populate_by_name=True)

    format: Literal["polartune/study/1"] = "polartune/study/1"
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")]
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    cohort: CohortSection
    network: NetworkSection = NetworkSection()
    transfer: TransferSection | None = None
    """The run to start from; null for the backbone's weights."""
    augmentation: AugmentationSection = AugmentationSection()
    space: Space = Space()
    training: TrainingSection = TrainingSection()
    search: SearchSection = SearchSection()
    resources: ResourcesSection = ResourcesSection()
    bank: BankSection = BankSection()
    evaluation: EvaluationSection = EvaluationSection()
    evidence: Evidence | None = None

    @model_validator(mode="before")
    @classmethod
    def _no_segments_means_lambda_1(cls, content: Any) -> Any:
        if not isinstance(content, dict):
            return content
        cohort, space = content.get("cohort"), content.get("space", {})
        if not isinstance(cohort, dict) or not isinstance(space, dict):
            return content
        if cohort.get("segments", "mfr") is None:
            return content | {"space": {LAMBDA: 1.0} | space}
        return content

    @model_validator(mode="after")
    def _consistent(self) -> Study:
        if self.cohort.segments is None and self.space.lambda_ != 1.0:
            raise ValueError(
                "space.lambda must be 1.0 when cohort.segments is null: without segment values "
                "only the cross-entropy remains"
            )
        return self

    @property
    def is_fixed(self) -> bool:
        """Whether nothing is searched, as in a best.yaml."""
        return not self.space.searched()

    def with_paths(self, move: Callable[[str], str]) -> Study:
        """Return the study with ``move`` applied to each of its relative paths."""
        changed: dict[str, BaseModel] = {
            "cohort": self.cohort.model_copy(update={"path": move(self.cohort.path)})
        }
        if self.bank.path is not None:
            changed["bank"] = self.bank.model_copy(update={"path": move(self.bank.path)})
        if self.transfer is not None:
            changed["transfer"] = TransferSection(run=move(self.transfer.run))
        if isinstance(self.network.weights, WeightsFile):
            file = move(self.network.weights.file)
            weights = self.network.weights.model_copy(update={"file": file})
            changed["network"] = self.network.model_copy(update={"weights": weights})
        return self.model_copy(update=changed)

    def as_yaml(self) -> str:
        """Return the study as YAML that reads back equal, to the last bit of every number."""
        content = self.model_dump(mode="json", by_alias=True, exclude_none=True)
        if self.cohort.segments is None:
            content["cohort"]["segments"] = None
        return yaml.safe_dump(content, sort_keys=False, allow_unicode=True)


def read_study(path: Path) -> Study:
    """Read and validate a study file.

    Raises:
        InputError: the file is missing, is no YAML, or breaks a rule; names the line.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            str(path), f"cannot be read ({error})", "Give the path of a study file"
        ) from None
    try:
        tree = yaml.compose(text, Loader=yaml.SafeLoader)
        content = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or "not valid"
        raise InputError(f"{path.name}{line}", f"not valid YAML: {problem}", "") from None
    if not isinstance(content, dict):
        raise InputError(path.name, "a study file is a mapping of sections", "See studies/")
    declared = content.get("format", FORMAT)
    if declared != FORMAT:
        raise InputError(
            path.name,
            f"format must be {FORMAT}, got {declared}",
            "A newer polartune wrote it: upgrade, or write the file again with this version",
        )
    try:
        return Study.model_validate(content)
    except ValidationError as error:
        schema = Study.model_json_schema(by_alias=True)
        raise explain(error, path.name, tree, schema) from None


def fixed_study(study: Study, values: dict[str, float], epochs: int, evidence: Evidence) -> Study:
    """Return ``study`` with the space fixed to ``values``, its epochs set and evidence attached."""
    horizon = study.training.horizon
    if study.training.schedule != "constant":
        horizon = horizon or study.training.epochs
    return study.model_copy(
        update={
            "space": Space.model_validate(values),
            "training": study.training.model_copy(update={"epochs": epochs, "horizon": horizon}),
            "evidence": evidence,
        }
    )
