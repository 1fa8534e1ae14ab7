"""``make faults-peers``: the same faults on a plain Ray Tune script, each cut off after 60 s.

Nothing is judged: it records what a user of the libraries alone would meet. What can be compared is
compared with an undisturbed run of the same script.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import typer

from benchmarks.faults import peer_script
from benchmarks.faults.driver import Driver, StuckError, end_all, named, processes_of
from benchmarks.faults.files import truncate
from benchmarks.faults.processes import HEAD
from benchmarks.faults.scene import HOME, read_lines
from benchmarks.measuring import Out, Quick, console, machine, table, wait_for, write_results

SCRIPT = "benchmarks.faults.peer_script"
CUT_SECONDS = 60.0
EPOCHS_BEFORE = 4
GONE_SECONDS = 5.0
LEAVING_SECONDS = 10.0


@dataclass
class Peer:
    """A folder in which the script runs.

    Attributes:
        codes: exit code of each command that ended by itself.
        until: when it is cut off, on ``time.monotonic``.
    """

    folder: Path
    codes: list[int] = field(default_factory=list)
    until: float = 0.0
    more: dict[str, str] = field(default_factory=dict)
    _count: int = 0

    @property
    def storage(self) -> Path:
        """Where Tune keeps the experiment."""
        return self.folder / "ray" / peer_script.NAME

    def start(self) -> Driver:
        """Start the script, or start it again."""
        scratch = self.folder / "t"
        scratch.mkdir(parents=True, exist_ok=True)
        environment = os.environ | {
            "PYTHONPATH": str(HOME),
            "TMPDIR": str(scratch),
            "RAY_TMPDIR": str(scratch),
            "RAY_USAGE_STATS_ENABLED": "0",
            "OMP_NUM_THREADS": "1",
            **self.more,
        }
        self._count += 1
        self.until = self.until or time.monotonic() + CUT_SECONDS
        return Driver(
            [SCRIPT, str(self.folder)],
            folder=self.folder,
            environment=environment,
            number=self._count,
        )

    def begin(self) -> Driver:
        """Start it and wait until some epochs are computed."""
        driver = self.start()
        goal = len(self.notes()) + EPOCHS_BEFORE
        if not wait_for(lambda: len(self.notes()) >= goal or driver.is_over, seconds=CUT_SECONDS):
            raise StuckError("it did not begin")
        self.until = time.monotonic() + CUT_SECONDS
        return driver

    def finish(self, driver: Driver) -> None:
        """Wait for the end of a command, at most to the cut."""
        self.codes.append(driver.wait(max(1.0, self.until - time.monotonic())))

    def go_on(self) -> None:
        """Start the same script again, which restores, and wait for its end."""
        self.finish(self.start())

    def inject(self, kind: str, rate: float | None) -> None:
        """Let the trial with one learning rate go wrong, or all."""
        text = json.dumps({"kind": kind, "rate": rate})
        (self.folder / peer_script.INJECTED).write_text(text, encoding="utf-8")

    def notes(self) -> list[dict[str, Any]]:
        """Return what was computed."""
        return read_lines(self.folder / peer_script.NOTES)

    def result(self) -> dict[str, Any] | None:
        """Return what the script wrote at its end; None if it never came there."""
        path = self.folder / peer_script.RESULT
        return dict(json.loads(path.read_text(encoding="utf-8"))) if path.exists() else None


def trial_killed(peer: Peer, _rates: Sequence[float]) -> None:
    """As in ``processes``."""
    driver = peer.begin()
    os.kill(peer.notes()[-1]["pid"], signal.SIGKILL)
    peer.finish(driver)
    peer.go_on()


def trial_stopped(peer: Peer, _rates: Sequence[float]) -> None:
    """As in ``processes``."""
    driver = peer.begin()
    os.kill(peer.notes()[-1]["pid"], signal.SIGSTOP)
    peer.finish(driver)


def _sent(
    number: signal.Signals, *, group: bool = False
) -> Callable[[Peer, Sequence[float]], None]:
    def play(peer: Peer, _rates: Sequence[float]) -> None:
        driver = peer.begin()
        driver.send(number, group=group)
        peer.finish(driver)
        peer.go_on()

    return play


def head_killed(peer: Peer, _rates: Sequence[float]) -> None:
    """As in ``processes``."""
    driver = peer.begin()
    for pid in named(processes_of(f"TMPDIR={peer.folder / 't'}"), HEAD):
        os.kill(pid, signal.SIGKILL)
    peer.finish(driver)
    peer.go_on()


def two_drivers(peer: Peer, _rates: Sequence[float]) -> None:
    """As in ``processes``."""
    driver = peer.begin()
    peer.finish(peer.start())
    peer.finish(driver)


def _damaged(pattern: str) -> Callable[[Peer, Sequence[float]], None]:
    def play(peer: Peer, _rates: Sequence[float]) -> None:
        driver = peer.begin()
        driver.send(signal.SIGKILL)
        driver.wait(5.0)
        for path in peer.storage.glob(pattern):
            truncate(path)
        peer.go_on()

    return play


def _goes_wrong(kind: str, *, everywhere: bool = False) -> Callable[[Peer, Sequence[float]], None]:
    def play(peer: Peer, rates: Sequence[float]) -> None:
        peer.inject(kind, None if everywhere else rates[0])
        peer.finish(peer.start())

    return play


def disk_full(peer: Peer, _rates: Sequence[float]) -> None:
    """As in ``limits``."""
    driver = peer.begin()
    for pid in {note["pid"] for note in peer.notes()}:
        _, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (1, hard))
    peer.finish(driver)
    peer.go_on()


def storage_gone(peer: Peer, _rates: Sequence[float]) -> None:
    """As in ``limits``."""
    driver = peer.begin()
    away = peer.storage.with_name("away")
    peer.storage.rename(away)
    time.sleep(GONE_SECONDS)
    if peer.storage.exists():
        peer.storage.rename(peer.storage.with_name("ghost"))
    away.rename(peer.storage)
    peer.finish(driver)
    peer.go_on()


def code_changed(peer: Peer, _rates: Sequence[float]) -> None:
    """The training function takes twice as long steps from now on."""
    driver = peer.begin()
    driver.send(signal.SIGKILL)
    driver.wait(5.0)
    peer.more[peer_script.CHANGED] = "1"
    peer.go_on()


FAULTS: tuple[tuple[str, Callable[[Peer, Sequence[float]], None]], ...] = (
    ("trial's process killed", trial_killed),
    ("trial's process stopped", trial_stopped),
    ("trials slow to clean up", _goes_wrong("slow", everywhere=True)),
    ("Ctrl-C", _sent(signal.SIGINT, group=True)),
    ("SIGTERM", _sent(signal.SIGTERM)),
    ("driver killed", _sent(signal.SIGKILL)),
    ("head of Ray killed", head_killed),
    ("two drivers", two_drivers),
    ("experiment state truncated", _damaged("experiment_state-*.json")),
    ("checkpoints truncated", _damaged("*/checkpoint_*/state.npz")),
    ("NaN in the first trial", _goes_wrong("diverge")),
    ("configuration raises", _goes_wrong("raise")),
    ("configuration hangs", _goes_wrong("hang")),
    ("disk full for a trial", disk_full),
    ("storage gone for 5 s", storage_gone),
    ("code changed", code_changed),
)
QUICK = frozenset({"NaN in the first trial"})


def observed(peer: Peer, reference: dict[str, Any], cut: str) -> list[str]:
    """Return what a user would complain about; empty if all is as undisturbed."""
    found = [f"cut off: {cut}"] if cut else []
    left = not wait_for(lambda: not processes_of(_mark(peer)), seconds=LEAVING_SECONDS)
    if left and not cut:
        found.append(f"{len(processes_of(_mark(peer)))} processes left")
    result = peer.result()
    if result is None:
        return [*found, "no result"]
    failed = [one for one in result["trials"] if one["error"]]
    short = [one for one in result["trials"] if one["epoch"] < peer_script.EPOCHS]
    if failed:
        found.append(f"{len(failed)} trials failed")
    if len(short) > len(failed):
        found.append(f"{len(short) - len(failed)} trials ended early and count as done")
    if (failed or short) and peer.codes[-1:] == [0]:
        found.append("exit code 0 all the same")
    if len(result["trials"]) != peer_script.TRIALS:
        found.append(f"{len(result['trials'])} trials, not {peer_script.TRIALS}")
    before = {(one["rate"], one["loss"]) for one in reference["trials"]}
    whole = [one for one in result["trials"] if not one["error"] and one not in short]
    others = [one for one in whole if (one["rate"], one["loss"]) not in before]
    if others:
        found.append(f"{len(others)} scores differ from the undisturbed run, without a word")
    open_ = Counter(result["optuna"] or []).get("RUNNING", 0)
    if open_:
        found.append(f"{open_} trials stay RUNNING in Optuna")
    return found


def work_lost(peer: Peer) -> float:
    """Return the seconds of epochs that were computed again."""
    seen: set[tuple[float, int]] = set()
    lost = 0.0
    for note in peer.notes():
        key = (note["rate"], note["epoch"])
        lost += note["seconds"] if key in seen else 0.0
        seen.add(key)
    return lost


def _mark(peer: Peer) -> str:
    return f"TMPDIR={peer.folder / 't'}"


def main(quick: Quick = False, out: Out = None) -> None:
    """Play the faults on the peer and record what happened."""
    described, terminal = machine(), console()
    rows = []
    with tempfile.TemporaryDirectory(prefix="pp", ignore_cleanup_errors=True) as folder:
        sound = Peer(Path(folder) / "r")
        sound.folder.mkdir()
        sound.finish(sound.start())
        reference = sound.result()
        assert reference is not None, "the undisturbed script failed"
        rates = [one["rate"] for one in reference["trials"]]
        for at, (name, play) in enumerate(FAULTS):
            if quick and name not in QUICK:
                continue
            peer = Peer(Path(folder) / f"{at:02}")
            peer.folder.mkdir()
            cut = ""
            try:
                play(peer, rates)
            except StuckError as error:
                cut = str(error)
            found = observed(peer, reference, cut)
            end_all(processes_of(_mark(peer)))
            rows.append(
                {
                    "fault": name,
                    "observed": found,
                    "exit_codes": peer.codes,
                    "work_lost_s": work_lost(peer),
                }
            )
            terminal.print(f"{name}: {'; '.join(found) or 'as undisturbed'}", markup=False)
            shutil.rmtree(peer.folder, ignore_errors=True)
    shown = table("Plain Ray Tune", "fault", "lost s", "exit codes", "observed")
    for row in rows:
        codes = ", ".join(map(str, row["exit_codes"])) or "-"  # type: ignore[call-overload]
        seen = "; ".join(row["observed"]) or "as undisturbed"  # type: ignore[arg-type]
        shown.add_row(str(row["fault"]), f"{row['work_lost_s']:.1f}", codes, seen)
    terminal.print(shown)
    path = write_results("faults-peers", {"rows": rows}, described, quick=quick, out=out)
    terminal.print(f"Wrote {path}", soft_wrap=True)


if __name__ == "__main__":
    typer.run(main)
