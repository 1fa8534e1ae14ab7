"""The one study that all three run: its patients, folds, configurations and starting weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import save_file

from cohort.drawing.phantom import draw_phantom
from cohort.enrolment import enrol, record
from spaces.parameters import Configuration
from spaces.run_files import RunFiles, sha256_of
from spaces.study import Study
from spaces.trial_log import TrialLog
from trainable.calibration import calibrate
from trainable.network import build_network
from trainable.seeds import torch_generator

CORES = 2
LITE, RESNET = "efficientnet_lite0", "resnet50"
NAMES: Mapping[str, str] = {LITE: "Lite0", RESNET: "ResNet-50"}
# Trials differ in every parameter, and all augment, so that no peer may skip that work.
CONFIGURATIONS = (
    Configuration(0.5, 1e-3, 1e-2, 0.5),
    Configuration(0.8, 3e-3, 1e-3, 1.0),
    Configuration(0.3, 1e-3, 1e-4, 0.5),
    Configuration(1.0, 3e-4, 1e-2, 1.0),
)
TEST_PATIENTS = 8  # a study must have a test set; nobody reads it here


@dataclass(frozen=True)
class Sizes:
    """How much is measured.

    Attributes:
        pixels: edge of the network's input.
        patients: development patients, by backbone.
        repeats: of each compared run.
        trials: of a compared run.
        epochs: of a compared run of a peer.
        our_epochs: of ours; more, since its epochs are short. AUCs are compared over ``epochs``.
        line_trials: of the run that checks that a peer's time is a line.
        line_epochs: likewise.
        line_patients: likewise; others than the line was drawn through, since it is also taken
            to another number of patients.
        bare_seconds: of each bare loop.
        layouts: trials at a time among which the tuned peer chooses, fewest last.
        whole_trials: of the search from the command line to its end.
        whole_epochs: likewise.
        whole_repeats: at most, while there is time.
        whole_patients: phantoms, if SPECTF is not at hand.
        minutes: no further repeat begins that would end later than this.
    """

    pixels: int = 224
    patients: tuple[tuple[str, int], ...] = ((LITE, 64), (RESNET, 32))
    repeats: int = 3
    trials: int = 2
    epochs: int = 3
    our_epochs: int = 30
    line_trials: int = 4
    line_epochs: int = 5
    line_patients: int = 32
    bare_seconds: float = 4.0
    layouts: tuple[int, ...] = (CORES, 1)
    whole_trials: int = 16
    whole_epochs: int = 10
    whole_repeats: int = 3
    whole_patients: int = 267
    minutes: float = 24.0


MEASURED = Sizes()
QUICK = Sizes(
    pixels=32,
    patients=((LITE, 32),),
    repeats=1,
    epochs=2,
    our_epochs=3,
    line_trials=0,
    bare_seconds=0.1,
    layouts=(CORES,),
    whole_trials=2,
    whole_epochs=2,
    whole_repeats=1,
    whole_patients=40,
    minutes=1.0,
)


@dataclass(frozen=True)
class Workload:
    """A cohort on disk and the network that learns from it.

    Attributes:
        folder: holds the runs and the feature banks.
        cohort: the study's ``cohort`` section, its path absolute.
        network: the study's ``network`` section.
        patients: development patients.
    """

    folder: Path
    cohort: Mapping[str, Any]
    network: Mapping[str, Any]
    patients: int

    def begin_run(
        self,
        name: str,
        *,
        seed: int,
        epochs: int,
        trials: int,
        configurations: Sequence[Configuration] = (),
        bank: str = "banks",
    ) -> RunFiles:
        """Return a run that has begun, as ``polartune run`` leaves it before its first trial.

        Fixed configurations are put into its log as asked for; the search goes on from there, as
        it does after an interruption, and proposes nothing of its own.

        Args:
            name: of the run directory.
            seed: of the study (initialisation, order) and of its folds.
            epochs: of each trial.
            trials: how many.
            configurations: one for each trial; empty to let the sampler propose all.
            bank: folder of the feature bank, within ``folder``.
        """
        space: dict[str, Any] = {}
        if configurations:
            strengths = sorted({one.augmentation_strength for one in configurations})
            space = {"augmentation_strength": {"choices": strengths}}
        cohort = {**self.cohort, "split": {**self.cohort["split"], "seed": seed}}
        study = Study.model_validate(
            {
                "name": name,
                "seed": seed,
                "cohort": cohort,
                "network": dict(self.network),
                "space": space,
                "training": {"epochs": epochs},
                "search": {"trials": trials, "scheduler": "none"},
                "resources": {"device": "cpu", "slots": CORES},
                "bank": {"path": str(self.folder / bank)},
            }
        )
        run = RunFiles(self.folder / name)
        enrolled = enrol(study, self.folder, run)
        record(run, study, self.folder, enrolled)
        if configurations:
            log = TrialLog(run.trials)
            for number, configuration in enumerate(configurations[:trials]):
                log.asked(number, configuration, "enqueued")
        return run


def phantom_workload(folder: Path, backbone: str, patients: int, pixels: int) -> Workload:
    """Return the workload of so many phantom development patients, drawn into ``folder``."""
    folder.mkdir(parents=True)
    table = draw_phantom(
        folder / "cohort", patients=patients + TEST_PATIENTS, inputs=["reserve"], ceiling=False
    )
    cohort = {
        "path": str(table),
        "inputs": ["reserve"],
        "target": "impaired_any",
        "derive": {"impaired_any": {"below": 2.0}},
        "colour_scale": "fixed",
        "split": {"test": TEST_PATIENTS, "stratify": True},
    }
    return Workload(folder, cohort, _network(folder, cohort, backbone, pixels), patients)


def _network(folder: Path, cohort: Mapping[str, Any], backbone: str, pixels: int) -> dict[str, Any]:
    """Return the network section; without a package of weights, random ones in a file.

    All repeats and all three contestants start from that file.
    """
    section = {"backbone": backbone, "image_size": pixels}
    if backbone == LITE:
        return section
    study = Study.model_validate(
        {"name": "random", "cohort": cohort, "network": section | {"weights": "random"}}
    )
    network = build_network(
        study.network,
        maps=1,
        stack="late",
        folder=folder,
        generator=torch_generator(study.seed, 0, "backbone"),
    )
    calibrate(network, study, folder)
    path = folder / f"{backbone}.safetensors"
    state = network.torchvision_state()
    save_file({name: value.detach().contiguous() for name, value in state.items()}, path)
    return section | {"weights": {"file": str(path), "sha256": sha256_of(path)}}
