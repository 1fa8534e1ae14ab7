"""A file for `ray up`: Ray's own checks, then ours."""

from __future__ import annotations

import copy
import io
from collections.abc import Iterator, Mapping
from contextlib import redirect_stderr, redirect_stdout
from typing import Any

import click

from search.clusters.findings import (
    Finding,
    check_image,
    check_text,
    check_versions,
    versions_of_ray,
)
from search.clusters.ray_commands import check_start, check_starts

KEYS = "**/*.key"
STARTS = ("head_start_ray_commands", "worker_start_ray_commands")
OTHERS = (
    "initialization_commands",
    "setup_commands",
    "head_setup_commands",
    "worker_setup_commands",
)
_SENSITIVE = (".aws", ".ssh", ".pem", ".key", ".kube", ".azure", ".netrc")


def check_ray_up(content: Mapping[str, Any]) -> Iterator[Finding]:
    """Yield what Ray's schema refuses, and what would be open, moving or sent by mistake."""
    try:
        prepared = prepare(content)
    except Exception as error:  # noqa: BLE001  jsonschema's, click's, KeyError, ValueError, ...
        yield Finding("the file", f"Ray refuses it ({_first_line(error)})", "Correct it")
        return
    yield from _check_images(prepared)
    for key in STARTS:
        yield from check_starts(key, prepared[key])
    yield from _check_other_commands(content, prepared)
    yield from _check_network(prepared)
    yield from _check_mounts(prepared)


def prepare(content: Mapping[str, Any]) -> dict[str, Any]:
    """Return the file as `ray up` would use it, Ray's defaults filled in.

    Raises:
        Exception: many kinds, with Ray's words; also from Ray's schema.
    """
    from ray.autoscaler._private.util import prepare_config, validate_config

    said = io.StringIO()
    try:
        with redirect_stdout(said), redirect_stderr(said):
            prepared: dict[str, Any] = prepare_config(copy.deepcopy(dict(content)))
            validate_config(prepared)
    except click.ClickException as error:  # Ray prints its reason and aborts without one
        raise ValueError(error.message or said.getvalue().strip()) from None
    return prepared


def _first_line(error: Exception) -> str:
    if isinstance(error, KeyError):
        return f"{error} is missing"
    return (str(error).strip() or type(error).__name__).splitlines()[0][:160]


def _check_images(prepared: Mapping[str, Any]) -> Iterator[Finding]:
    for where, image in _images(prepared):
        yield from check_image(where, image)


def _images(prepared: Mapping[str, Any]) -> Iterator[tuple[str, object]]:
    places = {"docker": prepared.get("docker") or {}}
    for name, node in prepared["available_node_types"].items():
        places[f"available_node_types.{name}.docker"] = node.get("docker") or {}
    for where, docker in places.items():
        for key in ("image", "head_image", "worker_image"):
            if docker.get(key):
                yield f"{where}.{key}", docker[key]


def _check_other_commands(
    content: Mapping[str, Any], prepared: Mapping[str, Any]
) -> Iterator[Finding]:
    """Yield what is wrong in what runs before Ray; Ray fills in the lists that the file lacks."""
    written = {str(line) for key in OTHERS for line in content.get(key) or ()}
    for key in OTHERS:
        for line in prepared[key]:
            yield from check_start(key, line)
            if line not in written:
                for found in (*check_text(line), *check_versions(line)):
                    yield Finding(f"{key}, which Ray fills in", found.problem, found.remedy)
    everything = [line for key in OTHERS for line in prepared[key]]
    everything += [str(image) for _, image in _images(prepared)]
    if not versions_of_ray("\n".join(everything)):
        problem = "no version of Ray is named"
        yield Finding("setup_commands", problem, "Install one: ray[tune]==X.Y.Z")


def _check_network(prepared: Mapping[str, Any]) -> Iterator[Finding]:
    """Yield if Ray would make the security group: it opens port 22 to the whole internet."""
    if prepared["provider"]["type"] != "aws":
        return
    for name, node in prepared["available_node_types"].items():
        settings = node.get("node_config") or {}
        if not {"SecurityGroupIds", "NetworkInterfaces"} & settings.keys():
            yield Finding(
                f"available_node_types.{name}.node_config",
                "SecurityGroupIds is missing; the group that Ray makes admits SSH from anywhere",
                "Name a group that admits your own network on port 22, and itself on every port",
            )


def _check_mounts(prepared: Mapping[str, Any]) -> Iterator[Finding]:
    mounts = {str(local): str(remote) for remote, local in prepared["file_mounts"].items()}
    for local in mounts:
        if any(part in local for part in _SENSITIVE):
            problem = f"{local} would be copied to every node"
            yield Finding("file_mounts", problem, "Give the nodes a role, or mount what they need")
    if mounts and KEYS not in prepared["rsync_exclude"]:
        problem = "patient keys must not be sent"
        yield Finding("rsync_exclude", problem, f'Add "{KEYS}"')
