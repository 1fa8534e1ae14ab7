"""A trial's state on disk, and the seal by which a whole one is known."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from spaces.errors import UserError
from spaces.run_files import read_json, replacing, sha256_of, write_json
from spaces.storage import outlasting

KEPT = 2


@dataclass(frozen=True)
class Checkpoint:
    """The state of a trial after one epoch, and a seal that says it was written whole."""

    folder: Path
    epoch: int

    @property
    def path(self) -> Path:
        """The tensors."""
        return self.folder / f"{self.epoch:05d}.safetensors"

    @property
    def _seal(self) -> Path:
        return self.path.with_suffix(".json")

    def write(self, save: Callable[[Path], None], *, within: Path) -> None:
        """Write the tensors, then their digest beside them; then delete all but this and the last.

        What is newer was damaged, or the log did not cover it: else it had been restored.

        Args:
            save: writes the tensors to a path.
            within: as in ``spaces.run_files.replacing``.
        """
        with replacing(self.path, within=within) as partial:
            save(partial)
        digest = {"sha256": sha256_of(self.path)}
        write_json(self._seal, "checkpoint", digest, within=self.folder)
        found = checkpoints(self.folder)
        until_here = [one for one in found if one.epoch <= self.epoch]
        for other in found:
            if other not in until_here[-KEPT:]:
                other.delete()

    def is_whole(self) -> bool:
        """Whether the tensors are the ones that were sealed; a damaged seal is none."""
        if not (self.path.exists() and self._seal.exists()):
            return False
        try:
            sealed = outlasting(lambda: read_json(self._seal, "checkpoint"))["sha256"]
            return bool(sealed == outlasting(lambda: sha256_of(self.path)))
        except (UserError, OSError, KeyError):
            return False

    def delete(self) -> None:
        """Remove both files, the seal first."""
        self._seal.unlink(missing_ok=True)
        self.path.unlink(missing_ok=True)


def checkpoints(folder: Path) -> list[Checkpoint]:
    """Return the checkpoints in a folder, oldest first; a missing folder has none."""
    found = sorted(folder.glob("[0-9]*.safetensors"))
    return [Checkpoint(folder, int(path.stem)) for path in found]
