"""The `ray` commands in cluster files, read by Ray's own parser."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import click

from search.clusters.findings import Finding, check_dashboard

TOKEN = "RAY_AUTH_MODE=token"  # noqa: S105  a mode, no token
NAMES = ("start", "stop", "symmetric-run")
_SETTING = re.compile(r"\w+=")
# As in `bash -c "ray start ..."`: a word that is a line of commands again.
_QUOTED = re.compile(r"\bray\s+(?:start|stop)\b")
# Comments and redirections, and what is quoted, which may look like them.
_ASIDE = re.compile(
    r"""(?P<quoted>"(?:\\.|[^"\\])*"|'[^']*'|\\.)"""
    r"""|(?<![^\s;&|])(?:\#[^\n]*|\d?>>?\s*(?:&\d|"[^"]*"|'[^']*'|[^\s;&|'"]+))""",
    re.DOTALL,
)
_SEPARATORS = ";&|\n"


@dataclass(frozen=True)
class RayCommand:
    """A ``ray`` command, whatever runs it: nohup, env, sudo, another shell.

    Attributes:
        name: one of ``NAMES``.
        options: what follows.
        settings: what its environment was given, as by ``A=b ray start`` or ``export A=b`` before.
    """

    name: str
    options: Sequence[str]
    settings: Sequence[str]


def simple_commands(lines: str) -> list[list[str]]:
    r"""Return the words of each command; line ends, ``;``, ``&``, ``&&``, ``|``, ``||`` separate.

    Raises:
        ValueError: a quote is not closed.

    >>> simple_commands("ulimit -c 0; A=b ray start --head # here\nray stop")
    [['ulimit', '-c', '0'], ['A=b', 'ray', 'start', '--head'], ['ray', 'stop']]
    """
    text = _ASIDE.sub(lambda found: found["quoted"] or "", lines)
    text = re.sub(r"\\\n\s*", " ", text)
    lexer = shlex.shlex(text, posix=True, punctuation_chars=_SEPARATORS)
    lexer.whitespace, lexer.whitespace_split, lexer.commenters = " \t\r", True, ""
    commands: list[list[str]] = [[]]
    for word in lexer:
        if word and set(word) <= set(_SEPARATORS):
            commands.append([])
        else:
            commands[-1].append(word)
    return [command for command in commands if command]


def ray_commands(lines: str, settings: Sequence[str] = ()) -> Iterator[RayCommand]:
    """Yield the ``ray`` commands of one shell's lines.

    Raises:
        ValueError: a quote is not closed.
    """
    exported = list(settings)
    for words in simple_commands(lines):
        if words[0] == "export":
            exported += words[1:]
            continue
        given = list(exported)
        for at, (word, following) in enumerate(zip(words, [*words[1:], ""], strict=True)):
            name = word.lstrip("({").rpartition("/")[2]
            if name == "sudo":  # it hands no settings on
                given = []
            elif _QUOTED.search(word):
                yield from ray_commands(word, given)
            elif _SETTING.match(word):
                given.append(word)
            elif name == "ray" and following in NAMES:
                yield RayCommand(following, words[at + 2 :], given)
                break


def check_starts(where: str, shells: Sequence[str]) -> Iterator[Finding]:
    """Yield what is wrong with commands, each for a shell of its own, of which one starts Ray."""
    yield from (finding for lines in shells for finding in check_start(where, lines))
    try:
        found = [one.name for lines in shells for one in ray_commands(lines)].count("start")
    except ValueError:
        return
    if found != 1:
        problem = f"exactly one ray start must stand here, got {found} that can be read"
        yield Finding(where, problem, f"Write it out: {TOKEN} ray start ...")


def check_start(where: str, lines: str) -> Iterator[Finding]:
    """Yield what is wrong with the `ray start` and `ray stop` commands of one shell's lines."""
    try:
        commands = list(ray_commands(lines))
    except ValueError:
        yield Finding(where, "a quote is not closed, so it cannot be read", "Close it")
        return
    for command in commands:
        if command.name == "stop" and {"--force", "-f"} & set(command.options):
            problem = "ray stop --force kills the processes of other users' Ray too"
            yield Finding(where, problem, "Write: ray stop")
        if command.name != "start":
            continue
        if TOKEN not in command.settings:
            problem = f"{TOKEN} must stand before ray start, on head and workers"
            yield Finding(where, problem, "Without it whoever reaches the port runs code")
        yield from check_start_options(where, command.options)


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
