"""The five fold models again, and the model on the whole development set."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from analysis.choose.export import advise_another
from analysis.choose.fold_segments import DIGEST, write_out_of_fold_segments
from cohort.segments import SEGMENTS
from spaces.errors import NoModelError
from spaces.parameters import Configuration
from spaces.run_files import RunFiles, read_json, read_out_of_fold, sha256_of, write_json
from spaces.study import read_study

if TYPE_CHECKING:
    from trainable.lockstep import CrossValidation, EpochReport

# Runs an importable function once for each tuple of arguments, wherever there is room.
RunOnSlots = Callable[[Callable[..., Any], Sequence[tuple[Any, ...]]], list[Any]]

FOLDS, DEVELOPMENT, SEED = "folds", "development", "seed"


def retrain(run: RunFiles, run_on_slots: RunOnSlots, device: str) -> dict[str, Any]:
    """Train the chosen configuration again, and on all development patients; return model.json.

    The replay check compares the out-of-fold logits of the five fold models with those that the
    trial reported: on the same kind of device they must be equal to the last bit. A finished
    model of the same configuration is kept.

    Args:
        run: a run on which ``select`` was done.
        run_on_slots: runs functions with the resources of a trial.
        device: ``cpu`` or ``cuda``.

    Raises:
        NoModelError: the training diverged.
    """
    best = read_json(run.best, "best")
    chosen = {name: best[name] for name in ("trial", "configuration", "epochs", "oof_sha256")}
    chosen["split_sha256"] = best["split_sha256"]
    finished = _finished(run, chosen)
    if finished is not None:
        return finished
    root = str(run.root)
    work: list[tuple[Any, ...]] = [(root, device, chosen, kind) for kind in (FOLDS, DEVELOPMENT)]
    repeats = range(1, read_study(run.study).evaluation.seeds)
    work += [(root, device, chosen, SEED, repeat) for repeat in repeats]
    replayed, final, *others = run_on_slots(train_models, work)
    seeds = {name: digest for other in others for name, digest in other.items()}
    info = {**final, **replayed, "chosen": chosen, "seeds": seeds}
    write_json(run.model / "model.json", "model", info)
    return info


def train_models(
    root: str, device: str, chosen: dict[str, Any], kind: str, repeat: int = 0
) -> dict[str, Any]:
    """Train the fold models, the development-set model, or that again; write the weights.

    Returns:
        Their shares of model.json: ``folds`` (sha256 by file), ``replay`` (the check) and the
        sha256 of the out-of-fold segment values; the description of the development-set model; or
        the sha256 of what a training with other random numbers gave, None if it diverged.
    """
    if kind == SEED:
        return _train_again(root, device, chosen, repeat)
    return (
        _train_folds(root, device, chosen) if kind == FOLDS else _train_final(root, device, chosen)
    )


def _train_folds(root: str, device: str, chosen: dict[str, Any]) -> dict[str, Any]:
    from trainable.model import save_head
    from trainable.problem import open_problem

    run = RunFiles(Path(root))
    problem = open_problem(root, device)
    validation = problem.cross_validation(Configuration.from_mapping(chosen["configuration"]))
    report = _train(run, validation, chosen["epochs"], "a fold model")
    searched = read_out_of_fold(run.out_of_fold_of(chosen["trial"]), chosen["oof_sha256"])
    difference = np.abs(searched[chosen["epochs"] - 1] - report.logits)
    digests = {}
    for training in validation.trainings:
        path = run.model / FOLDS / f"{training.fold.number}.safetensors"
        trained = training.head.trained()
        trunk = problem.frozen_of(training.fold).trunk_sha256
        digests[path.name] = save_head(path, trained, trunk_sha256=trunk)
    replay = {
        "bit_equal": bool((difference == 0).all()),
        "largest_difference": float(difference.max()),
        "fold_auc": list(report.auc),
        "seconds": report.seconds * chosen["epochs"],
    }
    kept = _keep_segments(run, validation, problem.folds)
    return {"folds": digests, "replay": replay, DIGEST: kept}


def _keep_segments(run: RunFiles, loop: CrossValidation, folds: np.ndarray) -> str | None:
    """Write the fold models' segment values of the patients they never saw; return the sha256.

    Each fold restores its own training patients' scale. None, and no file, where no segment
    output was trained.
    """
    run.out_of_fold_segments.unlink(missing_ok=True)  # of an earlier choice
    segments = np.full((len(folds), SEGMENTS), np.nan, dtype=np.float32)
    for training in loop.trainings:
        if training.scale is None or training.configuration.lambda_ == 1:
            return None
        rows = training.fold.validation
        outputs = training.predict(rows).cpu().numpy()
        segments[rows] = training.scale.restore(outputs[:, :SEGMENTS])
    return write_out_of_fold_segments(run.out_of_fold_segments, segments, folds)


def _train_final(root: str, device: str, chosen: dict[str, Any]) -> dict[str, Any]:
    from trainable.familiarity import Familiarity
    from trainable.model import save_weights
    from trainable.problem import open_problem

    run = RunFiles(Path(root))
    study = read_study(run.study)
    problem = open_problem(root, device)
    configuration = Configuration.from_mapping(chosen["configuration"])
    loop = problem.development_training(configuration)
    _train(run, loop, chosen["epochs"], "the development-set model")
    training = loop.trainings[0]
    digest = save_weights(run.model, problem.trained_state(training))
    everyone = np.arange(len(problem.folds))
    features = training.represent(everyone).cpu().numpy()
    Familiarity.fit(features, problem.folds).save(run.model)
    # lambda = 1 gave the segment outputs no gradient: there is nothing to put into units.
    scale = None if configuration.lambda_ == 1 else training.scale
    return {
        "sha256": digest,
        "backbone": study.network.backbone,
        "image_size": study.network.image_size,
        "weights": study.network.weights
        if isinstance(study.network.weights, str)
        else study.network.weights.sha256,
        "inputs": list(study.cohort.inputs),
        "stack": study.cohort.stack,
        "target": study.cohort.target,
        "segments_prefix": None if scale is None else study.cohort.segments,
        "segment_mean": None if scale is None else scale.mean.tolist(),
        "segment_sd": None if scale is None else scale.deviation.tolist(),
        "development_patients": len(problem.folds),
        "precision": str(problem.dtype).removeprefix("torch."),
        "trunk_sha256": problem.frozen_of(training.fold).trunk_sha256,
        "first_step_sha256": None if problem.first_step is None else problem.first_step.sha256,
    }


def _train_again(
    root: str, device: str, chosen: dict[str, Any], repeat: int
) -> dict[str, str | None]:
    from trainable.model import save_head
    from trainable.problem import open_problem

    run, problem = RunFiles(Path(root)), open_problem(root, device)
    configuration = Configuration.from_mapping(chosen["configuration"])
    loop = problem.development_training(configuration, repeat=repeat)
    path = run.seeds / f"{repeat}.safetensors"
    try:
        _train(run, loop, chosen["epochs"], "a repeated training")
    except NoModelError:  # what chance can do: it is told with the spread
        path.unlink(missing_ok=True)
        return {path.name: None}
    [training] = loop.trainings
    trunk = problem.frozen_of(training.fold).trunk_sha256
    return {path.name: save_head(path, training.head.trained(), trunk_sha256=trunk)}


def _train(run: RunFiles, loop: CrossValidation, epochs: int, what: str) -> EpochReport:
    """Train ``epochs`` epochs; return the last one's report.

    Raises:
        NoModelError: a loss is infinite or not a number.
    """
    for _ in range(epochs):
        report = loop.advance()
        if not report.finite:
            raise NoModelError(
                "retrain",
                f"{what} diverged (non-finite loss at epoch {report.epoch})",
                advise_another(run),
            )
    return report


def _finished(run: RunFiles, chosen: dict[str, Any]) -> dict[str, Any] | None:
    """Return model.json if it describes the same choice and all its weights are there."""
    about, weights = run.model / "model.json", run.model / "model.safetensors"
    if not about.is_file() or not weights.is_file():
        return None
    info = read_json(about, "model")
    heads = {run.model / FOLDS / name: digest for name, digest in info["folds"].items()}
    heads |= {run.seeds / name: digest for name, digest in info.get("seeds", {}).items() if digest}
    same = (
        info.get("chosen") == chosen
        and sha256_of(weights) == info["sha256"]
        and all(path.is_file() and sha256_of(path) == digest for path, digest in heads.items())
    )
    return info if same else None
