"""A YAML file as plain values, and as nodes that know their lines; nothing in it can run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from spaces.errors import InputError

MOST_BYTES = 256 * 1024
"""Of a study file; the longest in use has 4 KB."""
MOST_VALUES = 100_000
"""Values after aliases are filled in: nine lines of ten aliases each would make a billion."""


def read_yaml(path: Path, advice: str) -> tuple[yaml.Node | None, Any]:
    """Return a file's nodes, and its content as mappings, lists, texts, numbers and dates.

    Args:
        path: the file.
        advice: what to do if there is no such file.

    Raises:
        InputError: the file is missing, too large, or no YAML; names the line.
    """
    text = _read_text(path, advice)
    try:
        tree = yaml.compose(text, Loader=yaml.SafeLoader)
        if tree is not None and _count(tree, {}) > MOST_VALUES:
            problem = f"it holds more than {MOST_VALUES} values, aliases filled in"
            raise InputError(path.name, problem, "Write it without aliases")
        repeated = _repeated_key(tree)
        if repeated is not None:
            where = f"{path.name}:{repeated.start_mark.line + 1} {repeated.value}"
            raise InputError(where, "this key stands here a second time", "Keep one of the two")
        return tree, yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or "not valid"
        raise InputError(f"{path.name}{line}", f"not valid YAML: {problem}", "") from None
    except RecursionError:
        raise InputError(path.name, "not valid YAML: nested too deeply", "") from None
    # What PyYAML lets through from dates, numbers and tags that are none.
    except (ValueError, TypeError, LookupError, AttributeError, ArithmeticError) as error:
        problem = f"not valid YAML: a value is not what it looks like ({type(error).__name__})"
        raise InputError(path.name, problem, "Put texts in quotes") from None


def _read_text(path: Path, advice: str) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(MOST_BYTES + 1)
        if len(content) > MOST_BYTES:
            raise InputError(path.name, f"it has more than {MOST_BYTES // 1024} KB", advice)
        return content.decode("utf-8")
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "it is no UTF-8 text"
        raise InputError(str(path), f"cannot be read ({reason})", advice) from None


def _repeated_key(tree: yaml.Node | None) -> yaml.ScalarNode | None:
    """Return a key that its mapping has twice; YAML itself would take the last one, silently."""
    waiting = [] if tree is None else [tree]
    seen: set[int] = set()
    while waiting:
        node = waiting.pop()
        if id(node) in seen or isinstance(node, yaml.ScalarNode):
            continue
        seen.add(id(node))
        if isinstance(node, yaml.SequenceNode):
            waiting += node.value
            continue
        keys = [key for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        names = [key.value for key in keys]
        for at, key in enumerate(keys):
            if key.value in names[:at]:
                return key
        waiting += [value for _, value in node.value]
    return None


def _count(node: yaml.Node, known: dict[int, float]) -> float:
    """Return how many values a node has once aliases are filled in; infinite if it holds itself."""
    if id(node) not in known:
        known[id(node)] = float("inf")  # what a node finds that is inside itself
        below: list[yaml.Node] = []
        if isinstance(node, yaml.MappingNode):
            below = [part for pair in node.value for part in pair]
        elif isinstance(node, yaml.SequenceNode):
            below = node.value
        known[id(node)] = 1 + sum(_count(part, known) for part in below)
    return known[id(node)]
