"""A finished run's model as a folder to hand on: weights, their description and a model card."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from analysis.use.model_card import CARD, describe_model
from spaces.errors import InputError
from spaces.run_files import RunFiles, replacing, write_text
from trainable.familiarity import FILE as FAMILIARITY
from trainable.model import ABOUT, WEIGHTS, load_model
from trainable.onnx_model import FILE as ONNX
from trainable.onnx_model import check_packages, write_onnx


@dataclass(frozen=True)
class Exported:
    """What was written.

    Attributes:
        folder: where; ``polartune predict`` takes it as MODEL.
        files: their names.
        difference: largest difference between the ONNX file and the network; None without one.
    """

    folder: Path
    files: tuple[str, ...]
    difference: float | None


def export(run: RunFiles, folder: Path, *, onnx: bool) -> Exported:
    """Write the model of a run and its card into a folder that holds nothing of any patient.

    It lies outside ``model/``, whose files were frozen before the test set was opened.

    Args:
        run: with a trained model; the card says so if it was not judged yet.
        folder: is created; files of an earlier export are replaced, each whole or not at all.
        onnx: whether to write ``model.onnx`` too.

    Raises:
        InputError: there is no model, the folder is the run's own model/, or the packages of the
            extra ``onnx`` are not installed.
        RefusedError: weights or ONNX file are not what they should be.
    """
    if not (run.model / ABOUT).is_file():
        raise InputError(str(run.root), "holds no trained model", "Retrain first")
    if folder.resolve() == run.model.resolve():
        raise InputError(str(folder), "must be another folder than the run's own", "Name another")
    if onnx:
        check_packages()
    model = load_model(run.model)
    folder.mkdir(parents=True, exist_ok=True)
    names = [name for name in (ABOUT, WEIGHTS, FAMILIARITY) if (run.model / name).is_file()]
    for name in names:
        with replacing(folder / name) as partial:
            shutil.copyfile(run.model / name, partial)
    difference = write_onnx(model, folder / ONNX) if onnx else None
    write_text(folder / CARD, describe_model(run, difference))
    return Exported(folder, (*names, *([ONNX] if onnx else []), CARD), difference)
