"""A YAML file as a checked value; what is wrong with it is said in one line that names the line."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Generic, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from spaces.errors import SHOWN, InputError
from spaces.explain import explain
from spaces.read_yaml import read_yaml

Content = TypeVar("Content", bound=BaseModel)


@dataclass(frozen=True)
class Document(Generic[Content]):
    """What a file holds, and where.

    Attributes:
        name: the file's name.
        content: its checked content.
        tree: its YAML nodes, which know their lines.
    """

    name: str
    content: Content
    tree: yaml.Node | None

    def node(self, key: str) -> yaml.Node | None:
        """Return what stands under a key of the file."""
        assert isinstance(self.tree, yaml.MappingNode)
        found = (value for name, value in self.tree.value if name.value == key)
        return next(found, None)


def read_document(
    path: Path, kind: type[Content], declared_format: str, advice: str
) -> Document[Content]:
    """Read and validate a YAML file.

    Args:
        path: the file.
        kind: what its content must be.
        declared_format: what its key ``format`` says, if it has one.
        advice: what to do if there is no such file.

    Raises:
        InputError: the file is missing, is no YAML, or breaks a rule; names the line.
    """
    tree, content = read_yaml(path, advice)
    if not isinstance(content, dict):
        what = declared_format.split("/")[1]
        raise InputError(path.name, f"is no {what} file (a mapping of sections)", advice)
    declared = content.get("format", declared_format)
    if declared != declared_format:
        raise InputError(
            path.name,
            f"format must be {declared_format}, got {str(declared)[:SHOWN]}",
            "A newer polartune wrote it: upgrade, or write the file again with this version",
        )
    try:
        return Document(path.name, kind.model_validate(content), tree)
    except ValidationError as error:
        raise explain(error, path.name, tree, _schema(kind)) from None


@cache
def _schema(kind: type[BaseModel]) -> dict[str, Any]:
    return kind.model_json_schema(by_alias=True)
