"""What pydantic finds wrong with a file, told in one line: where, which rule, which value."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import yaml
from pydantic import ValidationError
from pydantic_core import ErrorDetails

from spaces.errors import SHOWN, InputError, nearest
from spaces.parameters import TAGS
from spaces.sections import RUN_NAME, SHA256

DECIMAL_POINT = "If it is part of a number, write a decimal point: 2.0, not 2,0"
PATTERNS = {
    RUN_NAME: "must be at most 64 letters, digits, dots, dashes and underscores, and begin with a "
    "letter or digit",
    SHA256: "must be a sha256: 64 of the characters 0-9 and a-f, as sha256sum prints",
}


def explain(
    error: ValidationError,
    name: str,
    tree: yaml.Node | None,
    schema: dict[str, Any],
    *,
    under: str = "",
) -> InputError:
    """Return one of pydantic's findings, a misspelt key before all others, as our one line.

    Args:
        error: what pydantic found.
        name: the file.
        tree: its YAML nodes, which know their lines.
        schema: JSON schema of the file, for the names that are valid.
        under: the key of the file that ``tree`` stands under, if it is not the whole.
    """
    findings = error.errors(include_url=False)
    finding = _most_telling(findings)
    # An unknown key, which stands last, may be called like one of pydantic's own words.
    unknown = finding["loc"][-1:] if finding["type"] == "extra_forbidden" else ()
    way = finding["loc"][: len(finding["loc"]) - len(unknown)]
    keys = [*_keys(way), *unknown]
    dotted = ".".join(str(key) for key in [*filter(None, [under]), *keys]) or "the study"
    where = f"{name}:{_line(tree, keys)} {dotted}"
    kind, value = finding["type"], finding.get("input")
    if kind == "extra_forbidden":
        return InputError(
            where, "unknown key", nearest(str(keys[-1]), _siblings(schema, keys[:-1]))
        )
    if kind == "missing":
        remedy = "sha256sum FILE prints it" if keys[-1] == "sha256" else "see studies/demo.yaml"
        return InputError(where, "this key is required", f"Add it; {remedy}")
    if kind == "value_error":
        return InputError(where, str(finding["ctx"]["error"]).rstrip("."))
    if kind == "invalid_key" and isinstance(keys[-1], int):
        return InputError(where, f"a key must be a word, got {keys[-1]}", DECIMAL_POINT)
    if kind == "string_pattern_mismatch" and finding["ctx"]["pattern"] in PATTERNS:
        return InputError(where, f"{PATTERNS[finding['ctx']['pattern']]}, got {_short(value)}")
    remedy = ""
    if kind == "string_type" and isinstance(value, int | float):
        remedy = f'YAML reads this as a number; put it in quotes: "{value}"'
    if isinstance(value, str) and _is_number(value):
        remedy = f"YAML reads {value} as text; write {_yaml_float(float(value))}"
    message = finding["msg"].removeprefix("Input ")
    return InputError(where, f"{message[0].lower()}{message[1:]}, got {_short(value)}", remedy)


def _most_telling(findings: Sequence[ErrorDetails]) -> ErrorDetails:
    """Return an unknown key if there is one; else the first finding, or what lies deepest in it.

    Of a value that may be a word or a section, pydantic says first that it is not the word.
    """
    unknown = next((f for f in findings if f["type"] == "extra_forbidden"), None)
    if unknown is not None:
        return unknown
    place = _keys(findings[0]["loc"])
    inside = [f for f in findings if _keys(f["loc"])[: len(place)] == place]
    return max(inside, key=lambda f: len(_keys(f["loc"])))


def _keys(way: Sequence[int | str]) -> list[int | str]:
    """Return a location without what pydantic, not the file, put into it."""
    return [key for key in way if key not in TAGS and not _is_type_name(key)]


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}..."


def _yaml_float(value: float) -> str:
    return yaml.safe_dump(value).splitlines()[0]


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _is_type_name(key: int | str) -> bool:
    """Whether pydantic, not the file, put this key into a location (branches of a union)."""
    return isinstance(key, str) and (
        key in {"int", "float", "str", "WeightsFile"} or key.startswith(("literal[", "constrained"))
    )


def _siblings(schema: dict[str, Any], keys: Sequence[int | str]) -> list[str]:
    """Return the keys that the section at ``keys`` admits."""
    node = schema
    for key in keys:
        node = _resolve(schema, node).get("properties", {}).get(str(key), {})
    return list(_resolve(schema, node).get("properties", {}))


def _resolve(schema: dict[str, Any], node: dict[str, Any]) -> dict[str, Any]:
    for option in [node, *node.get("oneOf", []), *node.get("anyOf", [])]:
        if "$ref" in option:
            found: dict[str, Any] = schema["$defs"][option["$ref"].rsplit("/", 1)[1]]
            return found
    return node


def _line(tree: yaml.Node | None, keys: Sequence[int | str]) -> int:
    """Return the 1-based line of the deepest key that the file holds."""
    line = 1
    node = tree
    for key in keys:
        if isinstance(node, yaml.MappingNode):
            for key_node, value_node in node.value:
                if key_node.value == str(key):
                    line, node = key_node.start_mark.line + 1, value_node
                    break
            else:
                return line
        elif isinstance(node, yaml.SequenceNode) and isinstance(key, int) and key < len(node.value):
            node = node.value[key]
            line = node.start_mark.line + 1
    return line
