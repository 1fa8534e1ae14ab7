"""Commands about files on disk: feature banks, phantom cohorts, public data sets, clusters."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from polartune.steps import progress_bar, say
from spaces import errors
from spaces.storage import refuse_overwriting

imports = typer.Typer(
    help="Bring a public data set into the form of a cohort.", no_args_is_help=True
)
banks = typer.Typer(help="List and remove feature banks on disk.", no_args_is_help=True)
BanksFolder = Annotated[
    Path, typer.Argument(metavar="FOLDER", help="A folder of banks, or a cohort's folder.")
]


@banks.command("list")
def bank_list_command(folder: BanksFolder) -> None:
    """List feature banks: map, network, strength, size, last use, whole or partial."""
    from spaces.bank_files import find_banks, in_words, read_banks, show_banks

    found = read_banks(find_banks(folder))
    show_banks(found, Console())
    total = in_words(sum(bank.size for bank in found))
    say(f"{len(found)} banks, {total}")


@banks.command("prune")
def bank_prune_command(
    folder: BanksFolder,
    unused_for: Annotated[
        float, typer.Option(min=0.0, metavar="DAYS", help="Remove what no run used for so long.")
    ] = 30.0,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Remove feature banks that no run has used for some days, after asking.

    A run that needs one again computes it again. Refused while a run works with
    these banks. Files that a dead process left unfinished go too, after an hour.
    """
    from spaces.bank_files import find_banks, in_words, removable, remove, show_banks

    console, root = Console(), find_banks(folder)
    found = removable(root, unused_for)
    if not found.banks and not found.leftovers:
        console.print(f"Nothing to remove: no bank is unused for {unused_for:g} days.")
        return
    if found.banks:
        show_banks(found.banks, console)
    what = f"{len(found.banks)} banks and {len(found.leftovers)} unfinished files"
    if not yes and not typer.confirm(f"Remove {what}, {in_words(found.size)}?"):
        console.print("Nothing was removed.")
        return
    console.print(f"Freed {in_words(remove(root, found, unused_for))}.", highlight=False)


def phantom_command(
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Folder to write.")],
    patients: Annotated[int, typer.Option(min=1, help="How many to draw.")] = 944,
    seed: Annotated[int, typer.Option(min=0, help="Patient i of a seed is always the same.")] = 0,
    maps: Annotated[
        list[str], typer.Option("--map", help="A map to draw; give it again for more.")
    ] = ["rest", "stress", "reserve"],  # noqa: B006  typer never changes it
    ceiling: Annotated[
        bool,
        typer.Option(
            "--ceiling",
            help="Also measure what a model could reach at best, on 100,000 more patients; this "
            "takes minutes.",
        ),
    ] = False,
) -> None:
    """Draw a cohort of invented patients whose truth is known (truth.json)."""
    from cohort.drawing.phantom import draw_phantom

    refuse_overwriting(out / "cohort.csv", "Give another folder")
    with progress_bar(Console()) as progress:
        task = progress.add_task("drawing patients", total=patients)

        def advance(done: int, total: int) -> None:
            progress.update(task, completed=done)
            if ceiling and done == total:
                progress.add_task("measuring what any model could reach", total=None)

        table = draw_phantom(
            out,
            patients=patients,
            seed=seed,
            inputs=maps,
            ceiling=ceiling,
            progress=advance,
        )
    say(f"Wrote {table}")


@imports.command("spectf")
def spectf_command(
    source: Annotated[
        Path, typer.Argument(metavar="SRC", help="Folder with SPECTF.train and SPECTF.test.")
    ],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Folder to write.")],
) -> None:
    """Draw rest and stress maps of the 267 patients of UCI's SPECTF Heart data set.

    The files are published as UCI Machine Learning Repository no. 96 (CC BY 4.0).
    """
    from cohort.drawing.spectf import import_spectf

    refuse_overwriting(out / "cohort.csv", "Give another folder")
    say(f"Wrote {import_spectf(source, out)}")


def check_cluster_command(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="For ray up, KubeRay or SLURM; see clusters/.")
    ],
) -> None:
    """Say what is wrong with a cluster file before it starts machines.

    Ray's own checks, then ours: what is still to fill in, dashboards and ports
    that others could reach, a missing token mode, images and wheels that change
    by themselves, secrets in the file. Starts nothing and needs no network.
    """
    from search.clusters.check import check_cluster

    kind, findings = check_cluster(file)
    for finding in findings:
        sys.stderr.write(f"polartune: {file.name}: {finding}\n")
    if findings:
        raise typer.Exit(errors.BAD_INPUT)
    say(f"{file}: nothing found that is wrong ({kind})")
