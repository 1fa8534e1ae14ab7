"""The sections of a study file: what each key means, which values it takes, what it is without one.

The sentence below a key is its description in ``studies/study.schema.json``, which editors show.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, Field, model_validator

from spaces.parameters import STRICT

Positive = Annotated[int, Field(ge=1)]
Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
Backbone = Literal["efficientnet_lite0", "resnet18", "resnet34", "resnet50"]
ImageSize = Annotated[int, Field(ge=32, le=1024)]
RUN_NAME = r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$"
SHA256 = r"^[0-9a-f]{64}$"
# A NUL byte ends a path for the operating system, which refuses it.
FilePath = Annotated[str, Field(pattern=r"^[^\x00]+$")]
Share = Annotated[float, Field(gt=0.0, lt=1.0)]
Territory = Literal["any", "LAD", "RCA", "LCx"]


class DerivedTarget(BaseModel):
    """A binary target computed from segment values: positive when any is below a limit."""

    model_config = STRICT

    below: float
    """The limit, in the unit of the segment columns (MFR: a ratio)."""
    segments: Territory = "any"
    """The segments that are looked at: all 17 (any), or those of one vessel."""
    columns: str = "mfr"
    """Prefix of the 17 columns that are compared with the limit."""


class SplitSection(BaseModel):
    """Development against test, and the folds inside development."""

    model_config = STRICT

    test: float = Field(default=0.1, gt=0.0)
    """Patients in the test set: a count when >= 1, else a fraction of the cohort."""
    folds: Annotated[int, Field(ge=2, le=20)] = 5
    """Parts of the development set for cross-validation."""
    stratify: bool = False
    """Whether the test set and every fold get the same share of positive patients."""
    column: str | None = None
    """A column with ``development`` or ``test`` in every row; overrides ``test``."""
    seed: Annotated[int, Field(ge=0)] = 0
    """Draws the split; another seed gives other test patients."""
    outer_folds: Annotated[int, Field(ge=2, le=20)] = 5
    """Parts of the whole cohort for `polartune nested`, each of them the test set once."""
    outer_fold: Annotated[int, Field(ge=0)] | None = None
    """Which of them is the test set, from 0; overrides ``test``. `polartune nested` sets it."""

    @model_validator(mode="after")
    def _outer_fold_exists(self) -> SplitSection:
        if self.outer_fold is not None and self.outer_fold >= self.outer_folds:
            raise ValueError(
                f"outer_fold must be below outer_folds, {self.outer_folds}, got {self.outer_fold}"
            )
        if self.outer_fold is not None and self.column:
            raise ValueError(f"outer_fold and column {self.column} cannot both say who is test")
        return self

    @model_validator(mode="after")
    def _whole_count(self) -> SplitSection:
        if self.test >= 1 and self.test != int(self.test):
            raise ValueError(f"test must be a whole count or a fraction below 1, got {self.test}")
        return self


class CohortSection(BaseModel):
    """Which patients, which maps, which target."""

    model_config = STRICT

    path: FilePath
    """The cohort table, relative to the study file."""
    inputs: Annotated[list[str], Field(min_length=1)]
    """The columns with the paths of the polar maps that the network sees."""
    stack: Literal["late", "early"] = "late"
    """How several maps are joined: each through the same trunk (late), or as channels (early)."""
    target: str
    """What is predicted: a column with 0 and 1, or a name in ``derive``."""
    derive: dict[str, DerivedTarget] = {}
    """Targets that are computed from segment values, by name."""
    segments: str | None = "mfr"
    """Prefix of the 17 columns that the network regresses; null for none (lambda is then 1)."""
    baseline_segments: dict[str, str] = {
        "rest": "rest_mbf",
        "stress": "stress_mbf",
        "reserve": "mfr",
    }
    """Per input, the prefix of the 17 columns that logistic regression sees."""
    colour_scale: Literal["fixed", "relative", "unknown"]
    """Whether one colour means one flow in every map (fixed), or each map has a scale of its own
    (relative); the report prints it."""
    split: SplitSection = SplitSection()
    """Development against test, and the folds inside development."""

    @property
    def is_widened(self) -> bool:
        """Whether the first convolution sees several maps, and therefore trains."""
        return self.stack == "early" and len(self.inputs) > 1

    @model_validator(mode="after")
    def _inputs_once(self) -> CohortSection:
        if len(set(self.inputs)) != len(self.inputs):
            raise ValueError(f"inputs must differ, got {self.inputs}")
        return self


class WeightsFile(BaseModel):
    """Backbone weights in a local file, with the digest that they must have."""

    model_config = STRICT

    file: FilePath
    """A state dict with torchvision's names (.pth or .safetensors), relative to the study file."""
    sha256: Annotated[str, Field(pattern=SHA256)]
    """The digest that the file must have, as ``sha256sum`` prints it."""


class NetworkSection(BaseModel):
    """The backbone and how much of it trains."""

    model_config = STRICT

    backbone: Backbone = "resnet50"
    """The network that sees the maps."""
    weights: Literal["imagenet", "random"] | WeightsFile = "imagenet"
    """Where it starts: ImageNet weights (the ResNets' are downloaded once), random, or a file."""
    trainable_layers: Positive | Literal["all"] = 3
    """The last weighted layers, counted from the output, each with its batch norm."""
    image_size: ImageSize = 224
    """Edge in pixels that every map is resized to."""
    precision: Literal["auto", "bf16", "fp32"] = "auto"
    """Number format of the products; auto takes bf16 where the processor has it."""

    def trains_deeper_than(self, other: NetworkSection) -> bool:
        """Whether layers train that stay frozen under ``other``, of the same backbone."""
        if other.trainable_layers == "all":
            return False
        return self.trainable_layers == "all" or self.trainable_layers > other.trainable_layers


class TransferSection(BaseModel):
    """The first of two steps: a finished run, whose models this study goes on from."""

    model_config = STRICT

    run: FilePath
    """Its directory, relative to the study file. Fold k starts from fold k of that run, with new
    logits; so both need the same split, maps and backbone. A run that trained more layers than this
    study gives every fold a trunk and a bank of its own."""


class DropoutSection(BaseModel):
    """Random dropout of square patches of pixels, at strength 1."""

    model_config = STRICT

    rate: Fraction = 0.0
    """Expected share of the image that is blanked. A pretrained frozen trunk never saw such noise:
    single black pixels at a rate of 0.01 cost most of the signal, so the default is none."""
    patch: Positive = 16
    """Edge in pixels of one blanked square."""
    fill: Annotated[int, Field(ge=0, le=255)] = 0
    """Grey value of a blanked square."""


class AugmentationSection(BaseModel):
    """The limits at strength 1; each trial's ``augmentation_strength`` multiplies them."""

    model_config = STRICT

    rotation: Annotated[float, Field(ge=0.0, le=180.0)] = 10.0
    """Degrees, to either side."""
    rescaling: Annotated[float, Field(ge=0.0, le=0.5)] = 0.1
    """Relative change of size, to either side."""
    dropout: DropoutSection = DropoutSection()
    """Random dropout of square patches of pixels."""
    views: Positive = 4
    """Fixed draws per patient and strength; epoch e uses view e mod views."""
    view_seed: Annotated[int, Field(ge=0)] = 0
    """Draws the views."""


class TrainingSection(BaseModel):
    """How one configuration trains."""

    model_config = STRICT

    epochs: Positive = 20
    """Passes through the training patients, at most: the scheduler stops hopeless trials."""
    class_weight: Literal["none", "balanced"] = "none"
    """Whether both classes weigh the same in the cross-entropy (balanced), or every patient (none).
    Weights come from each fold's training patients; balanced probabilities are not calibrated."""
    batch_size: Positive = 32
    """Patients in one step of the optimiser."""
    schedule: Literal["constant", "cosine"] = "constant"
    """How the learning rate goes on from its first value."""
    horizon: Positive | None = None
    """Epochs that the schedule is laid out for, if other than ``epochs``; best.yaml keeps the
    search's here, so that retraining for fewer epochs follows the same learning rates."""


class SearchSection(BaseModel):
    """How many configurations, proposed and stopped how."""

    model_config = STRICT

    trials: Positive = 32
    """Configurations to try, each in a full cross-validation."""
    sampler: Literal["tpe", "gp", "random"] = "tpe"
    """How Optuna proposes: tree-structured Parzen estimator, Gaussian process, or at random."""
    order: Literal["reproducible", "asynchronous"] = "reproducible"
    """Whether proposals and stops must not depend on timing (reproducible), or no slot may wait."""
    generation: Positive = 4
    """Trials that are proposed together when the order is reproducible."""
    scheduler: Literal["asha", "none"] = "asha"
    """Whether poor trials are stopped early (asha)."""
    grace: Positive = 3
    """Epochs that every trial trains before it may be stopped."""
    eta: Annotated[int, Field(ge=2)] = 3
    """About one in eta trials goes on at each rung; rungs lie a factor of eta apart."""
    retries: Annotated[int, Field(ge=0)] = 2
    """How often in a row a trial is started again after its process or node was lost, or stalled,
    without a new epoch in between."""
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
    """What computes; auto takes GPUs where there are any."""
    slots: Positive | Literal["auto"] = "auto"
    """Trials at a time."""
    cpus_per_trial: Positive = 1
    """CPU cores, and so threads, of one trial."""
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
    """Whether the frozen layers' outputs are kept on disk (on) or computed in every epoch."""
    path: FilePath | None = None
    """A folder for banks, relative to the study file; null for ``banks`` beside the cohort."""


class EvaluationSection(BaseModel):
    """What is decided before the test set is opened."""

    model_config = STRICT

    selection: Literal["best", "one_se"] = "best"
    """Which configuration is kept: the best, or the simplest within one standard error of it."""
    attention: bool = True
    """Whether to compute where the model looked, by Grad-CAM and occlusion: some seconds."""
    bootstraps: Annotated[int, Field(ge=100)] = 4000
    """Resamples of the test patients for the bootstrapped intervals."""
    confidence: float = Field(default=0.95, gt=0.5, lt=1.0)
    """Level of every interval."""
    seeds: Annotated[int, Field(ge=1, le=20)] = 5
    """Trainings of the chosen configuration on the development set, with other random numbers each:
    the first is the model, the others show how much chance moves its test AUC."""
    decision_range: Annotated[list[Share], Field(min_length=2, max_length=2)] | None = None
    """Between which probabilities somebody would act, as ``[0.1, 0.4]``, for a decision curve."""
    age: str | None = "age"
    """The column with the age, for subgroups and a simple predictor; null for none."""
    sex: str | None = "sex"
    """The column with the sex, two values, likewise; null for none."""

    @model_validator(mode="after")
    def _rising_range(self) -> EvaluationSection:
        if self.decision_range is not None and self.decision_range[0] >= self.decision_range[1]:
            raise ValueError(f"decision_range must rise, got {self.decision_range}")
        return self


class Evidence(BaseModel):
    """Where a fixed configuration comes from; written into best.yaml, never read for training."""

    model_config = STRICT

    study: str
    """The study that searched."""
    trial: int
    """The trial's number."""
    rank: int
    """Its rank by score among the complete trials, from 1."""
    score: float
    """Its cross-validation score."""
    score_sd: float
    """Standard deviation of the score over the folds."""
    best_epoch: int
    """The last epoch of the window that gave the score."""
    trials_complete: int
    """Trials of the search that trained all their epochs."""
    trials_asked: int
    """Trials that the search began."""
    split_sha256: str
    """Digest of the split that they were trained on."""
