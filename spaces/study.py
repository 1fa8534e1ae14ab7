"""The study file: every setting of a study; errors name line, rule and value."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, model_validator

from spaces.document import read_document
from spaces.parameters import LAMBDA, STRICT, Space
from spaces.sections import (
    RUN_NAME,
    AugmentationSection,
    BankSection,
    CohortSection,
    EvaluationSection,
    Evidence,
    NetworkSection,
    ResourcesSection,
    SearchSection,
    TrainingSection,
    TransferSection,
    WeightsFile,
)

FORMAT = "polartune/study/1"
ADVICE = "Give the path of a study file; polartune init drafts one for a cohort table"


class Study(BaseModel):
    """One study file."""

    model_config = STRICT | ConfigDict(populate_by_name=True)

    format: Literal["polartune/study/1"] = "polartune/study/1"
    """Which kind and version of file this is."""
    name: Annotated[str, Field(pattern=RUN_NAME)]
    """Name of the run directory: letters, digits, dot, dash and underscore."""
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    """Draws the starting weights, the order of patients, the proposals and the bootstraps."""
    cohort: CohortSection
    """Which patients, which maps, which target."""
    network: NetworkSection = NetworkSection()
    """The backbone and how much of it trains."""
    transfer: TransferSection | None = None
    """The run to start from; null for the backbone's weights."""
    augmentation: AugmentationSection = AugmentationSection()
    """The limits of rotation, rescaling and dropout at strength 1."""
    space: Space = Space()
    """What each trial may vary; a plain number fixes a parameter."""
    training: TrainingSection = TrainingSection()
    """How one configuration trains."""
    search: SearchSection = SearchSection()
    """How many configurations, proposed and stopped how."""
    resources: ResourcesSection = ResourcesSection()
    """Where trials run."""
    bank: BankSection = BankSection()
    """Where the outputs of the frozen layers are kept."""
    evaluation: EvaluationSection = EvaluationSection()
    """What is decided before the test set is opened."""
    evidence: Evidence | None = None
    """Where a fixed configuration comes from; polartune writes it into best.yaml."""

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
        # With every null: left out, it would be read as the key's default.
        content = self.model_dump(mode="json", by_alias=True)
        return yaml.safe_dump(content, sort_keys=False, allow_unicode=True)


def read_study(path: Path) -> Study:
    """Read and validate a study file.

    Raises:
        InputError: the file is missing, is no YAML, or breaks a rule; names the line.
    """
    return read_document(path, Study, FORMAT, ADVICE).content


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
