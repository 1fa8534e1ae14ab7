"""The campaign file: many targets and inputs over one split, in the order of their transfer."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from spaces.document import Document, read_document
from spaces.errors import InputError
from spaces.explain import explain
from spaces.parameters import STRICT
from spaces.read_yaml import read_yaml
from spaces.sections import RUN_NAME
from spaces.study import Study

FORMAT = "polartune/campaign/1"
Name = Annotated[str, Field(pattern=RUN_NAME)]
Names = Annotated[list[Name], Field(min_length=1)]


class CampaignTransfer(BaseModel):
    """The second step: targets that are learnt from the models of another one."""

    model_config = STRICT | ConfigDict(populate_by_name=True)

    from_: Annotated[str | None, Field(alias="from")] = None
    """The first step's target whose models the second step starts from, on the same input; the
    first of ``targets`` if none is named."""
    targets: Names
    """What the second step predicts."""
    trainable_layers: Annotated[int, Field(gt=0)] | None = None
    """How many layers train in the second step, if other than in the first. Fewer give every fold a
    trunk of its own, and every input as many banks as there are folds, and one more."""


class Campaign(BaseModel):
    """One campaign file."""

    model_config = STRICT

    format: Literal["polartune/campaign/1"] = "polartune/campaign/1"
    """Which kind and version of file this is."""
    name: Name
    """Name of the folder that holds the runs: letters, digits, dot, dash and underscore."""
    inputs: Annotated[dict[Name, list[str]], Field(min_length=1)]
    """By a short name, the columns of polar maps that a network sees; several are stacked."""
    targets: Names
    """What is predicted from the backbone's weights: columns, or names in ``derive``."""
    transfer: CampaignTransfer | None = None
    """The second step, if there is one."""
    study: dict[str, Any]
    """What all studies share: a study file without name, inputs, target and transfer."""

    @property
    def starts_from(self) -> str | None:
        """The target whose models the second step starts from; None without a second step."""
        if self.transfer is None:
            return None
        return self.transfer.from_ or self.targets[0]

    @model_validator(mode="after")
    def _consistent(self) -> Campaign:
        second = self.transfer.targets if self.transfer else []
        everything = [*self.targets, *second]
        if len(set(everything)) != len(everything):
            raise ValueError(f"every target must stand once, got {everything}")
        if self.transfer and self.transfer.from_ not in {None, *self.targets}:
            raise ValueError(
                f"transfer.from must be one of targets, {self.targets}, got {self.transfer.from_}"
            )
        return self


@dataclass(frozen=True)
class Member:
    """One study of a campaign.

    Attributes:
        target: what it predicts.
        input: the short name of what its network sees.
        study: the whole study; its paths are relative to the campaign file.
        follows: the name of the study whose models it starts from, None in the first step.
    """

    target: str
    input: str
    study: Study
    follows: str | None


def name_of(target: str, maps: str) -> str:
    """Return the name of a study, and of its run directory."""
    return f"{target}-{maps}"


@dataclass(frozen=True)
class Plan:
    """A campaign with all its studies.

    Attributes:
        campaign: the file's content.
        folder: the folder of the file, to which the studies' paths are relative.
        root: the folder of the runs.
        members: the studies, those that others start from first.
    """

    campaign: Campaign
    folder: Path
    root: Path
    members: tuple[Member, ...]

    @property
    def targets(self) -> list[str]:
        """Every target, in the order of the file."""
        transfer = self.campaign.transfer
        return [*self.campaign.targets, *(transfer.targets if transfer else [])]

    @property
    def frozen(self) -> Path:
        """The digests of every study's frozen files, written before the one opening."""
        return self.root / "frozen.json"

    @property
    def report(self) -> Path:
        """The report on all studies."""
        return self.root / "campaign.html"

    @property
    def summary(self) -> Path:
        """The same for programs; a table of the same name lies beside it."""
        return self.root / "campaign.json"


def is_campaign(path: Path) -> bool:
    """Return whether a file is a campaign by its format or, where it has none, by its targets.

    What cannot be read is none: whoever reads it as a study will say what is wrong.
    """
    try:
        _, content = read_yaml(path, "")
    except InputError:
        return False
    if not isinstance(content, dict):
        return False
    declared = content.get("format")
    if declared is None:
        return "targets" in content
    return str(declared).startswith("polartune/campaign/")


def read_campaign(path: Path, out: Path) -> Plan:
    """Read and validate a campaign file and every study in it.

    Args:
        path: the file.
        out: folder of run directories; the studies' lie in ``out/<name>/``.

    Raises:
        InputError: the file is missing, is no YAML, or breaks a rule; names the line.
    """
    document = read_document(path, Campaign, FORMAT, "Give the path of a campaign file")
    campaign, root = document.content, out / document.content.name
    _refuse_own(document)
    members = tuple(_members(document, path.parent, root))
    if members[0].study.cohort.split.stratify:
        raise InputError(
            f"{path.name} study.cohort.split.stratify",
            "must be false in a campaign: all targets share one split, got true",
            "Remove it, or name a column of the split",
        )
    return Plan(campaign, path.parent, root, members)


def _members(document: Document[Campaign], folder: Path, root: Path) -> Iterator[Member]:
    campaign = document.content
    steps: list[tuple[list[str], str | None]] = [(campaign.targets, None)]
    if campaign.transfer:
        steps.append((campaign.transfer.targets, campaign.starts_from))
    for targets, start in steps:
        for target in targets:
            for maps in campaign.inputs:
                follows = name_of(start, maps) if start else None
                run = (
                    os.path.relpath((root / follows).resolve(), folder.resolve())
                    if follows
                    else None
                )
                study = _study(document, target, maps, run)
                yield Member(target, maps, study, follows)


def _study(document: Document[Campaign], target: str, maps: str, first: str | None) -> Study:
    """Return one study; an error names the line of the campaign file."""
    shared = document.content.study
    cohort = shared.get("cohort")
    content: dict[str, Any] = {
        **shared,
        "name": name_of(target, maps),
        "cohort": {
            **(cohort if isinstance(cohort, Mapping) else {}),
            "inputs": document.content.inputs[maps],
            "target": target,
        },
    }
    transfer = document.content.transfer
    if first and transfer:
        content["transfer"] = {"run": Path(first).as_posix()}
        network = shared.get("network", {})
        if transfer.trainable_layers and isinstance(network, Mapping):
            content["network"] = {**network, "trainable_layers": transfer.trainable_layers}
    try:
        return Study.model_validate(content)
    except ValidationError as error:
        schema = Study.model_json_schema(by_alias=True)
        raise explain(error, document.name, document.node("study"), schema, under="study") from None


def _refuse_own(document: Document[Campaign]) -> None:
    """Refuse what the shared study says, and each study of the campaign has of its own."""
    shared = document.content.study
    cohort = shared.get("cohort")
    for section, content, keys in (
        ("study", shared, ("name", "transfer", "evidence")),
        ("study.cohort", cohort, ("inputs", "target")),
    ):
        for key in keys:
            if isinstance(content, Mapping) and key in content:
                raise InputError(
                    f"{document.name} {section}.{key}",
                    "does not belong into a campaign",
                    "Remove it",
                )
