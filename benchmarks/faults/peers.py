"""``make faults-peers``: the same faults on a plain Ray Tune script, each cut off after 60 s.

Nothing is judged: it records what a user of the libraries alone would meet. What can be compared is
compared with an undisturbed run of the same script.
"""

from __future__ import annotations

import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmarks.faults import peer_script
from benchmarks.faults.driver import StuckError, end_all, processes_of
from benchmarks.faults.peer import NotPlayedError, Peer
from benchmarks.faults.peer_faults import FAULTS, PeerFault
from benchmarks.measuring import Out, Quick, console, machine, table, wait_for, write_results

LEAVING_SECONDS = 10.0
UNDISTURBED_SECONDS = 300.0
Only = Annotated[
    list[str] | None, typer.Argument(help="Faults by name, or part of one. Default: all.")
]
QUICK = frozenset({"checkpoints truncated"})


@dataclass(frozen=True)
class Row:
    """What one fault did.

    Attributes:
        fault: its name.
        observed: what a user would complain about; empty if all is as undisturbed.
        exit_codes: of the commands that ended, in their order.
        lost: seconds of epochs that were computed again.
        played: whether the fault could be done to it at all.
    """

    fault: str
    observed: tuple[str, ...]
    exit_codes: tuple[int, ...]
    lost: float
    played: bool = True

    @property
    def sentence(self) -> str:
        """What is shown."""
        return "; ".join(self.observed) or "as undisturbed"

    def as_dict(self) -> dict[str, Any]:
        """Return it for the result file."""
        return {
            "fault": self.fault,
            "observed": list(self.observed),
            "exit_codes": list(self.exit_codes),
            "work_lost_s": self.lost,
            "played": self.played,
        }


def observed(
    peer: Peer, reference: dict[str, Any], cut: str = "", *, changed: bool = False
) -> list[str]:
    """Return what a user would complain about; empty if all is as undisturbed."""
    found = [f"cut off: {cut}"] if cut else []
    left = not wait_for(lambda: not processes_of(peer.mark), seconds=LEAVING_SECONDS)
    if left and not cut:
        found.append(f"{len(processes_of(peer.mark))} processes left")
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
    elif changed and peer.codes[-1:] == [0]:
        found.append("went on, without a word, as if nothing had changed")
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


def undisturbed(folder: Path) -> dict[str, Any]:
    """Return what the script finds when nobody disturbs it.

    Raises:
        NotPlayedError: not even that ended well.
    """
    peer = Peer(folder)
    folder.mkdir()
    try:
        peer.finish(peer.start(), within=UNDISTURBED_SECONDS)
    except StuckError as error:
        raise NotPlayedError(f"the undisturbed script: {error}") from None
    finally:
        end_all(processes_of(peer.mark))
    reference = peer.result()
    if reference is None:
        raise NotPlayedError(f"the undisturbed script ended with {peer.codes} and no result")
    return reference


def play(fault: PeerFault, folder: Path, reference: dict[str, Any]) -> Row:
    """Let a fault happen to the script in a new folder, and record what is seen."""
    peer, cut, played = Peer(folder), "", True
    folder.mkdir()
    try:
        fault.happens(peer, [one["rate"] for one in reference["trials"]])
    except NotPlayedError as error:
        cut, played = str(error), False
    except StuckError as error:
        cut = str(error)
    try:
        found = observed(peer, reference, cut, changed=fault.changes)
    finally:
        end_all(processes_of(peer.mark))
    if not played:
        found = [f"not played: {cut}"]
    return Row(fault.name, tuple(found), tuple(peer.codes), work_lost(peer), played)


def rows(faults: Sequence[PeerFault]) -> Iterator[Row]:
    """Play faults one after the other."""
    with tempfile.TemporaryDirectory(prefix="pp", ignore_cleanup_errors=True) as folder:
        reference = undisturbed(Path(folder) / "r")
        for at, fault in enumerate(faults):
            yield play(fault, place := Path(folder) / f"{at:02}", reference)
            shutil.rmtree(place, ignore_errors=True)


def main(only: Only = None, quick: Quick = False, out: Out = None) -> None:
    """Play the faults on the peer and record what happened; exit code 1 if one was not played."""
    described, terminal = machine(), console()
    chosen = [
        fault
        for fault in FAULTS
        if (not quick or fault.name in QUICK)
        and (not only or any(word in fault.name for word in only))
    ]
    played: list[Row] = []
    for row in rows(chosen):
        played.append(row)
        terminal.print(f"{row.fault}: {row.sentence}", markup=False)
    shown = table("Plain Ray Tune", "fault", "lost s", "exit codes", "observed")
    for row in played:
        codes = ", ".join(map(str, row.exit_codes)) or "-"
        shown.add_row(row.fault, f"{row.lost:.1f}", codes, row.sentence)
    terminal.print(shown)
    content = {"rows": [row.as_dict() for row in played]}
    partly = quick or len(chosen) < len(FAULTS)
    path = write_results("faults-peers", content, described, quick=partly, out=out)
    terminal.print(f"Wrote {path}", soft_wrap=True)
    if not all(row.played for row in played):
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
