"""What a study would cost and how sharp its answer would be, before anything runs."""

from __future__ import annotations

import math
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from scipy.stats import norm

from analysis.judge.attention import COVERED
from analysis.judge.pointing import phantoms_shown
from cohort.segments import SEGMENTS
from cohort.table import Cohort
from spaces.bank_files import bank_folder
from spaces.sections import BankSection
from spaces.study import Study
from trainable.attention import squares
from trainable.problem import Problem
from trainable.speed import FORWARD_AND_BACKWARD, measure_rates

ASSUMED_AUC = 0.8
START_SECONDS = 30.0


@dataclass(frozen=True)
class Size:
    """What a study asks for, by its file and its cohort alone.

    Attributes:
        trials: configurations to try; 1 when the space is fixed.
        trainings: trials x folds.
        epochs: epochs of a fold in all, at most (the scheduler stops trials earlier).
        slots: trials at a time on this computer's CPU.
        cores: of each trial.
        half_width: of the test AUC's interval, were the AUC ``ASSUMED_AUC``; nan where less than
            one test patient of a class is expected.
    """

    trials: int
    trainings: int
    epochs: int
    slots: int
    cores: int
    half_width: float

    @classmethod
    def of(cls, study: Study, cohort: Cohort) -> Size:
        """Return the size of a study of a cohort."""
        trials = 1 if study.is_fixed else study.search.trials
        trainings = trials * study.cohort.split.folds
        slots = study.resources.slots
        prevalence = float(np.nanmean(cohort.development.target))
        return cls(
            trials=trials,
            trainings=trainings,
            epochs=trainings * study.training.epochs,
            slots=_fitting(study) if slots == "auto" else slots,
            cores=study.resources.cpus_per_trial,
            half_width=half_width(ASSUMED_AUC, cohort.test_size, prevalence, study),
        )


@dataclass(frozen=True)
class Computing:
    """Computing to be done.

    Attributes:
        seconds: of one trial's CPU cores here.
        operations: floating-point operations, products alone.
    """

    seconds: float
    operations: float

    def __add__(self, other: Computing) -> Computing:
        """Return both together."""
        return Computing(self.seconds + other.seconds, self.operations + other.operations)

    def __mul__(self, times: int) -> Computing:
        """Return it done several times."""
        return Computing(times * self.seconds, times * self.operations)


@dataclass(frozen=True)
class Forecast:
    """What a study would take here, at most, as measured with its network.

    Attributes:
        size: what it asks for.
        images: images and views that pass the frozen layers once.
        bank_bytes: disk for what they yield; 0 without a bank.
        free_bytes: free disk where the bank would lie.
        filling: of the bank.
        training: and all else; without a bank, everything.
        at_a_time: trials that this computer's CPU computes.
    """

    size: Size
    images: int
    bank_bytes: int
    free_bytes: int
    filling: Computing
    training: Computing
    at_a_time: int

    @property
    def seconds(self) -> float:
        """From the command to the end on this computer's CPU."""
        return START_SECONDS + (self.filling + self.training).seconds / self.at_a_time


def forecast(study: Study, cohort: Cohort, folder: Path, *, trunks: int = 1) -> Forecast:
    """Return what a study would cost; changes nothing.

    Reads the weights, and measures for a second or two how fast black images are computed.

    Args:
        study: a first step that it starts from must have been run.
        cohort: its patients.
        folder: what its paths are relative to.
        trunks: for how many trunks banks are to be filled, beyond what the study says itself.

    Raises:
        InputError: the network's weights, or the run that it starts from, cannot be had.
    """
    with TemporaryDirectory() as scratch:  # where a random trunk would keep what it measured
        elsewhere = study.model_copy(
            update={"bank": BankSection(mode=study.bank.mode, path=scratch)}
        )
        problem = Problem(elsewhere, cohort, folder, "cpu")
        size = Size.of(study, cohort)
        parts = problem.parts()
        images = trunks * sum(part.images for part in parts)
        rates = measure_rates(problem)
        passed, trained = _later_work(problem, size.trials, cohort)
        through_trunk, through_head = rates.trunk_operations, rates.head_operations
        return Forecast(
            size=size,
            images=images,
            bank_bytes=images * problem.frozen[0].bytes_an_image if parts else 0,
            free_bytes=_free_bytes(bank_folder(study.bank, folder, cohort.folder)),
            filling=Computing(images / rates.trunk, images * through_trunk),
            training=Computing(
                passed / rates.trunk + trained / rates.head,
                passed * through_trunk + trained * through_head,
            ),
            at_a_time=min(size.slots, _fitting(study)),
        )


def _fitting(study: Study) -> int:
    """Return how many trials this computer's cores can compute at a time."""
    return max(1, (os.cpu_count() or 1) // study.resources.cpus_per_trial)


def _free_bytes(folder: Path) -> int:
    """Return what the disk has left on which a folder lies, or would lie."""
    there = next(path for path in (folder, *folder.resolve().parents) if path.exists())
    return shutil.disk_usage(there).free


def _later_work(problem: Problem, trials: int, cohort: Cohort) -> tuple[float, float]:
    """Return images through the frozen layers beside the bank's, and samples trained behind them.

    A sample that is validated counts as the share of a trained one that it costs.
    """
    study, patients, shares = problem.study, len(cohort.development), 1 / FORWARD_AND_BACKWARD
    folds, seeds = study.cohort.split.folds, study.evaluation.seeds
    # The chosen configuration is cross-validated once more, then trained on everybody.
    validated, everybody = trials + 1, seeds
    # A fold trains on all patients but its own, and validates those without a backward pass.
    passes = validated * (folds - 1 + shares) + everybody
    samples = patients * study.training.epochs
    # Without a bank every sample passes the trunk whenever it is trained or validated.
    images = 0
    if problem.frozen[0].bank is None:
        images = samples * (validated * folds + everybody) * problem.columns
    looked = _looked_at(study, cohort)
    return images + looked * problem.columns, samples * passes + looked * shares


def _looked_at(study: Study, cohort: Cohort) -> int:
    """Return how many patients' maps pass the network to show where it looks.

    Grad-CAM, with its random heads at most two passes; of each class a shown patient under two
    kinds of square, and some with one segment after the other covered.
    """
    if not study.evaluation.attention:
        return 0
    explained = cohort.test_size + phantoms_shown(study, cohort)
    covered = min(2 * COVERED, cohort.test_size) * (SEGMENTS + 1)
    return 2 * explained + 2 * 2 * squares(study.network.image_size) + covered


def half_width(auc: float, patients: int, prevalence: float, study: Study) -> float:
    """Return half the width of an AUC's confidence interval (Hanley and McNeil 1982).

    nan where less than one patient of a class is expected.
    Source: doi:10.1148/radiology.143.1.7063747.
    """
    positive = round(patients * prevalence)
    negative = patients - positive
    if not positive or not negative:
        return math.nan
    both_positive, both_negative = auc / (2 - auc), 2 * auc**2 / (1 + auc)
    variance = (
        auc * (1 - auc)
        + (positive - 1) * (both_positive - auc**2)
        + (negative - 1) * (both_negative - auc**2)
    ) / (positive * negative)
    return float(norm.ppf((1 + study.evaluation.confidence) / 2)) * math.sqrt(variance)
