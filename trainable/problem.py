"""What every trial of a study shares: patients, folds, trunk, bank and the untrained head."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from cohort.split import read_split
from cohort.table import Cohort, read_cohort
from spaces.bank_files import bank_folder
from spaces.parameters import Configuration
from spaces.run_files import RunFiles
from spaces.study import Study, read_study
from trainable.augment import draw_views
from trainable.bank import Bank, Part
from trainable.calibration import calibrate
from trainable.features import Columns
from trainable.frozen import Frozen, Maps
from trainable.lockstep import CrossValidation, Fold, FoldTraining, Labels, cross_validation_folds
from trainable.network import PolarNetwork, build_network, with_weights
from trainable.numerics import Numerics, precision_of
from trainable.seeds import torch_generator
from trainable.transfer import FirstStep


@lru_cache(maxsize=1)
def open_problem(run_root: str, device: str) -> Problem:
    """Return the problem of a run directory, opened once in each process.

    Args:
        run_root: the run directory, with study.yaml and split.json.
        device: ``cpu`` or ``cuda``.
    """
    run = RunFiles(Path(run_root))
    study = read_study(run.study)
    torch.set_num_threads(study.resources.cpus_per_trial)
    if device == "cuda" and study.resources.gpus_per_trial < 1:
        # Ray's share of a GPU is bookkeeping; this makes one trial unable to starve another.
        torch.cuda.set_per_process_memory_fraction(study.resources.gpus_per_trial)
    split = read_split(run.split)
    cohort = read_cohort(study, run.root, split=split, verify_images=False)
    problem = Problem(study, cohort, run.root, device)
    problem.numerics.refuse_others_than(run)
    return problem


def missing_parts(run_root: str, device: str) -> list[Part]:
    """Return the parts of the banks that the run's trials will read and that are not there yet.

    The first to ask writes network.json, to which every later slot is held.

    Raises:
        InputError: the disk cannot hold them.
    """
    run, problem = RunFiles(Path(run_root)), open_problem(run_root, device)
    problem.numerics.keep(run)
    return problem.missing_parts()


def fill_part(run_root: str, device: str, part: Part) -> int:
    """Compute one part of a bank; return the images passed through its trunk."""
    return open_problem(run_root, device).fill_part(part)


class Problem:
    """A study's development patients and everything that its trials have in common.

    Attributes:
        study: the settings.
        labels: targets and segment values of the development patients.
        folds: (n,) the fold that validates each patient.
        device: where to compute.
    """

    def __init__(self, study: Study, cohort: Cohort, folder: Path, device: str) -> None:
        self.study = study
        self.device = device
        self.folds = cohort.split.folds
        self._split_sha256 = cohort.split.sha256
        patients = cohort.development
        self.labels = Labels(patients.target, patients.segments)
        self.dtype = precision_of(study.network, device)
        self._folder = folder
        self._bank_folder = bank_folder(study.bank, folder, cohort.folder)
        inputs, is_widened = study.cohort.inputs, study.cohort.is_widened
        maps = [patients.images[name] for name in inputs]
        groups = [maps] if is_widened else [[files] for files in maps]
        self._maps = Maps(
            Columns(tuple(tuple(group) for group in groups), study.network.image_size),
            ("+".join(inputs),) if is_widened else tuple(inputs),
            draw_views(patients.ids, study.augmentation),
        )

    @cached_property
    def network(self) -> PolarNetwork:
        """The network with the backbone's weights, on the CPU in float32."""
        section, cohort = self.study.network, self.study.cohort
        network = build_network(
            section,
            maps=len(cohort.inputs),
            stack=cohort.stack,
            folder=self._folder,
            generator=torch_generator(self.study.seed, 0, "backbone"),
        )
        if section.weights == "random":
            calibrate(network, self.study, self._bank_folder)
        return network

    @cached_property
    def frozen(self) -> tuple[Frozen, ...]:
        """What stays frozen: one for all folds, or one for each and one for the final model.

        The second where the folds start from models that trained layers which are frozen here.
        """
        first = self.first_step
        if first is None or not first.study.network.trains_deeper_than(self.study.network):
            return (self._freeze(self.network, 0),)
        starts = [*map(first.fold, range(self._final)), first.development()]
        networks = [with_weights(self.network, start) for start in starts]
        return tuple(self._freeze(network, number) for number, network in enumerate(networks))

    def frozen_of(self, fold: Fold) -> Frozen:
        """Return what stays frozen while ``fold`` trains."""
        return self.frozen[min(fold.number, len(self.frozen) - 1)]

    def _freeze(self, network: PolarNetwork, number: int) -> Frozen:
        return Frozen(
            network,
            self.study,
            self._maps,
            dtype=self.dtype,
            device=self.device,
            bank_folder=self._bank_folder,
            number=number,
        )

    @property
    def _final(self) -> int:
        """Number of the fold that trains on everybody."""
        return int(self.folds.max()) + 1

    @property
    def columns(self) -> int:
        """How many images of a patient pass the trunk: one a map, or one of all maps."""
        return len(self._maps.columns.paths)

    def cross_validation(self, configuration: Configuration) -> CrossValidation:
        """Return the untrained folds of one configuration."""
        folds = cross_validation_folds(self.folds)
        return CrossValidation([self._training(fold, configuration) for fold in folds], self.labels)

    def development_training(
        self, configuration: Configuration, *, repeat: int = 0
    ) -> CrossValidation:
        """Return the untrained model of the whole development set, as a loop of one fold.

        Args:
            configuration: to train with.
            repeat: 0 is the model; any other number draws other starting weights of the
                classifier, and another order of the patients.
        """
        everyone = np.arange(len(self.folds))
        fold = Fold(self._final + repeat, everyone, everyone[:0])
        return CrossValidation([self._training(fold, configuration)], self.labels)

    def trained_state(self, training: FoldTraining) -> dict[str, Tensor]:
        """Return the whole network's weights with the trained ones put in, torchvision's names."""
        network = self.frozen_of(training.fold).network
        return with_weights(network, training.head.trained()).torchvision_state()

    @cached_property
    def first_step(self) -> FirstStep | None:
        """The run that the folds start from; None if they start from the backbone's weights."""
        if self.study.transfer is None:
            return None
        return FirstStep.of(
            self.study, self._folder, split_sha256=self._split_sha256, network=self.network
        )

    @property
    def numerics(self) -> Numerics:
        """What scores depend on that is settled where a trial runs, not in its study."""
        digests = [frozen.trunk_sha256 for frozen in self.frozen]
        together = hashlib.sha256(" ".join(digests).encode()).hexdigest()
        trunks = digests[0] if len(digests) == 1 else together
        return Numerics(trunks, str(self.dtype).removeprefix("torch."))

    def check_weights(self) -> None:
        """Make sure that every starting weight can be had.

        Raises:
            InputError: the backbone's weights or the run to transfer from are missing.
            RefusedError: they are others than the study says.
        """
        _ = self.network
        _ = self.first_step

    def parts(self) -> list[Part]:
        """Return every part of the banks that the study's trials read."""
        strengths = self.study.space.strengths()
        banks = [frozen.bank for frozen in self.frozen]
        return [part for bank in banks if bank for part in bank.parts(strengths)]

    def check_disk(self) -> None:
        """Make sure that the disk can hold what the banks lack, by their files' names alone.

        Raises:
            InputError: it cannot.
        """
        self._check_disk([part for part in self.parts() if not self._bank(part).exists(part)])

    def missing_parts(self) -> list[Part]:
        """Return the parts that are absent or damaged.

        Raises:
            InputError: the disk cannot hold them.
        """
        found = [part for part in self.parts() if not self._bank(part).is_whole(part)]
        self._check_disk(found)
        return found

    def fill_part(self, part: Part) -> int:
        """Compute one part of a bank; return the images passed through its trunk."""
        return self._bank(part).fill(part, self.frozen[part.trunk].extractor)

    def _check_disk(self, parts: Sequence[Part]) -> None:
        if parts:
            self._bank(parts[0]).check_disk(parts, self.frozen[0].bytes_an_image)

    def _bank(self, part: Part) -> Bank:
        bank = self.frozen[part.trunk].bank
        assert bank is not None
        return bank

    def _training(self, fold: Fold, configuration: Configuration) -> FoldTraining:
        frozen = self.frozen_of(fold)
        return FoldTraining(
            fold,
            frozen.head,
            self.labels,
            configuration,
            self.study.training,
            features=frozen.features,
            seed=self.study.seed,
            views=self.study.augmentation.views,
            device=self.device,
            start=self._start(fold),
        )

    def _start(self, fold: Fold) -> Mapping[str, Tensor] | None:
        """Return the weights that the head begins with; None for the backbone's."""
        first = self.first_step
        if first is None:
            return None
        # What the first step left frozen still has the backbone's weights.
        own = self.frozen_of(fold).network.state_dict()
        return own | dict(first.fold(fold.number) if len(fold.validation) else first.development())
