"""What scores depend on beside study and cohort: the frozen trunk, and how products are rounded."""

from __future__ import annotations

import socket
from dataclasses import asdict, dataclass

import torch

from spaces.errors import RefusedError
from spaces.run_files import RunFiles, read_json, write_json
from spaces.sections import NetworkSection


def precision_of(section: NetworkSection, device: str) -> torch.dtype:
    """Return the precision of products: bf16 where the processor has instructions for it.

    Elsewhere bf16 is emulated, and slower than float32. Those of AVX-512 double the rate of
    products at least (on one AMD EPYC: 500 against 110 GFLOP/s a core), tiles (AMX) do more.
    """
    if section.precision != "auto":
        return torch.bfloat16 if section.precision == "bf16" else torch.float32
    if device == "cuda":
        fast = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        fast = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return torch.bfloat16 if fast else torch.float32


@dataclass(frozen=True)
class Numerics:
    """Equal in every slot of a run, whichever machine it is on.

    Attributes:
        trunk_sha256: digest of the frozen trunk.
        precision: of products, ``bfloat16`` or ``float32``.
    """

    trunk_sha256: str
    precision: str

    def keep(self, run: RunFiles) -> None:
        """Write network.json, unless an earlier session has."""
        if not run.network.exists():
            write_json(run.network, "network", asdict(self))

    def refuse_others_than(self, run: RunFiles) -> None:
        """Make sure that this slot computes what the run's first one did; without one, anything.

        Raises:
            RefusedError: it rounds its products otherwise, or has another frozen trunk.
        """
        if not run.network.exists():
            return
        begun, host = read_json(run.network, "network"), socket.gethostname()
        if begun["precision"] != self.precision:
            raise RefusedError(
                "network.precision",
                f"is {self.precision} on {host}, and the run began with {begun['precision']}: "
                "scores would not compare",
                "Use machines of one kind, or begin a run with network.precision: fp32",
            )
        if begun["trunk_sha256"] != self.trunk_sha256:
            raise RefusedError(
                "network.weights",
                f"give another frozen trunk on {host} than when the run began",
                "Give the weights that it began with, or begin a run of another name",
            )
