"""A workload that costs nothing: curves from a known function, faults on request. No torch."""

from __future__ import annotations

import errno
import json
import math
import os
import signal
import threading
import time
from pathlib import Path

import numpy as np
from patience import until

from spaces.errors import InputError
from spaces.parameters import Configuration
from spaces.trial_log import LOSSES, Epoch

PATIENTS = 10
FOLDS = 5


def value_of(configuration: Configuration) -> float:
    """The known objective: 0.9 at lambda .3, lr 1e-3, wd 1e-3, strength .5; falls off around."""
    away = (
        (configuration.lambda_ - 0.3) ** 2 / 0.1
        + (math.log10(configuration.learning_rate) + 3) ** 2 / 2
        + (math.log10(configuration.weight_decay) + 3) ** 2 / 12
        + (configuration.augmentation_strength - 0.5) ** 2 / 0.4
    )
    return 0.5 + 0.4 * math.exp(-away)


def auc_at(configuration: Configuration, epoch: int) -> tuple[float, ...]:
    """The AUC of each fold; rises with the epochs towards the value."""
    level = 0.5 + (value_of(configuration) - 0.5) * (1 - 0.5**epoch)
    return tuple(level + 0.001 * (fold - 2) for fold in range(FOLDS))


def epoch_of(configuration: Configuration, epoch: int, score: float) -> Epoch:
    auc = auc_at(configuration, epoch)
    loss = {name: tuple(1 / epoch for _ in range(FOLDS)) for name in LOSSES}
    return Epoch(epoch, auc, auc[0], loss, score, 0.001)


class Report:
    def __init__(self, configuration: Configuration, epoch: int, loss: float) -> None:
        self.epoch = epoch
        self.auc = auc_at(configuration, epoch)
        self.pooled_auc = self.auc[0]
        self.loss = {name: tuple(loss for _ in range(FOLDS)) for name in LOSSES}
        self.seconds = 0.001
        self.logits = np.full((PATIENTS, 2), epoch, dtype=np.float32)
        self.logits[:, 1] = self.auc[0]
        self.finite = math.isfinite(loss)


class CrossValidation:
    def __init__(self, problem: Problem, configuration: Configuration) -> None:
        self.problem = problem
        self.configuration = configuration
        self.epoch = 0
        self.faults = problem.faults_of(configuration)

    def advance(self, beat=None) -> Report:
        if beat is not None:
            beat()
        if "until" in self.faults:
            self.problem.hold(self.faults["until"], self.faults["most"])
        self.epoch += 1
        loss = 1 / self.epoch
        if self.epoch == self.faults.get("epoch", 2):
            loss = self.strike(loss, beat)
        time.sleep(self.faults.get("seconds", 0.0))
        return Report(self.configuration, self.epoch, loss)

    def strike(self, loss: float, beat) -> float:
        if self.faults.get("raise"):
            message = "this configuration is impossible"
            raise RuntimeError(message)
        if self.faults.get("memory"):
            raise MemoryError
        if self.faults.get("cuda") and self.problem.once(self.configuration, "cuda"):
            message = "CUDA error: an illegal memory access was encountered"
            raise RuntimeError(message)
        if self.faults.get("full"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        if self.faults.get("hang"):
            time.sleep(3600)
        while self.faults.get("dawdle"):  # batches without end: alive, and never done
            beat()
            time.sleep(0.05)
        if self.faults.get("freeze"):  # as a blocked process does: not one of its threads goes on
            os.kill(os.getpid(), signal.SIGSTOP)
        if self.faults.get("die"):
            os.kill(os.getpid(), signal.SIGKILL)
        if self.faults.get("kill") and self.problem.once(self.configuration, "kill"):
            os.kill(os.getpid(), signal.SIGKILL)
        return math.nan if self.faults.get("nan") else loss

    def save(self, path: Path) -> None:
        path.write_text(json.dumps({"epoch": self.epoch}))

    def restore(self, path: Path) -> None:
        self.epoch = json.loads(path.read_text())["epoch"]
        self.problem.note("restored", self.configuration, self.epoch)

    def close(self) -> None:
        time.sleep(self.faults.get("close_seconds", 0.0))
        if self.faults.get("raise_after"):
            message = "this configuration cannot be closed"
            raise RuntimeError(message)
        if self.faults.get("kill_after") and self.problem.once(self.configuration, "kill_after"):
            threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGKILL)).start()


class Problem:
    """Faults stand in ``faults.json`` of the run: a list of {lambda: [low, high], fault: ...}."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.folds = np.arange(PATIENTS) % FOLDS
        path = root / "faults.json"
        self.faults = json.loads(path.read_text()) if path.exists() else []
        self.note("opened", None, 0)
        if (root / "frozen").exists():  # as where a disk does not answer while data are read
            (root / "frozen").unlink()
            os.kill(os.getpid(), signal.SIGSTOP)
        if (root / "obstacle").exists():
            where, remedy = "network.weights.file", "Correct the path"
            raise InputError(where, "no such file: w.pth", remedy)
        if (root / "broken").exists():
            message = "libcudnn.so: cannot open"
            raise ImportError(message)

    def faults_of(self, configuration: Configuration) -> dict:
        for fault in self.faults:
            low, high = fault["lambda"]
            if low <= configuration.lambda_ <= high:
                return fault
        return {}

    def cross_validation(self, configuration: Configuration) -> CrossValidation:
        self.note("started", configuration, 0)
        return CrossValidation(self, configuration)

    def hold(self, file: str, most: int) -> None:
        """Wait for a file once the log has so many epochs: so nobody can come too late."""
        log = self.root / "trials.jsonl"
        until(
            lambda: (self.root / file).exists() or log.read_text().count('"event": "epoch"') < most
        )

    def note(self, event: str, configuration: Configuration | None, epoch: int) -> None:
        values = configuration.as_dict() if configuration else {}
        line = json.dumps({"event": event, "pid": os.getpid(), "epoch": epoch, **values})
        with (self.root / "workers.jsonl").open("a") as file:
            file.write(line + "\n")

    def once(self, configuration: Configuration, fault: str) -> bool:
        mark = self.root / f"{fault}-{configuration.lambda_!r}"
        if mark.exists():
            return False
        mark.touch()
        return True


def open_problem(run_root: str, device: str) -> Problem:
    assert device == "cpu"
    return Problem(Path(run_root))


def notes(root: Path, event: str) -> list[dict]:
    path = root / "workers.jsonl"
    lines = path.read_text().splitlines() if path.exists() else []
    return [note for note in map(json.loads, lines) if note["event"] == event]
