"""What one writes from Ray Tune's tutorials: a function, OptunaSearch, defaults, Tuner.restore.

``python -m benchmarks.faults.peer_script FOLDER`` searches, or goes on where an earlier one
stopped. It trains a small logistic regression; the pause stands for a network. Faults that no
signal causes are asked for by ``injected.json``, as for our own problem.
"""

from __future__ import annotations

import json
import math
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import ray
from ray import tune
from ray.tune.search.optuna import OptunaSearch

TRIALS, EPOCHS, SLOTS = 6, 12, 2
PAUSE_SECONDS, SLOW_SECONDS = 0.2, 5.0
NAME, RESULT, NOTES, INJECTED = "peer", "result.json", "computed.jsonl", "injected.json"
ROWS, COLUMNS = 200, 17
STATE = "state.json"
CHANGED = "PEER_CHANGED"


def load_fault(folder: Path, rate: float) -> str:
    """Return what goes wrong with this learning rate, or in every trial; mostly nothing."""
    path = folder / INJECTED
    if not path.exists():
        return ""
    asked = json.loads(path.read_text(encoding="utf-8"))
    return str(asked["kind"]) if asked["rate"] in (None, rate) else ""


def train(config: dict[str, Any]) -> None:
    """One trial, with a checkpoint after every epoch."""
    folder, rate = Path(config["folder"]), config["learning_rate"]
    fault = load_fault(folder, rate)
    changed = os.environ.get(CHANGED)
    generator = np.random.default_rng(1 if changed == "cohort" else 0)
    inputs = generator.normal(size=(ROWS, COLUMNS))
    target = (inputs[:, 0] + generator.normal(size=ROWS) > 0).astype(float)
    weights, epoch = np.zeros(COLUMNS), 0
    checkpoint = tune.get_checkpoint()
    if checkpoint:
        with checkpoint.as_directory() as directory:
            saved = json.loads((Path(directory) / STATE).read_text(encoding="utf-8"))
            weights, epoch = np.array(saved["weights"]), int(saved["epoch"])
    try:
        while epoch < EPOCHS:
            began = time.monotonic()
            epoch += 1
            time.sleep(PAUSE_SECONDS)
            if fault == "raise":
                raise ValueError("this configuration is impossible")
            if fault == "memory":
                raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB")
            if fault == "hang" and epoch == 2:
                time.sleep(3600)
            scale = 2.0 if changed == "code" else 1.0
            error = 1 / (1 + np.exp(-inputs @ weights)) - target
            weights = weights - scale * rate * inputs.T @ error / ROWS
            logits = inputs @ weights
            loss = float(np.mean(np.logaddexp(0, logits) - target * logits))
            loss = {"diverge": math.nan, "infinite": math.inf}.get(fault, loss)
            line = {"rate": rate, "epoch": epoch, "pid": os.getpid()}
            with (folder / NOTES).open("a", encoding="utf-8") as file:
                file.write(json.dumps(line | {"seconds": time.monotonic() - began}) + "\n")
            with tempfile.TemporaryDirectory() as directory:
                state = {"weights": weights.tolist(), "epoch": epoch}
                (Path(directory) / STATE).write_text(json.dumps(state), encoding="utf-8")
                tune.report(
                    {"loss": loss, "epoch": epoch},
                    checkpoint=tune.Checkpoint.from_directory(directory),
                )
    finally:
        if fault == "slow":
            time.sleep(SLOW_SECONDS)


def main() -> None:
    """Search, or restore and go on; write how each trial ended and what Optuna knows."""
    folder = Path(sys.argv[1]).resolve()
    storage = folder / "ray"
    if "RAY_ADDRESS" in os.environ:
        ray.init(log_to_driver=False)
    else:
        ray.init(num_cpus=SLOTS, include_dashboard=False, log_to_driver=False)
    searcher = OptunaSearch(metric="loss", mode="min", seed=0)
    highest = 2.0 if os.environ.get(CHANGED) == "study" else 1.0
    if tune.Tuner.can_restore(str(storage / NAME)):
        tuner = tune.Tuner.restore(str(storage / NAME), trainable=train, resume_errored=True)
    else:
        tuner = tune.Tuner(
            train,
            param_space={
                "folder": str(folder),
                "learning_rate": tune.loguniform(1e-2, highest),
            },
            tune_config=tune.TuneConfig(
                metric="loss",
                mode="min",
                search_alg=searcher,
                num_samples=TRIALS,
                max_concurrent_trials=SLOTS,
            ),
            run_config=tune.RunConfig(name=NAME, storage_path=str(storage)),
        )
    results = tuner.fit()
    used: Any = tuner._local_tuner._tune_config.search_alg  # type: ignore[union-attr]
    study = getattr(getattr(used, "searcher", used), "_ot_study", None)
    content = {
        "trials": [
            {
                "rate": (one.config or {})["learning_rate"],
                "epoch": (one.metrics or {}).get("epoch", 0),
                "loss": repr((one.metrics or {}).get("loss")),
                "error": str(one.error).strip().split("\n")[-1] if one.error else "",
            }
            for one in (results[at] for at in range(len(results)))
        ],
        "optuna": [trial.state.name for trial in study.trials] if study else None,
    }
    (folder / RESULT).write_text(json.dumps(content), encoding="utf-8")


if __name__ == "__main__":
    main()
