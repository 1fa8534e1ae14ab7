"""A YAML file as a checked value; what is wrong with it is said in one line that names the line."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from spaces.errors import InputError
from spaces.explain import explain

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
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is no UTF-8 text"
        raise InputError(str(path), f"cannot be read ({reason})", advice) from None
    try:
        tree = yaml.compose(text, Loader=yaml.SafeLoader)
        content = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or "not valid"
        raise InputError(f"{path.name}{line}", f"not valid YAML: {problem}", "") from None
    if not isinstance(content, dict):
        what = declared_format.split("/")[1]
        raise InputError(path.name, f"is no {what} file (a mapping of sections)", advice)
    declared = content.get("format", declared_format)
    if declared != declared_format:
        raise InputError(
            path.name,
            f"format must be {declared_format}, got {declared}",
            "A newer polartune wrote it: upgrade, or write the file again with this version",
        )
    try:
        return Document(path.name, kind.model_validate(content), tree)
    except ValidationError as error:
        raise explain(error, path.name, tree, kind.model_json_schema(by_alias=True)) from None
