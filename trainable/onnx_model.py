"""A trained model as one ONNX file: pixels in, probability and segment values out."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from cohort.segments import SEGMENTS
from spaces.errors import InputError, RefusedError
from spaces.run_files import replacing
from trainable.loss import LOGITS
from trainable.model import Model
from trainable.network import prepare

FILE = "model.onnx"
OPSET = 18
TOLERANCE = 1e-4
"""Largest difference of a logit, or of a segment in SDs, between the file and the network."""
_PARITY = 4
_FORMAT = "polartune/onnx/1"


class _Whole(nn.Module):
    """The network with what stands before and after it, so that a user of the file adds nothing."""

    mean: Tensor
    deviation: Tensor

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.network = model.network
        self.backbone = str(model.info["backbone"])
        self.is_early = model.info["stack"] == "early"
        self.has_probability = model.gives_probability
        self.has_segments = model.gives_segments
        if self.has_segments:
            scale = (model.info["segment_mean"], model.info["segment_sd"])
            mean, deviation = (torch.tensor(values, dtype=torch.float32) for values in scale)
            self.register_buffer("mean", mean)
            self.register_buffer("deviation", deviation)

    def forward(self, *maps: Tensor) -> tuple[Tensor, ...]:
        """Return probability (n,) and logits (n, 2), then segments (n, 17), if trained."""
        pixels = [torch.cat(maps, dim=1)] if self.is_early else list(maps)
        outputs = self.network(*(prepare(images, self.backbone) for images in pixels))
        found: list[Tensor] = []
        if self.has_probability:
            logits = outputs[:, LOGITS]
            found += [torch.sigmoid(logits[:, 1] - logits[:, 0]), logits]
        if self.has_segments:
            found.append(outputs[:, :SEGMENTS] * self.deviation + self.mean)
        return tuple(found)

    def units(self) -> dict[str, np.ndarray]:
        """Return the unit in which a difference is measured, by name of each output, in order."""
        found = {}
        if self.has_probability:
            found = {"probability": np.ones(1), "logits": np.ones(1)}
        if self.has_segments:
            found["segments"] = self.deviation.numpy()
        return found


def write_onnx(model: Model, path: Path) -> float:
    """Write the model as ONNX, after comparing it with the network; return the largest difference.

    The file takes one float32 (n, 3, size, size) for each input, by its name, with RGB values from
    0 to 255; n is free. It returns ``probability`` (n,), ``logits`` (n, 2), and ``segments``
    (n, 17) in the units of the column; what got no gradient (lambda = 0, lambda = 1) is absent.
    Standardising the pixels is inside, resizing is not: bilinear with antialiasing, as
    ``cohort.reading.images`` does.

    Args:
        model: on the CPU.
        path: the file; it appears whole or not at all.

    Raises:
        InputError: the packages of the extra ``onnx`` are not installed.
        RefusedError: the file computes something else than the network; nothing is left.
    """
    check_packages()
    whole = _Whole(model).eval()
    with replacing(path) as partial:
        _export(whole, model, partial)
        difference = _largest_difference(whole, model, partial)
        if not difference <= TOLERANCE:
            raise RefusedError(
                path.name,
                f"the exported file must agree with the network to {TOLERANCE:g}, "
                f"differs by {difference:.2g}",
                "Use another version of onnxscript or onnxruntime",
            )
    return difference


def check_packages() -> None:
    """Refuse to begin what the packages at hand cannot end.

    Raises:
        InputError: the packages of the extra ``onnx`` are not installed.
    """
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise InputError(
            "--onnx",
            f"the package {error.name} is not installed",
            "Run: pip install 'polartune[onnx]'",
        ) from None


def _export(whole: _Whole, model: Model, path: Path) -> None:
    import onnx

    inputs = [str(name) for name in model.info["inputs"]]
    examples = tuple(torch.from_numpy(pixels) for pixels in _pixels(model, 2))
    batch = torch.export.Dim("patients")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about future versions of torch itself
        program = torch.onnx.export(
            whole,
            examples,
            dynamo=True,
            input_names=inputs,
            output_names=list(whole.units()),
            dynamic_shapes=(tuple({0: batch} for _ in inputs),),
            opset_version=OPSET,
            verbose=False,
        )
    assert program is not None
    proto = program.model_proto
    said = {
        "format": _FORMAT,
        "sha256": model.info["sha256"],
        "target": model.info["target"],
        "segments": model.info["segments_prefix"] if whole.has_segments else "",
        "inputs": json.dumps(inputs),
        "pixels": f"RGB 0-255, {model.info['image_size']} a side",
        "use": "research only; no medical device",
    }
    onnx.helper.set_model_props(proto, {name: str(value) for name, value in said.items()})
    onnx.checker.check_model(proto)
    path.write_bytes(proto.SerializeToString())


@torch.inference_mode()
def _largest_difference(whole: _Whole, model: Model, path: Path) -> float:
    """Return the largest difference on noise, in a batch of another size than the exported one."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(
        path.read_bytes(), options, providers=["CPUExecutionProvider"]
    )
    pixels = _pixels(model, _PARITY)
    names = [declared.name for declared in session.get_inputs()]
    theirs = session.run(None, dict(zip(names, pixels, strict=True)))
    ours = whole(*(torch.from_numpy(images) for images in pixels))
    differences = [
        np.abs((its - own.numpy()) / unit).max()
        for its, own, unit in zip(theirs, ours, whole.units().values(), strict=True)
    ]
    return float(np.max(differences))  # nan if any is


def _pixels(model: Model, patients: int) -> list[np.ndarray]:
    """Return noise, float32 (patients, 3, size, size) for each input."""
    generator = np.random.default_rng(0)
    shape = (patients, 3, model.info["image_size"], model.info["image_size"])
    noise = [generator.integers(0, 256, shape) for _ in model.info["inputs"]]
    return [images.astype(np.float32) for images in noise]
