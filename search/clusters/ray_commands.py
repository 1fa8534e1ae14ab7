"""The `ray` commands in cluster files, read by Ray's own parser."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import click

from search.clusters.findings import Finding, check_dashboard

TOKEN = "RAY_AUTH_MODE=token"  # noqa: S105  a mode, no token


def simple_commands(line: str) -> list[list[str]]:
    """Return the words of each command in a shell line; ``;``, ``&&`` and ``||`` separate them.

    >>> simple_commands("ulimit -c 0; A=b ray start --head")
    [['ulimit', '-c', '0'], ['A=b', 'ray', 'start', '--head']]
    """
    try:
        lexer = shlex.shlex(line, posix=True, punctuation_chars=";&|")
        lexer.whitespace_split = True
        words = list(lexer)
    except ValueError:
        return []
    commands: list[list[str]] = [[]]
    for word in words:
        if set(word) <= set(";&|"):
            commands.append([])
        else:
            commands[-1].append(word)
    return [command for command in commands if command]


def check_start(where: str, line: str, *, exports: str = "") -> Iterator[Finding]:
    """Yield what is wrong with the `ray start` and `ray stop` commands of one shell line.

    Args:
        where: the key of the file.
        line: what a shell would run.
        exports: earlier lines of the same shell.
    """
    for words in simple_commands(line):
        settings, command = _split_settings(words)
        if command[:2] == ["ray", "stop"] and {"--force", "-f"} & set(command):
            problem = "ray stop --force kills the processes of other users' Ray too"
            yield Finding(where, problem, "Write: ray stop")
        if command[:2] != ["ray", "start"]:
            continue
        if TOKEN not in settings and f"export {TOKEN}" not in exports:
            problem = f"{TOKEN} must stand before ray start, on head and workers"
            yield Finding(where, problem, "Without it whoever reaches the port runs code")
        yield from check_start_options(where, command[2:])


def check_start_options(where: str, options: Sequence[str]) -> Iterator[Finding]:
    """Yield what Ray's parser refuses in options of `ray start`, and an open dashboard."""
    from ray.scripts.scripts import start

    try:
        with start.make_context("ray start", list(options)) as context:
            found: Mapping[str, Any] = context.params
    except click.ClickException as error:
        yield Finding(where, f"ray start refuses it ({error.format_message()})", "Correct it")
        return
    if found["include_dashboard"] is not False:
        yield from check_dashboard(where, _given(context, found, "dashboard_host"))


def _given(context: click.Context, found: Mapping[str, Any], name: str) -> str | None:
    """Return an option that somebody wrote; None for the default."""
    source = context.get_parameter_source(name)
    return str(found[name]) if source == click.core.ParameterSource.COMMANDLINE else None


def _split_settings(words: Sequence[str]) -> tuple[list[str], list[str]]:
    at = 0
    while at < len(words) and re.match(r"\w+=", words[at]):
        at += 1
    return list(words[:at]), list(words[at:])
