"""What is wrong with a cluster file, and the rules that hold for every kind of one."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from packaging.version import InvalidVersion, Version

PLACEHOLDER = "REPLACE_ME"
OLDEST_RAY = Version("2.56")
"""Earlier releases have known vulnerabilities."""
LOOPBACK = ("127.0.0.1", "localhost", "::1")
_EVERYWHERE = re.compile(r"(?<![\d.])0\.0\.0\.0/0|::/0")
_MOVING = re.compile(r"nightly|ray-wheels|\bpip3?\b[^\n;&]*\s--pre\b", re.IGNORECASE)
# A command may go on in further lines; the next item of a YAML list is another one.
_UNPINNED_RAY = re.compile(
    r"\bpip3?\s+install\b(?:(?!\n\s*- )[^;&])*?[\s'\"](?P<name>ray(?:\[[\w,]+\])?)(?=[\s'\"]|$)"
)
_PINNED_RAY = re.compile(r"\bray(?:\[[\w,]+\])?==([\w.]+)")
_RAY_IMAGE = re.compile(r"rayproject/ray(?:-ml)?:(\d[\w.]*)")
# Well-known shapes of secrets, and names of secrets that are given a value of their own.
_SECRETS = (
    ("an AWS access key", re.compile(r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b")),
    ("a private key", re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----")),
    ("a GitHub token", re.compile(r"\b(?:gh[pousr]_|github_pat_)\w{20,}")),
    ("a Hugging Face token", re.compile(r"\bhf_[A-Za-z0-9]{20,}")),
    (
        "a secret in plain text",
        re.compile(
            r"(?i)\b\w*(?:auth_token|password|passwd|secret(?:_access)?_key|api_key)\b['\"]?"
            r"\s*[:=]\s*['\"]?(?![$<{\s'\"]|/|~|null\b)[^\s'\"]{4,}"
        ),
    ),
)


@dataclass(frozen=True)
class Finding:
    """One broken rule.

    Attributes:
        where: a key or a line of the file.
        problem: the rule, and the value that breaks it; never a secret's.
        remedy: what to do.
    """

    where: str
    problem: str
    remedy: str

    def __str__(self) -> str:
        """Return one line."""
        return f"{self.where}: {self.problem}. {self.remedy}."


def check_text(text: str) -> Iterator[Finding]:
    """Yield what no cluster file of any kind may hold, line by line."""
    for number, line in enumerate(text.splitlines(), start=1):
        where, said = f"line {number}", line.split("#", 1)[0] if _is_comment(line) else line
        if PLACEHOLDER in said:
            yield Finding(where, f"{PLACEHOLDER} stands here still", "Fill in your own")
        if _EVERYWHERE.search(said):
            yield Finding(where, "a rule admits the whole internet", "Name your own network")
        if _MOVING.search(said):
            yield Finding(where, "a nightly build is installed", "Pin a release: ray==X.Y.Z")
        for kind, pattern in _SECRETS:
            if pattern.search(line):
                yield Finding(where, f"{kind} stands in the file", "Keep it out, and replace it")
                break


def _is_comment(line: str) -> bool:
    return line.lstrip().startswith("#") and not line.startswith("#SBATCH")


def check_image(where: str, image: object) -> Iterator[Finding]:
    """Yield if an image may be another one tomorrow: no tag, or one that moves."""
    if not isinstance(image, str) or "@sha256:" in image:
        return
    tag = image.rpartition("/")[2].partition(":")[2]
    if not re.match(r"v?\d+\.\d+", tag):
        problem = f"the image must be pinned to a version, got {image}"
        yield Finding(where, problem, "Give a tag such as 2.60.0-py311, or a digest")


def check_versions(text: str) -> Iterator[Finding]:
    """Yield if a file names no or several versions of Ray, or one with known vulnerabilities."""
    for found in _UNPINNED_RAY.finditer(text):
        where = f"line {text.count(chr(10), 0, found.start('name')) + 1}"
        problem = f"{found['name']} is installed in any version"
        yield Finding(where, problem, "Pin it: ray==X.Y.Z")
    named = versions_of_ray(text)
    if len(named) > 1:
        problem = f"every node must have the same Ray, got {' and '.join(named)}"
        yield Finding("ray", problem, "Name one version everywhere")
    for text_ in named:
        try:
            is_old = Version(text_) < OLDEST_RAY
        except InvalidVersion:
            is_old = False
        if is_old:
            problem = f"Ray must be {OLDEST_RAY} or later, got {text_}"
            yield Finding("ray", problem, "Earlier releases have known vulnerabilities")


def versions_of_ray(text: str) -> list[str]:
    """Return the versions that a text pins Ray to, by pip or by its image."""
    return sorted({*_PINNED_RAY.findall(text), *_RAY_IMAGE.findall(text)})


def check_dashboard(where: str, host: str | None) -> Iterator[Finding]:
    """Yield if the dashboard, which runs commands for whoever reaches it, listens beyond loopback.

    Args:
        where: the command or key.
        host: of ``--dashboard-host``; None is Ray's default, loopback.
    """
    if host is not None and host not in LOOPBACK:
        problem = f"the dashboard must listen on 127.0.0.1, got {host}"
        yield Finding(where, problem, "Reach it through a tunnel: ray dashboard, ssh -L")


def unique(findings: Iterable[Finding]) -> Sequence[Finding]:
    """Return the findings in order, each once."""
    return tuple(dict.fromkeys(findings))
