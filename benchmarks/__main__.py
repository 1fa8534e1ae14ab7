"""``python -m benchmarks``: our search against what one would write instead; see README.md."""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path
from typing import Any

import typer
from rich.console import Console

from benchmarks.contest import LEAST_EFFICIENCY, PEERS, Contest, check_line, hold
from benchmarks.measuring import (
    Out,
    Quick,
    console,
    goal,
    machine,
    show_goals,
    spread,
    table,
    write_results,
)
from benchmarks.whole import measure_whole, whole_workload
from benchmarks.workload import (
    CORES,
    LITE,
    MEASURED,
    NAMES,
    QUICK,
    RESNET,
    Sizes,
    phantom_workload,
)

LEAST_SHARE = 0.9
LEAST_RATIO = {"plain": 25, "tuned": 8}
LEAST_OF_PLAIN = {LITE: 100, RESNET: 50}


def main(quick: Quick = False, out: Out = None) -> None:
    """Measure, print a table and write benchmarks/results.json."""
    terminal, sizes = console(), QUICK if quick else MEASURED
    began = time.monotonic()
    _pin()
    described = machine()
    with tempfile.TemporaryDirectory(prefix="benchmarks-") as folder:
        content = _measure(Path(folder), sizes, began, terminal)
    content["minutes"] = round((time.monotonic() - began) / 60, 1)
    _show_whole(content["whole"], terminal)
    show_goals(content["goals"], terminal, quick=quick)
    path = write_results("results", content, described, quick=quick, out=out)
    terminal.print(f"{content['minutes']} minutes. Wrote {path}", soft_wrap=True)


def _pin() -> None:
    """Keep to as many cores as the figures are stated for, and hand that on to every process."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:CORES])


def _measure(folder: Path, sizes: Sizes, began: float, terminal: Console) -> dict[str, Any]:
    def say(text: str) -> None:
        minutes = (time.monotonic() - began) / 60
        terminal.print(f"[dim]{minutes:5.1f} min  {text}[/]")

    contests: dict[str, Contest] = {}
    line: dict[str, Any] | None = None
    for backbone, patients in sizes.patients:
        work = phantom_workload(folder / backbone, backbone, patients, sizes.pixels)
        contests[backbone] = hold(work, sizes, say)
        _show_contest(contests[backbone], sizes, terminal)
    if sizes.line_trials:
        work = phantom_workload(folder / "line", LITE, sizes.line_patients, sizes.pixels)
        line = check_line(contests[LITE], work, sizes, say)
    work, words = whole_workload(folder / "whole", sizes)
    deadline = began + 60 * sizes.minutes
    whole = measure_whole(work, words, contests[LITE], sizes, deadline=deadline, say=say)
    for peer in PEERS:
        if line is not None and not line[peer]["holds"]:
            whole["void"][peer] = whole["void"][peer] or "its time is no line"
    return {
        "cores": CORES,
        "contests": [contest.as_dict() for contest in contests.values()],
        "line": line,
        "whole": whole,
        "goals": _goals(list(contests.values()), line, whole),
    }


def _goals(
    contests: list[Contest], line: dict[str, Any] | None, whole: dict[str, Any]
) -> list[dict[str, Any]]:
    found = []
    for contest in contests:
        name = NAMES[contest.backbone]
        found += [
            goal(f"{name}: ours and {peer} agree in AUC", reached=contest.agreement(peer)["agrees"])
            for peer in PEERS
        ]
        times, ratio = LEAST_OF_PLAIN[contest.backbone], contest.ratio("plain")
        most = contest.cost("plain") / contest.bare["head"]
        found.append(
            goal(
                f"{name}: a trial-epoch costs plain {times} times ours ({ratio:.1f}; our bare head "
                f"would be {most:.0f})",
                reached=ratio >= times and not contest.void("plain"),
            )
        )
        found += [
            goal(
                f"{name}: tuned reaches {LEAST_EFFICIENCY:.0%} of its bare rate "
                f"({contest.efficiency:.0%})",
                reached=contest.efficiency >= LEAST_EFFICIENCY,
            ),
            goal(
                f"{name}: tuned/ours is {LEAST_SHARE:.0%} of what bare rates allow "
                f"({contest.share:.0%})",
                reached=contest.share >= LEAST_SHARE,
            ),
        ]
    for peer in PEERS:
        if line is not None:
            seen, said = line[peer]["measured_s"], line[peer]["predicted_s"]
            found.append(
                goal(
                    f"{peer}'s time is a line ({seen:.0f} s, {said:.0f} predicted)",
                    reached=line[peer]["holds"],
                )
            )
        ratio = whole["ratios"][f"{peer}/ours"]
        found.append(
            goal(
                f"a whole search costs {peer} {LEAST_RATIO[peer]} times ours ({ratio:.1f})",
                reached=ratio >= LEAST_RATIO[peer] and not whole["void"][peer],
            )
        )
    return found


def _show_contest(contest: Contest, sizes: Sizes, terminal: Console) -> None:
    weights = "ImageNet" if contest.backbone == LITE else "random weights"
    shown = table(
        f"{NAMES[contest.backbone]} ({weights}), {sizes.pixels} px, 3 layers, "
        f"{contest.patients} patients",
        "",
        "ms per patient, trial, epoch",
        "x ours",
        "AUC, ours minus its (95 %)",
    )
    for peer in PEERS:
        found, reason = contest.agreement(peer), contest.void(peer)
        low, high = found["interval"]
        shown.add_row(
            peer + (" VOID" if reason else ""),
            spread(contest.costs(peer), 2),
            f"{contest.ratio(peer):.1f}",
            f"{found['mean']:+.3f} ({low:+.3f} to {high:+.3f})",
        )
    shown.add_row("ours", spread(contest.costs("ours"), 2), "1", "")
    terminal.print(shown)
    bare = contest.bare
    terminal.print(
        f"Bare loops: tuned network {bare['network']:.2f} ms ({contest.tuned_at_a_time} at a "
        f"time; tuned reaches {contest.efficiency:.0%}), our head {bare['head']:.2f} ms. They "
        f"allow tuned/ours {contest.allowed:.1f}; we reach {contest.share:.0%} of it. A tuned "
        f"peer with our folded trunk, but no bank, could reach {bare['trunk'] + bare['head']:.2f}."
    )
    for peer in PEERS:
        if contest.void(peer):
            terminal.print(f"The row of {peer} is void: {contest.void(peer)}.")
    terminal.print()


def _show_whole(whole: dict[str, Any], terminal: Console) -> None:
    terminal.print(
        f"[italic]A whole search, Lite0: {whole['trials']} trials x {whole['epochs']} epochs, "
        f"{whole['patients']}[/]"
    )
    shown = table("", "", "seconds", "x ours")
    for peer in PEERS:
        mark = " VOID" if whole["void"][peer] else ""
        seconds, ratio = whole["peers_extrapolated_s"][peer], whole["ratios"][f"{peer}/ours"]
        shown.add_row(f"{peer}, extrapolated{mark}", f"{seconds:.0f}", f"{ratio:.1f}")
    ours = whole["ours_wall_s"]["values"]
    shown.add_row("ours, from the command line", spread(ours), "1")
    terminal.print(shown)
    rate, rest = whole["ours_ms_per_patient_trial_epoch"], whole["ours_start_up_and_bank_s"]
    terminal.print(
        f"Ours there: {rest['median']:.0f} s of start-up and feature bank, then "
        f"{rate['median']:.2f} ms per patient, trial and epoch.\n"
    )


if __name__ == "__main__":
    typer.run(main)
