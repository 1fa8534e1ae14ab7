"""The feature bank: trunk outputs on disk, computed once, shared by folds, epochs, trials, targets.

A bank belongs to one map and one strength. Its folder is named after the sha256 of everything the
outputs depend on; labels and split are not among them. Files hold a fixed number of patients; they
are mapped into memory, so that trials on one machine share the pages.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from spaces.bank_files import ABOUT, mark_used
from spaces.errors import InputError, RefusedError
from spaces.run_files import replacing, sha256_of, write_json
from trainable.features import Columns, Extractor, Outputs, channels_first, channels_last

VERSION = 1
# Of the computation: to be raised by whoever changes how trunk outputs round.
ROUNDING = 2
PATIENTS_A_FILE = 128
SPARE_DISK = 1.2
"""Free disk that is asked for, as a multiple of what a bank takes."""


@dataclass(frozen=True)
class Part:
    """A piece of work: one file of one bank.

    Attributes:
        column: which map.
        strength: augmentation strength; 0 is the plain image.
        chunk: which file.
        images: images to pass through the trunk for it.
        trunk: number of the trunk; 0 where all folds share one.
    """

    column: int
    strength: float
    chunk: int
    images: int
    trunk: int = 0


@dataclass(frozen=True)
class Bank:
    """Where the trunk outputs of a study's development patients lie, and how they are made.

    Attributes:
        folder: holds the banks of many studies.
        keys: what the plain outputs of each column depend on, as JSON-able values.
        drawn: (patients, views, 3), see ``augment.draw_views``.
        limits: the augmentation section, as JSON-able values.
        columns: the images.
        names: of each column, for people; the key does not depend on them.
        trunk: its number, see ``Part``; the key depends on its weights, not on this.
    """

    folder: Path
    keys: tuple[Mapping[str, Any], ...]
    drawn: np.ndarray
    limits: Mapping[str, Any]
    columns: Columns
    names: tuple[str, ...]
    trunk: int = 0

    @property
    def patients(self) -> int:
        """Number of development patients."""
        return len(self.drawn)

    @property
    def _chunks(self) -> int:
        return -(-self.patients // PATIENTS_A_FILE)

    def views(self, strength: float) -> int:
        """Return how many views a strength has; the plain image is one."""
        return self.drawn.shape[1] if strength else 1

    def key(self, column: int, strength: float) -> dict[str, Any]:
        """Return everything that the outputs of one column at one strength depend on."""
        content = {"version": ROUNDING, "strength": strength, **self.keys[column]}
        if strength:
            drawn = hashlib.sha256(np.ascontiguousarray(self.drawn).tobytes()).hexdigest()
            content |= {"augmentation": dict(self.limits), "drawn": drawn}
        return content

    def path(self, column: int, strength: float, chunk: int) -> Path:
        """Return the file of one part."""
        text = json.dumps(self.key(column, strength), sort_keys=True)
        name = hashlib.sha256(text.encode()).hexdigest()[:32]
        return self.folder / name / f"{chunk:05d}.safetensors"

    def parts(self, strengths: Sequence[float]) -> Iterator[Part]:
        """Yield every part that trials at ``strengths`` read; validation reads strength 0."""
        for strength in sorted({0.0, *strengths}):
            for column in range(len(self.keys)):
                for chunk in range(self._chunks):
                    rows = len(self._rows(chunk))
                    yield Part(column, strength, chunk, rows * self.views(strength), self.trunk)

    def exists(self, part: Part) -> bool:
        """Return whether a part was ever written; reads no file."""
        return self.path(part.column, part.strength, part.chunk).exists()

    def is_whole(self, part: Part) -> bool:
        """Return whether a part is there and undamaged.

        One that is not stays until it is filled anew: another run may be about to seal it.
        """
        path = self.path(part.column, part.strength, part.chunk)
        try:
            expected = json.loads(_seal(path).read_text())["sha256"]
            return bool(sha256_of(path) == expected)
        except (OSError, ValueError, KeyError):
            return False

    def fill(self, part: Part, extractor: Extractor) -> int:
        """Compute and write one part; return the images passed through the trunk."""
        rows = self._rows(part.chunk)
        images = self.columns.read(part.column, rows)
        views = [
            extractor.extract(images, self.drawn[rows, view], part.strength)
            for view in range(self.views(part.strength))
        ]
        tensors = {
            str(at): torch.stack([channels_last(output) for output in outputs], dim=1).cpu()
            for at, outputs in enumerate(zip(*views, strict=True))
        }
        target = self.path(part.column, part.strength, part.chunk)
        if not (target.parent / ABOUT).exists():
            write_json(target.parent / ABOUT, "bank", self._describe(part), VERSION)
        # Gigabytes: a slot would wait for the disk longer than for the trunk. A part that a power
        # failure damages has another checksum, and is computed again.
        with replacing(target, durable=False) as partial:
            save_file(tensors, partial)
            digest = sha256_of(partial)
        write_json(_seal(target), "bank-part", {"sha256": digest})
        return part.images

    def _describe(self, part: Part) -> dict[str, Any]:
        return {
            "key": self.key(part.column, part.strength),
            "input": self.names[part.column],
            "views": self.views(part.strength),
            "files": self._chunks,
        }

    def check_disk(self, parts: Sequence[Part], bytes_an_image: int) -> None:
        """Refuse to start filling what the disk cannot hold.

        Raises:
            InputError: less than ``SPARE_DISK`` times the missing bytes are free.
        """
        needed = SPARE_DISK * bytes_an_image * sum(part.images for part in parts)
        self.folder.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(self.folder).free
        if free < needed:
            raise InputError(
                "bank.path",
                f"the feature bank needs {needed / 1e9:.3g} GB, {free / 1e9:.3g} GB are free",
                "Give another folder, search fewer strengths or views, or set bank.mode: off",
            )

    def _rows(self, chunk: int) -> np.ndarray:
        start = chunk * PATIENTS_A_FILE
        return np.arange(start, min(start + PATIENTS_A_FILE, self.patients))


class BankedFeatures:
    """Reads trunk outputs from the bank."""

    def __init__(self, bank: Bank, device: str) -> None:
        self._bank = bank
        self._device = device
        self._open: dict[tuple[int, float, int], list[Tensor]] = {}

    def read(self, strength: float, view: int, rows: np.ndarray) -> list[Outputs]:
        """See ``features.Features``."""
        view = view if strength else 0
        return [
            self._read_column(column, strength, view, rows)
            for column in range(len(self._bank.keys))
        ]

    def _read_column(self, column: int, strength: float, view: int, rows: np.ndarray) -> Outputs:
        pieces = [
            (self._file(column, strength, row // PATIENTS_A_FILE), row % PATIENTS_A_FILE)
            for row in rows.tolist()
        ]
        outputs = range(len(pieces[0][0]))
        return tuple(
            channels_first(torch.stack([file[at][row, view] for file, row in pieces])).to(
                self._device, non_blocking=True
            )
            for at in outputs
        )

    def _file(self, column: int, strength: float, chunk: int) -> list[Tensor]:
        place = (column, strength, chunk)
        if place not in self._open:
            path = self._bank.path(*place)
            mark_used(path.parent)
            try:
                with safe_open(path, framework="pt") as file:
                    names = sorted(file.keys(), key=int)
                    self._open[place] = [file.get_tensor(name) for name in names]
            except (OSError, SafetensorError) as error:
                raise RefusedError(
                    "bank", f"a part cannot be read ({type(error).__name__})", "Run the study again"
                ) from None
        return self._open[place]


def _seal(path: Path) -> Path:
    return path.with_suffix(".json")
