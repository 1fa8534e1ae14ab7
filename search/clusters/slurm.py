"""A SLURM batch script that starts Ray on its nodes with `ray symmetric-run`."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator

import click

from search.clusters.findings import Finding
from search.clusters.ray_commands import (
    TOKEN,
    RayCommand,
    check_start,
    check_start_options,
    ray_commands,
)

# Set by symmetric-run itself, or refused by `ray start` on nodes that are not the head.
_REFUSED = (
    "--head",
    "--node-ip-address",
    "--port",
    "--block",
    "--include-dashboard",
    "--redis-shard-ports",
)
_SHELL_SECONDS = 10


def check_slurm(text: str) -> Iterator[Finding]:
    """Yield what a shell or Ray's parser refuses, and what other users of the nodes could reach."""
    if problem := _syntax_error(text):
        yield Finding("the script", f"it is no valid shell ({problem})", "Correct it")
        return
    directives = dict(re.findall(r"^#SBATCH +--([\w-]+)(?:=(\S+))?", text, re.MULTILINE))
    yield from check_start("the script", text)
    try:
        runs = [command for command in ray_commands(text) if command.name == "symmetric-run"]
    except ValueError:  # said above
        return
    if not runs:
        yield Finding("the script", "it never calls ray symmetric-run", "See clusters/slurm.sh")
    for run in runs:
        yield from _check_run(run)
    if directives.get("ntasks-per-node") != "1":
        problem = "--ntasks-per-node must be 1: one Ray a node"
        yield Finding("#SBATCH", problem, "Add #SBATCH --ntasks-per-node=1")
    if "exclusive" not in directives:
        problem = "--exclusive is missing: ray stop would end your other jobs' Ray on a node"
        yield Finding("#SBATCH", problem, "Add #SBATCH --exclusive")


def _syntax_error(text: str) -> str:
    """Return what bash says of the script without running it; nothing where there is no bash."""
    bash = shutil.which("bash")
    if bash is None:
        return ""
    checked = subprocess.run(  # noqa: S603  reads, never runs
        [bash, "-n"],
        input=text,
        capture_output=True,
        text=True,
        timeout=_SHELL_SECONDS,
        check=False,
    )
    return checked.stderr.strip().splitlines()[0] if checked.returncode else ""


def _check_run(run: RayCommand) -> Iterator[Finding]:
    from ray.scripts.symmetric_run import symmetric_run

    where, words = "ray symmetric-run", list(run.options)
    if TOKEN not in run.settings:
        problem = f"export {TOKEN} is missing before it"
        yield Finding(where, problem, "Without it any user of the nodes runs code as you")
    if "--" not in words:
        yield Finding(where, "-- must stand between its options and the command", "Add it")
        return
    # What the shell fills in is unknown here; a number suits every option.
    known = [re.sub(r"\$(\w+|\{[^}]*\})", "2", word) for word in words[: words.index("--")]]
    try:
        with symmetric_run.make_context(where, known) as found:
            options = list(found.params["ray_args_and_entrypoint"])
    except click.ClickException as error:
        yield Finding(where, f"Ray refuses it ({error.format_message()})", "Correct it")
        return
    refused = [option for option in options if option.split("=")[0] in _REFUSED]
    if refused:
        yield Finding(where, f"{refused[0]} cannot be given to all nodes", "Remove it")
        return
    yield from check_start_options(where, options)
