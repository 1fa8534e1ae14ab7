"""A small run directory as the search would leave it, without torch, ray or a model."""

from __future__ import annotations

import dataclasses
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType, SimpleNamespace
from zlib import crc32

import numpy as np
import pandas as pd
import pytest

from analysis.choose.fold_segments import DIGEST, write_out_of_fold_segments
from cohort.segments import segment_columns
from cohort.split import write_split
from cohort.table import Cohort, read_cohort
from spaces.parameters import Configuration
from spaces.run_files import RunFiles, sha256_of, write_json, write_out_of_fold
from spaces.study import Study, read_study
from spaces.trial_log import LOSSES, Epoch, TrialLog, TrialRecord, best_epoch, scores

PATIENTS, EPOCHS = 120, 6

STUDY = """
name: tiny
seed: 7
cohort:
  path: ../cohort/cohort.csv
  inputs: [reserve]
  target: impaired
  colour_scale: fixed
  split: {test: 40, folds: 5, stratify: true}
network: {weights: random, backbone: resnet18, image_size: 32}
training: {epochs: 6}
search: {trials: 8}
evaluation: {bootstraps: 200}
"""


@dataclass
class Run:
    """A run directory and what a test wants to know of it."""

    files: RunFiles
    study: Study
    cohort: Cohort
    csv: Path

    def edit_study(self, old: str, new: str) -> None:
        text = self.files.study.read_text()
        assert old in text
        self.files.study.write_text(text.replace(old, new))
        self.study = read_study(self.files.study)


def draw_cohort(folder: Path, *, segments: bool = True) -> Path:
    """Write a cohort whose target follows from the segments, with some values missing."""
    generator = np.random.default_rng(3)
    (folder / "images").mkdir(parents=True)
    severity = generator.normal(size=PATIENTS)
    frame = pd.DataFrame({"patient_id": [f"secret{i:03d}" for i in range(PATIENTS)]})
    frame["reserve"] = [f"images/{i}.png" for i in range(PATIENTS)]
    for name in frame["reserve"]:
        (folder / name).write_bytes(b"")
    target = (severity + generator.normal(size=PATIENTS) < 0).astype(float)
    target[5] = np.nan
    frame["impaired"] = pd.Series(target).astype("Int64")
    values = 2.5 + 0.4 * severity[:, None] + generator.normal(0, 0.3, (PATIENTS, 17))
    values[11, 3] = np.nan
    if segments:
        frame[segment_columns("mfr")] = values.round(4)
    path = folder / "cohort.csv"
    frame.to_csv(path, index=False)
    return path


def draw_with_traits(folder: Path, *, segments: bool = True) -> Path:
    """Write the cohort with age, sex and rest flow."""
    path = draw_cohort(folder, segments=segments)
    frame, generator = pd.read_csv(path), np.random.default_rng(8)
    frame["age"] = generator.normal(66, 10, len(frame)).round(1)
    frame["sex"] = np.where(np.arange(len(frame)) % 2, "female", "male")
    rest = generator.normal(1, 0.2, (len(frame), 17)).round(4)
    frame[[f"rest_mbf_{number:02d}" for number in range(1, 18)]] = rest
    frame.to_csv(path, index=False)
    return path


def record_trial(
    run: RunFiles,
    cohort: Cohort,
    number: int,
    configuration: Configuration,
    *,
    skill: float,
    epochs: int = EPOCHS,
    state: str = "complete",
) -> None:
    """Log one trial whose skill grows with the epochs; in a full trial's last one it forgets."""
    generator = np.random.default_rng([1, number])
    target = np.nan_to_num(cohort.development.target, nan=0.5)
    folds, n = cohort.split.folds, len(target)
    log = TrialLog(run.trials)
    log.asked(number, configuration, "default" if number == 0 else "tpe")
    logits = np.zeros((epochs, n, 2), dtype=np.float32)
    noise = generator.normal(size=n)
    means = []
    record = TrialRecord(number, configuration, "tpe", state=state)
    for e in range(epochs):
        learnt = skill * (e + 1) / EPOCHS if e + 1 < EPOCHS else 0.0
        logits[e, :, 1] = learnt * 2 * (target - 0.5) + noise
        known = np.isfinite(cohort.development.target)
        aucs = tuple(
            _auc(target[known & (folds == f)] == 1, logits[e, known & (folds == f), 1])
            for f in range(5)
        )
        means.append(float(np.mean(aucs)))
        loss = {name: tuple(np.linspace(0.7, 0.5, 5) / (e + 1) ** 0.2) for name in LOSSES}
        score = scores(means, EPOCHS)[-1]
        log.epoch(number, Epoch(e + 1, aucs, float(np.mean(aucs)), loss, score, 0.5), "")
    if state != "failed":
        record.oof_sha256 = write_out_of_fold(run.out_of_fold_of(number), logits, folds)
        record.score, record.best_epoch = scores(means, EPOCHS)[-1], best_epoch(means, EPOCHS)
    record.reason = {"complete": "all epochs", "stopped": "rung 3"}.get(state, "loss is not finite")
    log.ended(record)


def _auc(positive: np.ndarray, score: np.ndarray) -> float:
    pairs = score[positive][:, None] - score[~positive][None]
    return float(((pairs > 0) + 0.5 * (pairs == 0)).mean())


def copy_run(run: Run, folder: Path) -> Run:
    """Copy cohort and run directory; all paths inside are relative."""
    shutil.copytree(run.csv.parent.parent, folder, dirs_exist_ok=True)
    cohort = dataclasses.replace(run.cohort, folder=folder / "cohort")
    return Run(RunFiles(folder / "run"), run.study, cohort, folder / "cohort" / "cohort.csv")


def describe_run(cohort: Cohort) -> dict[str, object]:
    session = {
        "python": "3.11.7",
        "platform": "Linux x86_64",
        "processor": "a processor",
        "packages": {"polartune": "0.1.0", "torch": "2.10.0", "scikit-learn": None},
        "code_sha256": "c" * 64,
    }
    hashes = {"cohort_sha256": cohort.table_sha256, "split_sha256": cohort.split.sha256}
    return {**hashes, "sessions": [session]}


def build_run(
    folder: Path, *, segments: bool = True, drawn_by: Callable[..., Path] = draw_cohort
) -> Run:
    csv = drawn_by(folder / "cohort", segments=segments)
    files = RunFiles(folder / "run")
    files.root.mkdir()
    text = STUDY if segments else STUDY.replace("target:", "segments: null\n  target:")
    files.study.write_text(text)
    study = read_study(files.study)
    cohort = read_cohort(study, files.root, verify_images=False, create_key=True)
    write_split(files.split, cohort.split)
    write_json(files.environment, "environment", describe_run(cohort))
    one = 0.0 if segments else 1.0
    configurations = [
        Configuration(max(one, 0.5), 1e-3, 1e-2, 0.5),
        Configuration(1.0, 1e-3, 1e-2, 0.5),
        Configuration(max(one, 0.1 + 0.2), 3.3e-4, 1.7e-5, 0.25),
        Configuration(max(one, 0.7), 9e-3, 3e-3, 0.0),
        Configuration(max(one, 0.9), 2e-5, 3e-6, 1.0),
        Configuration(max(one, 0.2), 5e-5, 3e-4, 0.75),
        Configuration(max(one, 0.4), 8e-3, 9e-2, 0.75),
    ]
    for number, configuration in enumerate(configurations):
        state = {4: "stopped", 5: "stopped", 6: "failed"}.get(number, "complete")
        record_trial(
            files,
            cohort,
            number,
            configuration,
            skill=(0.5, 0.4, 1.6, 0.6, 0.1, 0.2, 0.0)[number],
            epochs={"complete": EPOCHS, "stopped": 3, "failed": 1}[state],
            state=state,
        )
    return Run(files, study, cohort, csv)


def add_model(run: Run) -> None:
    """Write the files that retraining leaves."""
    files = run.files
    (files.model / "folds").mkdir(parents=True)
    (files.model / "model.safetensors").write_bytes(b"weights")
    folds = {f"{number}.safetensors": b"fold %d" % number for number in range(5)}
    for name, content in folds.items():
        (files.model / "folds" / name).write_bytes(content)
    digests = {name: sha256_of(files.model / "folds" / name) for name in folds}
    sha256 = sha256_of(files.model / "model.safetensors")
    replay = {"bit_equal": True, "largest_difference": 0.0, "fold_auc": [0.8] * 5}
    seeds: dict[str, str | None] = {"3.safetensors": None}
    for repeat in (1, 2):
        path = files.seeds / f"{repeat}.safetensors"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"seed %d" % repeat)
        seeds[path.name] = sha256_of(path)
    info = {"sha256": sha256, "replay": replay, DIGEST: keep_segments(run), "seeds": seeds}
    info["folds"] = digests
    write_json(files.model / "model.json", "model", info)


def keep_segments(run: Run) -> str | None:
    """Write out-of-fold segment values that miss the measured ones by noise."""
    measured = run.cohort.development.segments
    if measured is None:
        return None
    noise = np.random.default_rng(4).normal(0.05, 0.2, measured.shape)
    predicted = (np.nan_to_num(measured, nan=2.5) + noise).astype(np.float32)
    path = run.files.out_of_fold_segments
    return write_out_of_fold_segments(path, predicted, run.cohort.split.folds)


def fake_loading(run: Run, monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """Stand in for ``trainable.model``, which needs torch, with a model that knows the labels."""
    table = pd.read_csv(run.csv).set_index("reserve")
    calls = SimpleNamespace(predicted=0, scale=1.0, skill=2.0)

    def predict(images: dict[str, tuple[Path, ...]], seed: int = 6) -> SimpleNamespace:
        calls.predicted += seed == 6
        rows = table.loc[[f"images/{path.name}" for path in images["reserve"]]]
        generator = np.random.default_rng(seed)
        truth = rows["impaired"].fillna(0.5).to_numpy(dtype=float)
        logits = np.zeros((len(rows), 2), dtype=np.float32)
        logits[:, 1] = calls.scale * (
            calls.skill * (truth - 0.5) + generator.normal(size=len(rows))
        )
        values = None
        if "mfr_01" in rows:
            values = rows[segment_columns("mfr")].fillna(2.5).to_numpy(dtype=np.float32) + 0.1
        return SimpleNamespace(logits=logits, segments=values)

    def predict_heads(
        images: dict[str, tuple[Path, ...]], heads: dict[Path, str]
    ) -> list[np.ndarray]:
        assert all(sha256_of(path) == sha256 for path, sha256 in heads.items())
        return [predict(images, seed=crc32(path.read_bytes())).logits for path in heads]

    def load_model(folder: Path, device: str = "cpu") -> SimpleNamespace:
        assert (folder / "model.json").exists()
        return SimpleNamespace(
            predict=predict, predict_heads=predict_heads, shares_trunk_with=lambda _: True
        )

    module = ModuleType("trainable.model")
    module.load_model = load_model  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "trainable.model", module)
    # The model that knows the labels has no network to explain.
    monkeypatch.setattr("analysis.judge.freeze.attend", lambda *_: None)
    monkeypatch.setattr("analysis.judge.freeze.play", lambda *_: None)
    return calls
