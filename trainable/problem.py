"""What every trial of a study shares: patients, folds, trunk, bank and the untrained head."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Mapping
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from cohort.reading.images import digest_files
from cohort.split import read_split
from cohort.table import Cohort, read_cohort
from spaces.bank_files import bank_folder
from spaces.environment import version_of
from spaces.parameters import Configuration
from spaces.run_files import RunFiles
from spaces.study import Study, read_study
from trainable.augment import draw_views
from trainable.bank import Bank, BankedFeatures, Part
from trainable.calibration import calibrate
from trainable.cut import Trunk
from trainable.features import Columns, ComputedFeatures, Extractor, Features, Outputs
from trainable.head import Head, split_network
from trainable.lockstep import CrossValidation, Fold, FoldTraining, Labels, cross_validation_folds
from trainable.network import PolarNetwork, build_network
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
    """Return the parts of the bank that the run's trials will read and that are not there yet.

    The first to ask writes network.json, to which every later slot is held.

    Raises:
        InputError: the disk cannot hold them.
    """
    run, problem = RunFiles(Path(run_root)), open_problem(run_root, device)
    problem.numerics.keep(run)
    if problem.bank is None:
        return []
    parts = problem.bank.missing(problem.study.space.strengths())
    if parts:
        problem.bank.check_disk(parts, problem.bytes_an_image)
    return parts


def fill_part(run_root: str, device: str, part: Part) -> int:
    """Compute one part of the bank; return the images passed through the trunk."""
    problem = open_problem(run_root, device)
    assert problem.bank is not None
    return problem.bank.fill(part, problem.extractor)


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
        self._drawn = draw_views(patients.ids, study.augmentation)
        maps = [patients.images[name] for name in study.cohort.inputs]
        groups = [maps] if self.is_widened else [[files] for files in maps]
        self._columns = Columns(tuple(tuple(group) for group in groups), study.network.image_size)

    @property
    def is_widened(self) -> bool:
        """Whether the first convolution sees several maps, and therefore trains."""
        return self.study.cohort.stack == "early" and len(self.study.cohort.inputs) > 1

    @cached_property
    def network(self) -> PolarNetwork:
        """The network with its starting weights, on the CPU in float32."""
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
    def _halves(self) -> tuple[Trunk | None, Head]:
        layers = self.study.network.trainable_layers
        trunk, head = split_network(self.network, layers, widened=self.is_widened, dtype=self.dtype)
        return (None if trunk is None else trunk.to(self.device).eval()), head

    @cached_property
    def trunk_sha256(self) -> str:
        """Digest of the trunk's operations and weights; of nothing when the trunk is empty."""
        digest = hashlib.sha256()
        trunk = self._halves[0]
        if trunk is not None:
            digest.update(repr(trunk).encode() + trunk.body.code.encode())
            for name, value in sorted(trunk.state_dict().items()):
                digest.update(name.encode())
                digest.update(value.detach().to("cpu", torch.float32).numpy().tobytes())
        return digest.hexdigest()

    @property
    def extractor(self) -> Extractor:
        """Turns images into trunk outputs."""
        return Extractor(
            self._halves[0],
            self.study.network.backbone,
            self.study.augmentation,
            self.dtype,
            self.device,
        )

    @cached_property
    def bank(self) -> Bank | None:
        """The feature bank; None when it is off or the trunk is empty."""
        if self.study.bank.mode == "off" or self._halves[0] is None:
            return None
        shared = {
            "backbone": self.study.network.backbone,
            "image_size": self.study.network.image_size,
            "trunk": self.trunk_sha256,
            "dtype": str(self.dtype),
            "device": self.device,
            "torch": torch.__version__,
            "torchvision": version_of("torchvision"),
        }
        keys = tuple(shared | {"images": digest_files(group[0])} for group in self._columns.paths)
        limits = self.study.augmentation.model_dump(mode="json")
        inputs = self.study.cohort.inputs
        names = ("+".join(inputs),) if self.is_widened else tuple(inputs)
        return Bank(self._bank_folder, keys, self._drawn, limits, self._columns, names)

    @property
    def bytes_an_image(self) -> int:
        """Bytes that one image and view takes in the bank."""
        return sum(output.numel() * output.element_size() for output in self.blank_outputs(1))

    @property
    def columns(self) -> int:
        """How many images of a patient pass the trunk: one a map, or one of all maps."""
        return len(self._columns.paths)

    @property
    def has_trunk(self) -> bool:
        """Whether any layer is frozen."""
        return self._halves[0] is not None

    def blank_outputs(self, images: int) -> Outputs:
        """Return the trunk's outputs for black images."""
        size, maps = self.study.network.image_size, len(self._columns.paths[0])
        blank = np.zeros((images, 3 * maps, size, size), dtype=np.uint8)
        return self.extractor.extract(blank, np.zeros((images, 3)), 0.0)

    @cached_property
    def features(self) -> Features:
        """The trunk outputs, from the bank or computed."""
        if self.bank is not None:
            return BankedFeatures(self.bank, self.device)
        return ComputedFeatures(self._columns, self._drawn, lambda: self.extractor)

    def cross_validation(self, configuration: Configuration) -> CrossValidation:
        """Return the untrained folds of one configuration."""
        folds = cross_validation_folds(self.folds)
        return CrossValidation(
            [self._training(fold, configuration) for fold in folds], self.features, self.labels
        )

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
        number = int(self.folds.max()) + 1 + repeat
        fold = Fold(number, everyone, everyone[:0])
        return CrossValidation([self._training(fold, configuration)], self.features, self.labels)

    def trained_state(self, head: Head) -> dict[str, Tensor]:
        """Return the whole network's weights with those of ``head`` put in, torchvision's names."""
        network = self.network
        state = {name: value.detach().clone() for name, value in network.state_dict().items()}
        state |= {name: value.cpu() for name, value in head.trained().items()}
        filled = copy.deepcopy(network)
        filled.load_state_dict(state)
        return filled.torchvision_state()

    @cached_property
    def first_step(self) -> FirstStep | None:
        """The run that the folds start from; None if they start from the backbone's weights."""
        if self.study.transfer is None:
            return None
        return FirstStep.of(
            self.study,
            self._folder,
            split_sha256=self._split_sha256,
            trunk_sha256=self.trunk_sha256,
        )

    @property
    def numerics(self) -> Numerics:
        """What scores depend on that is settled where a trial runs, not in its study."""
        return Numerics(self.trunk_sha256, str(self.dtype).removeprefix("torch."))

    def check_weights(self) -> None:
        """Make sure that every starting weight can be had.

        Raises:
            InputError: the backbone's weights or the run to transfer from are missing.
            RefusedError: they are others than the study says.
        """
        _ = self.network
        _ = self.first_step

    def check_disk(self) -> None:
        """Make sure that the disk can hold what the bank lacks, by its files' names alone.

        Raises:
            InputError: it cannot.
        """
        parts = [] if self.bank is None else self.bank.absent(self.study.space.strengths())
        if self.bank is not None and parts:
            self.bank.check_disk(parts, self.bytes_an_image)

    def _start(self, fold: Fold) -> Mapping[str, Tensor] | None:
        if self.first_step is None:
            return None
        if len(fold.validation):
            return self.first_step.fold(fold.number)
        return self.first_step.development(self._halves[1])

    def _training(self, fold: Fold, configuration: Configuration) -> FoldTraining:
        return FoldTraining(
            fold,
            self._halves[1],
            self.labels,
            configuration,
            self.study.training,
            seed=self.study.seed,
            views=self.study.augmentation.views,
            device=self.device,
            start=self._start(fold),
        )
