"""The batch-norm statistics of a random network, measured on phantoms."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from spaces.run_files import replacing
from spaces.study import Study
from trainable.network import PolarNetwork, prepare

CALIBRATION_MAPS = 256


def calibrate(network: PolarNetwork, study: Study, folder: Path) -> None:
    """Give a random network the batch-norm statistics of phantoms, measured once and kept."""
    size, cohort = study.network.image_size, study.cohort
    known = [name for name in cohort.inputs if name in {"rest", "stress", "reserve"}]
    shown = known[0] if known else "reserve"
    widened = len(cohort.inputs) if cohort.stack == "early" else 1
    origin = f"{study.network.backbone}-{size}-{study.seed}-{shown}-{widened}"
    path = folder / f"random-{origin}.safetensors"
    if path.is_file():
        network.encoder.load_state_dict(load_file(path))
        return
    from cohort.drawing.phantom import (
        calibration_maps,  # every other start is a fifth of a second quicker
    )

    _measure(network, calibration_maps(CALIBRATION_MAPS, size, shown), study, widened)
    with replacing(path) as partial:
        save_file(dict(network.encoder.state_dict()), partial)


@torch.no_grad()
def _measure(network: PolarNetwork, maps: np.ndarray, study: Study, widened: int) -> None:
    """Measure the batch norms of a random network on phantoms, never on patients.

    With random weights the stored statistics (mean 0, variance 1) are wrong and the activations of
    a deep network would vanish or explode.
    """
    for norm in network.modules():
        if isinstance(norm, nn.BatchNorm2d):
            norm.reset_running_stats()
            norm.momentum = None  # a plain average over the batches
            norm.train()
    for start in range(0, len(maps), 32):
        images = torch.from_numpy(maps[start : start + 32]).repeat(1, widened, 1, 1)
        network.encoder(prepare(images, study.network.backbone))
    network.eval()
