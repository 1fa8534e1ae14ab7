"""What both peers share: the job, the patients, Ray Tune with OptunaSearch, and a clock.

Run as ``python -m benchmarks.peer plain|tuned JOB``, in a process of its own like ours.
"""

from __future__ import annotations

import importlib
import json
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import ray
import torch
from optuna.distributions import BaseDistribution, FloatDistribution
from ray import tune
from ray.tune.search.optuna import OptunaSearch
from torch import Tensor

from benchmarks.workload import CORES
from cohort.split import read_split
from cohort.table import read_cohort
from spaces.run_files import RunFiles
from spaces.study import Study, read_study
from trainable.loss import Scale, multi_task_loss
from trainable.network import PolarNetwork, build_network
from trainable.seeds import torch_generator

HOME = Path(__file__).resolve().parents[1]
# The ranges of our default space. The configurations are enqueued, so nothing is drawn from them.
SPACE: dict[str, BaseDistribution] = {
    "lambda": FloatDistribution(0.0, 1.0),
    "learning_rate": FloatDistribution(1e-5, 1e-2, log=True),
    "weight_decay": FloatDistribution(1e-6, 1e-1, log=True),
    "augmentation_strength": FloatDistribution(0.0, 1.0),
}


@dataclass(frozen=True)
class Job:
    """What a peer is told to run.

    Attributes:
        run: a run directory of ours; its study, cohort and folds are read, nothing is written.
        configurations: by YAML name, one mapping for each trial.
        epochs: of each trial.
        at_a_time: trials at a time; the cores are shared out among them.
        out: file for the timed reports; Ray's own folder is put beside it.
    """

    run: str
    configurations: list[dict[str, float]]
    epochs: int
    at_a_time: int
    out: str

    @property
    def threads(self) -> int:
        """Cores of each trial."""
        return CORES // self.at_a_time

    def write(self, path: Path) -> None:
        """Write the job as JSON."""
        path.write_text(json.dumps(asdict(self)), encoding="utf-8")


@dataclass(frozen=True)
class Patients:
    """The development patients of a study, with what every trial needs to know.

    Attributes:
        study: batch size, seed, network, augmentation limits.
        folder: what the study's paths are relative to.
        files: (n,) polar maps.
        target: float32 (n,), 0 or 1.
        segments: float64 (n, 17).
        folds: (n,) the fold that validates each patient.
        epochs: to train.
    """

    study: Study
    folder: Path
    files: tuple[Path, ...]
    target: np.ndarray
    segments: np.ndarray
    folds: np.ndarray
    epochs: int

    def network(self) -> PolarNetwork:
        """Return the network in eval mode, so that batch-norm statistics stay frozen."""
        return build_network(
            self.study.network,
            maps=1,
            stack="late",
            folder=self.folder,
            generator=torch_generator(self.study.seed, 0, "backbone"),
        )

    def standardised(self, fold: int) -> Tensor:
        """Return the segment values, float32 (n, 17), on the scale of the fold's training set."""
        scale = Scale.of(self.segments[self.folds != fold])
        return torch.from_numpy(scale.standardise(self.segments).astype(np.float32))


def open_patients(run: RunFiles, epochs: int) -> Patients:
    """Return the development patients of a run of ours."""
    study = read_study(run.study)
    cohort = read_cohort(study, run.root, split=read_split(run.split), verify_images=False)
    found = cohort.development
    assert found.segments is not None
    [name] = study.cohort.inputs
    target = found.target.astype(np.float32)
    files = found.images[name]
    return Patients(study, run.root, files, target, found.segments, cohort.split.folds, epochs)


def loss_of(outputs: Tensor, target: Tensor, segments: Tensor, lambda_: float) -> Tensor:
    """Return our multi-task loss."""
    return multi_task_loss(outputs.to(torch.float32), target, segments, lambda_)[0]


def difference(outputs: Tensor) -> np.ndarray:
    """Return the logit of the positive class minus that of the negative, (n,)."""
    return np.asarray((outputs[:, -1] - outputs[:, -2]).to(torch.float32).numpy())


class Clock(tune.Callback):
    """Notes when the driver learns of each epoch."""

    def __init__(self, configurations: list[dict[str, float]]) -> None:
        self._configurations = configurations
        self.reports: list[dict[str, Any]] = []

    def on_trial_result(
        self,
        iteration: int,  # noqa: ARG002
        trials: list[Any],  # noqa: ARG002
        trial: Any,
        result: dict[str, Any],
        **info: Any,  # noqa: ARG002
    ) -> None:
        """Note one epoch."""
        number = self._configurations.index({name: trial.config[name] for name in SPACE})
        self.reports.append(
            {
                "trial": number,
                "epoch": result["training_iteration"],
                "at": time.time(),
                "auc": list(result["fold_auc"]),
            }
        )


def run_trials(trainable: Any, job: Job, *, reuse_actors: bool) -> list[dict[str, Any]]:
    """Run the job's configurations with Ray Tune and OptunaSearch; return the reports.

    Raises:
        RuntimeError: a trial failed.
    """
    ray.init(
        num_cpus=CORES,
        include_dashboard=False,
        log_to_driver=False,
        runtime_env={"env_vars": {"PYTHONPATH": str(HOME)}},
    )
    clock = Clock(job.configurations)
    searcher = OptunaSearch(
        SPACE, metric="auc", mode="max", points_to_evaluate=job.configurations, seed=0
    )
    results = tune.Tuner(
        trainable,
        tune_config=tune.TuneConfig(
            search_alg=searcher,
            num_samples=len(job.configurations),
            max_concurrent_trials=job.at_a_time,
            reuse_actors=reuse_actors,
        ),
        run_config=tune.RunConfig(
            name="ray",
            storage_path=str(Path(job.out).parent),
            stop={"training_iteration": job.epochs},
            callbacks=[clock],
            # A class trainable would be asked for a checkpoint that nobody reads.
            checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
            verbose=0,
        ),
    ).fit()
    ray.shutdown()
    if results.errors:
        raise RuntimeError(f"{len(results.errors)} trials failed: {results.errors[0]}")
    return clock.reports


def main() -> None:
    """Run one job of one peer and write its reports."""
    kind, path = sys.argv[1:]
    job = Job(**json.loads(Path(path).read_text(encoding="utf-8")))
    peer = importlib.import_module(f"benchmarks.{kind}")
    Path(job.out).write_text(json.dumps(peer.run(job)), encoding="utf-8")


if __name__ == "__main__":
    main()
