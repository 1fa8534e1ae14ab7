"""Faults of files: torn, truncated, a bit flipped, locked or deleted, mostly between two runs."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from benchmarks.faults.driver import StuckError
from benchmarks.faults.scene import COHORT, Scene
from spaces import errors
from spaces.errors import RefusedError
from spaces.run_files import read_out_of_fold

Damage = Callable[[Path], None]
TORN = b'{"event": "epoch", "number": 0, "epo'


def truncate(path: Path) -> None:
    """Cut the second half of a file off."""
    os.truncate(path, path.stat().st_size // 2)


def flip(path: Path) -> None:
    """Turn one bit in the middle of a file."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def unfinished(scene: Scene) -> list[int]:
    """Return the numbers that have epochs and no end.

    Raises:
        StuckError: there is none, so the scene cannot be played.
    """
    ended = {event["number"] for event in scene.events("ended")}
    found = sorted({event["number"] for event in scene.events("epoch")} - ended)
    if not found:
        raise StuckError("no trial was in training when the study was cut off")
    return found


def torn_last_line(scene: Scene) -> None:
    """The driver died in the middle of a line of trials.jsonl."""
    scene.strike()
    with scene.run.trials.open("ab") as file:
        file.write(TORN)
    scene.go_on()


def damaged_line(scene: Scene) -> None:
    """A bit in the middle of trials.jsonl: refused, and sound again when it is restored."""
    refused_until_restored(scene, scene.run.trials, _break_a_line, "a damaged line")


def _break_a_line(path: Path) -> None:
    lines = path.read_bytes().split(b"\n")
    lines[len(lines) // 2] = lines[len(lines) // 2].replace(b":", b";", 1)
    path.write_bytes(b"\n".join(lines))


def refused_until_restored(scene: Scene, path: Path, damage: Damage, says: str) -> None:
    """Damage a file; the command must refuse, and change nothing; restore it and go on."""
    scene.strike()
    content = path.read_bytes()
    damage(path)
    damaged = scene.run.trials.read_bytes()
    scene.finish(scene.start(), errors.REFUSED, says)
    scene.expect(scene.run.trials.read_bytes() == damaged, "the refusal changed trials.jsonl")
    path.write_bytes(content)
    scene.go_on()


def logits_truncated(scene: Scene) -> None:
    """The logits of a trial that has not ended: it trains again."""
    _damage_and_go_on(scene, scene.run.out_of_fold_of(unfinished(scene)[0]), truncate)


def logits_flipped(scene: Scene) -> None:
    """The same, one bit, and one that matters: a bit of the file's statistics does not."""

    def flip_one_that_matters(path: Path) -> None:
        whole = path.read_bytes()
        for at in range(len(whole) // 2, len(whole)):
            path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
            try:
                read_out_of_fold(path)
            except RefusedError:
                return
        raise StuckError("no bit of the logits matters")

    path = scene.run.out_of_fold_of(unfinished(scene)[0])
    _damage_and_go_on(scene, path, flip_one_that_matters)


def ended_logits_flipped(scene: Scene) -> None:
    """The logits of a trial that has ended: nothing can be concluded from them."""
    scene.strike()
    path = scene.run.out_of_fold_of(scene.events("ended")[0]["number"])
    content = path.read_bytes()
    flip(path)
    scene.finish(scene.start(), errors.REFUSED, "its digest differs")
    scene.expect(not scene.run.report.exists(), "a report was written on damaged evidence")
    path.write_bytes(content)
    scene.go_on()


def checkpoint_whole(scene: Scene) -> None:
    """No damage but the driver's death: a trial goes on from its checkpoint."""
    _newest_checkpoint(scene)
    scene.strike()
    scene.go_on()
    _expect_repeated(scene, 1)


def checkpoint_truncated(scene: Scene) -> None:
    """The newest checkpoint is cut off: the one before it serves."""
    _damage_and_go_on(scene, _newest_checkpoint(scene), truncate)
    _expect_repeated(scene, 2)


def checkpoint_flipped(scene: Scene) -> None:
    """The same, one bit."""
    _damage_and_go_on(scene, _newest_checkpoint(scene), flip)
    _expect_repeated(scene, 2)


def seals_damaged(scene: Scene) -> None:
    """The newest seal is cut off, in the one before it a bit of a name is flipped: none serves."""
    newest = _newest_checkpoint(scene)
    *_, before, _ = sorted(newest.parent.glob("[0-9]*.safetensors"))
    seal = before.with_suffix(".json")
    content = seal.read_bytes()
    assert b'"sha256"' in content
    logged = Counter(event["number"] for event in scene.events("epoch"))
    scene.strike()
    truncate(newest.with_suffix(".json"))
    seal.write_bytes(content.replace(b'"sha256"', b'"sha257"'))
    scene.go_on()
    _expect_repeated(scene, max(logged.values()))


def checkpoint_half_written(scene: Scene) -> None:
    """The process died while it wrote: half a file, no seal, and a name for what is unfinished."""
    newest = _newest_checkpoint(scene)

    def leave_half(path: Path) -> None:
        half = path.read_bytes()[: path.stat().st_size // 2]
        path.with_name(f".{path.name}.1.partial").write_bytes(half)
        path.with_suffix(".json").unlink(missing_ok=True)
        path.write_bytes(half)

    _damage_and_go_on(scene, newest, leave_half)
    _expect_repeated(scene, 2)


def _newest_checkpoint(scene: Scene) -> Path:
    for number in unfinished(scene):
        found = sorted(scene.run.checkpoint_folder(number).glob("[0-9]*.safetensors"))
        if len(found) > 1:
            return found[-1]
    raise StuckError("no trial in training had two checkpoints")


def _expect_repeated(scene: Scene, most: int) -> None:
    """Expect that no trial computed more epochs again than its checkpoints must cost."""
    seen = Counter(
        (tuple(value for name, value in note.items() if name not in ("pid", "seconds")))
        for note in scene.notes()
    )
    again: Counter[object] = Counter()
    for (*configuration, _epoch), times in seen.items():
        again[tuple(configuration)] += times - 1
    worst = max(again.values(), default=0)
    scene.expect(worst <= most, f"{worst} epochs of a trial were computed again, not {most}")


def bank_truncated(scene: Scene) -> None:
    """A file of the feature bank is cut off between two runs: it is computed again."""
    _damage_and_go_on(scene, _bank_file(scene), truncate)


def bank_flipped(scene: Scene) -> None:
    """The same, one bit."""
    _damage_and_go_on(scene, _bank_file(scene), flip)


def bank_truncated_in_use(scene: Scene) -> None:
    """The file shrinks below a process that has it in memory: that process dies of SIGBUS."""
    driver = scene.start()
    scene.until_epochs(driver, 4)
    scene.strike()
    for path in _bank_files(scene):
        truncate(path)
    scene.finish(driver, errors.REFUSED, "bank: a part cannot be read")
    scene.go_on()


def _bank_files(scene: Scene) -> list[Path]:
    return sorted((scene.folder / COHORT / "banks").glob("*/*.safetensors"))


def _bank_file(scene: Scene) -> Path:
    return _bank_files(scene)[0]


def _damage_and_go_on(scene: Scene, path: Path, damage: Damage) -> None:
    scene.strike()
    damage(path)
    scene.go_on()


def export_deleted(scene: Scene) -> None:
    """The export is gone after the end: the step that writes it writes it again."""
    scene.strike()
    scene.go_on()
    scene.run.optuna_journal.unlink()
    scene.finish(scene.start())
