"""Where an epoch of the heads spends its time, by kind of operation."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from torch.profiler import ProfilerActivity, profile

from benchmarks.bare_rates import CONFIGURATION
from benchmarks.limit import prepare
from benchmarks.measuring import Out, Quick, console, machine, table, write_results
from trainable.problem import fill_part, open_problem

KINDS = {
    "matrix products": ("mm", "addmm", "bmm", "mkldnn_convolution", "convolution_backward"),
    "copies and casts": ("copy_", "_to_copy", "to", "cat", "clone", "stack", "contiguous"),
    "sums and means": ("sum", "mean", "div", "div_"),
    "activation": (
        "clamp",
        "clamp_",
        "hardtanh",
        "hardtanh_",
        "hardtanh_backward",
        "relu_",
        "threshold_backward",
    ),
    "folding of batch norm": ("mul", "rsqrt", "add"),
    "optimiser": ("_fused_adamw_",),
}


def kind_of(operator: str) -> str:
    """Return the kind of a profiled operator; what is not in ``KINDS`` is the framework's."""
    name = operator.removeprefix("aten::")
    return next((kind for kind, names in KINDS.items() if name in names), "everything else")


def measure(root: str) -> dict[str, float]:
    """Return the seconds of one epoch of all folds by kind of operation, on one thread."""
    torch.set_num_threads(1)
    problem = open_problem(root, "cpu")
    for part in problem.missing_parts():
        if not part.strength:
            fill_part(root, "cpu", part)
    folds = problem.cross_validation(CONFIGURATION)
    folds.advance()
    with profile(activities=[ProfilerActivity.CPU]) as profiled:
        folds.advance()
    found: dict[str, float] = {}
    for average in profiled.key_averages():
        kind = kind_of(average.key)
        found[kind] = found.get(kind, 0.0) + average.self_cpu_time_total * 1e-6
    return dict(sorted(found.items(), key=lambda item: -item[1]))


def main(
    backbone: Annotated[str, typer.Option(help="efficientnet_lite0 or resnet50.")] = (
        "efficientnet_lite0"
    ),
    patients: Annotated[int, typer.Option(help="In development.")] = 400,
    quick: Quick = False,
    out: Out = None,
) -> None:
    """Profile one epoch of five heads on one thread."""
    terminal, described = console(), machine()
    patients, size = (40, 64) if quick else (patients, 224)
    with tempfile.TemporaryDirectory() as scratch:
        run = prepare(Path(scratch), backbone, patients=patients, trials=1, epochs=1, size=size)
        seconds = measure(str(run.root))
    whole = sum(seconds.values())
    rows = table(f"{backbone}, one epoch of five heads on one thread", "", "s", "%")
    for kind, spent in seconds.items():
        rows.add_row(kind, f"{spent:.2f}", f"{100 * spent / whole:.0f}")
    terminal.print(rows)
    settings: dict[str, Any] = {"backbone": backbone, "patients": patients, "image_size": size}
    path = write_results(
        f"head_profile_{backbone}",
        {"settings": settings, "seconds": seconds},
        described,
        quick=quick,
        out=out,
    )
    terminal.print(f"Wrote {path}", soft_wrap=True)


if __name__ == "__main__":
    typer.run(main)
