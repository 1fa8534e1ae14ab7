"""Faults of files: torn, truncated, a bit flipped, locked or deleted, mostly between two runs."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.faults.driver import StuckError
from benchmarks.faults.scene import COHORT, Scene
from spaces import errors
from spaces.errors import RefusedError
from spaces.run_files import read_out_of_fold, sha256_of

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
    """The driver died in the middle of a line; its trials go on from their checkpoints, whole."""
    _newest_checkpoint(scene)
    scene.strike()
    with scene.run.trials.open("ab") as file:
        file.write(TORN)
    scene.go_on()
    _expect_repeated(scene, 1)


def damaged_line(scene: Scene) -> None:
    """A bit in the middle of trials.jsonl: refused, and nothing else changes."""
    with refused(scene, "a damaged line"):
        _break_a_line(scene.run.trials)


def _break_a_line(path: Path) -> None:
    lines = path.read_bytes().split(b"\n")
    lines[len(lines) // 2] = lines[len(lines) // 2].replace(b":", b";", 1)
    path.write_bytes(b"\n".join(lines))


@contextmanager
def refused(scene: Scene, says: str) -> Iterator[None]:
    """Change something in the block; the command must refuse to go on, and change nothing itself.

    Whether a study goes on from where it is, the other scenes show.
    """
    scene.strike()
    yield
    before = _digests(scene)
    scene.finish(scene.start(), errors.REFUSED, says)
    after = _digests(scene)
    touched = sorted(name for name in before | after if before.get(name) != after.get(name))
    scene.expect(not touched, f"the refusal changed {', '.join(touched[:3])}")


def _digests(scene: Scene) -> dict[str, str]:
    """Return the digest of every file of the run, by its name there.

    But for its log and its list of sessions, which say that somebody tried.
    """
    run = scene.run
    files = {path for path in run.root.rglob("*") if path.is_file()} - {run.log, run.environment}
    return {str(path.relative_to(run.root)): sha256_of(path) for path in files}


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


def bank_damaged(scene: Scene) -> None:
    """Between two runs one file of the bank is cut off, in another a bit is flipped."""
    one, other, *_ = _bank_files(scene)
    scene.strike()
    truncate(one)
    flip(other)
    scene.go_on()


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


def _damage_and_go_on(scene: Scene, path: Path, damage: Damage) -> None:
    scene.strike()
    damage(path)
    scene.go_on()


def export_deleted(scene: Scene) -> None:
    """The export is gone after the end: the step that writes it writes it again."""
    scene.strike()
    scene.run.optuna_journal.unlink()
    scene.finish(scene.start())
