"""The command, held by its own work at a moment that a test names, until the test lets go.

``HELD`` is that moment: ``bank`` after the first part of a bank, ``retrain`` after the first of the
final models, or a number of epochs in trials.jsonl. Work that is held leaves ``held`` beside its
run directory, and goes on when ``go`` is there. Slots inherit ``HELD`` and import this module, too.
The epochs that trials compute are noted in ``computed``.
"""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import Any

from patience import until

import analysis.choose.retrain
import search.run
import trainable.problem

fill, train, open_real = (
    trainable.problem.fill_part,
    analysis.choose.retrain.train_models,
    trainable.problem.open_problem,
)


def hold(run_root: str) -> None:
    folder = Path(run_root).parent
    (folder / "held").touch()
    until((folder / "go").exists)


def fill_part(run_root: str, device: str, part: Any) -> int:
    images = fill(run_root, device, part)
    hold(run_root)
    return images


def train_models(root: str, *more: Any) -> dict[str, Any]:
    found = train(root, *more)
    hold(root)
    return found


class CrossValidation:
    """The real one, which may wait before an epoch, and notes it."""

    def __init__(self, run_root: str, real: Any) -> None:
        self.run_root, self.real = run_root, real
        self.save, self.restore, self.close = real.save, real.restore, real.close

    def advance(self, beat: Any) -> Any:
        log = Path(self.run_root, "trials.jsonl").read_text()
        if log.count('"event": "epoch"') >= int(os.environ["HELD"]):
            hold(self.run_root)
        report = self.real.advance(beat)
        with (Path(self.run_root).parent / "computed").open("a") as file:
            file.write(f"{report.epoch}\n")
        return report


class Problem:
    """The real one, with such cross-validations."""

    def __init__(self, run_root: str, device: str) -> None:
        self.run_root, self.real = run_root, open_real(run_root, device)
        self.folds = self.real.folds

    def cross_validation(self, configuration: Any) -> CrossValidation:
        return CrossValidation(self.run_root, self.real.cross_validation(configuration))


def main() -> None:
    """Run the command line."""
    moment = os.environ["HELD"]
    if moment == "bank":
        trainable.problem.fill_part = fill_part
    elif moment == "retrain":
        analysis.choose.retrain.train_models = train_models
    else:
        search.run.search = partial(search.run.search, opener="held:Problem")
    from polartune.__main__ import main as command

    command()
