"""A look at a cluster file before it starts machines: what it is, and what is wrong with it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import yaml

from search.clusters.findings import Finding, check_text, check_versions, unique
from search.clusters.kuberay import KINDS, check_kuberay
from search.clusters.ray_up import check_ray_up
from search.clusters.slurm import check_slurm
from spaces.errors import InputError

ADVICE = "Give a file for ray up, a RayJob, or a SLURM script; see clusters/"


def check_cluster(path: Path) -> tuple[str, Sequence[Finding]]:
    """Return what a file is for, ``ray up``, ``KubeRay`` or ``SLURM``, and its broken rules.

    Starts nothing and needs no network.

    Raises:
        InputError: it cannot be read, or is none of the three.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is no UTF-8 text"
        raise InputError(str(path), f"cannot be read ({reason})", ADVICE) from None
    kind, findings = _check(text, path.name)
    return kind, unique([*findings, *check_text(text), *check_versions(text)])


def _check(text: str, name: str) -> tuple[str, Iterator[Finding]]:
    if text.startswith("#!") and "#SBATCH" in text:
        return "SLURM", check_slurm(text)
    try:
        documents = list(yaml.safe_load_all(text))
    except (yaml.YAMLError, ValueError, RecursionError):
        raise InputError(name, "is neither YAML nor a SLURM script", ADVICE) from None
    resources = [document for document in documents if isinstance(document, Mapping)]
    if any(document.get("kind") in KINDS for document in resources):
        return "KubeRay", check_kuberay(resources)
    if len(resources) == 1 and "provider" in resources[0]:
        return "ray up", check_ray_up(resources[0])
    raise InputError(name, "is no cluster file", ADVICE)
