"""Commands that use a trained model: on new maps, or to hand it on."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from polartune.steps import say
from spaces.storage import refuse_overwriting


def predict_command(
    model: Annotated[
        Path, typer.Argument(metavar="MODEL", help="A run directory, or its model/ folder.")
    ],
    maps: Annotated[
        list[Path],
        typer.Argument(metavar="MAPS...", help="Image files, or one table (CSV) of their paths."),
    ],
    out: Annotated[
        Path, typer.Option("--out", "-o", help="Table to write (CSV); a new file.")
    ] = Path("predictions.csv"),
) -> None:
    """Say what a trained model sees in new polar maps.

    One row a patient: probability, the 17 segment values, and a warning where the
    maps are unlike those of development. Research only: no diagnosis.
    """
    from analysis.use.predict import find_model, predict, read_request, write_predictions
    from spaces.run_files import read_json

    refuse_overwriting(out, "Name another file with --out, or move it away")
    folder = find_model(model)
    info = read_json(folder / "model.json", "model")
    frame = predict(folder, read_request(maps, info["inputs"]))
    write_predictions(out, frame)
    unfamiliar = int((frame["distance"] > 1).sum())
    console = Console()
    say(f"Wrote {out}: {len(frame)} patients.")
    if "probability" not in frame:
        said = "no probability: with lambda = 0 the model learnt the segment values alone"
        console.print(f"[yellow]warning[/] {said}", soft_wrap=True, highlight=False)
    if unfamiliar:
        console.print(
            f"[yellow]warning[/] {unfamiliar} of {len(frame)} are unlike the development patients"
        )


def export_command(
    folder: Annotated[Path, typer.Argument(metavar="RUN", help="A run directory: runs/NAME.")],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Folder to write; RUN/export if not given.")
    ] = None,
    onnx: Annotated[bool, typer.Option("--onnx", help="Also write model.onnx.")] = False,
) -> None:
    """Write a trained model as a folder to hand on, with a model card.

    It holds nothing of any patient, and predict takes it as MODEL. An ONNX file
    is compared with the network before it is kept.
    """
    from analysis.use.export import export
    from spaces.run_files import RunFiles

    exported = export(RunFiles(folder), out or folder / "export", onnx=onnx)
    say(f"Wrote {exported.folder}: {', '.join(exported.files)}.")
    if exported.difference is not None:
        say(f"ONNX file and network differ by at most {exported.difference:.1e}.")
