"""``python -m benchmarks.speed_page``: puts measured figures into docs/speed.md and README.md.

The page holds marks, ``<!-- NAME -->`` to ``<!-- end -->``; what lies between them is written anew
from the result files. A benchmark without a result file leaves its command and no figure.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmarks.measuring import FOLDER
from benchmarks.quality_summary import sheets, verdict

PAGES = tuple(FOLDER.parent / name for name in ("docs/speed.md", "README.md"))
BACKBONES = {"efficientnet_lite0": "EfficientNet-Lite0", "resnet50": "ResNet-50"}
BLOCK = re.compile(r"(<!-- (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)

Result = Mapping[str, Any]
Results = Mapping[str, Result]
Blocks = Mapping[str, Callable[[Results], list[str]]]


def read_results(folder: Path) -> dict[str, Result]:
    """Return every measured result file by its benchmark; quick ones are none."""
    found = {}
    for path in sorted(folder.glob("*.json")):
        content = json.loads(path.read_text(encoding="utf-8"))
        kind = str(content.get("format", "")).split("/")
        if len(kind) > 1 and kind[1].startswith("benchmark-") and not content["quick"]:
            found[kind[1].removeprefix("benchmark-")] = content
    return found


def fill(text: str, results: Results, blocks: Blocks | None = None) -> str:
    """Return the page with every block written anew; speed.md's, if no others are given.

    Raises:
        KeyError: a mark names no block.
    """

    def block(found: re.Match[str]) -> str:
        lines = (blocks or BLOCKS)[found[2]](results) or ["*Not measured yet.*"]
        return found[1] + "\n".join(["", *lines, "", ""]) + found[3]

    return BLOCK.sub(block, text)


def grid(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Return a table in Markdown; the first column is text.

    >>> grid(["", "s"], [["bank", "1.0"]])
    ['| | s |', '|---|---:|', '| bank | 1.0 |']
    """
    lines = [" | ".join(["", *row, ""]).strip() for row in (headings, *rows)]
    lines = [re.sub(r"\|\s+\|", "| |", line) for line in lines]
    return [lines[0], "|---|" + "---:|" * (len(headings) - 1), *lines[1:]]


def middle(found: Mapping[str, Any], digits: int = 1) -> str:
    """Return ``median (lowest-highest)``; the median alone if there is one value.

    >>> middle({"median": 2.0, "lowest": 1.0, "highest": 3.0}), middle({"median": 2.0,
    ...     "lowest": 2.0, "highest": 2.0})
    ('2.0 (1.0-3.0)', '2.0')
    """
    low, high = found["lowest"], found["highest"]
    text = f"{found['median']:,.{digits}f}"
    return text if low == high else f"{text} ({low:,.{digits}f}-{high:,.{digits}f})"


def verdicts(result: Result) -> list[str]:
    """Return the goals, one a line."""
    return [
        "",
        *(
            f"- {one['goal']}: {'reached' if one['reached'] else 'missed'}"
            for one in result["goals"]
        ),
    ]


def _machine(results: Results) -> list[str]:
    for result in results.values():
        one = result["machine"]
        versions = ", ".join(
            f"{name} {one['packages'][name]}"
            for name in ("torch", "ray", "optuna", "numpy")
            if name in one["packages"]
        )
        return [f"{one['processor']}, {one['cores']} cores, {one['memory_gb']} GB; {versions}."]
    return []


def _peers(results: Results) -> list[str]:
    if "results" not in results:
        return []
    found, rows = results["results"], []
    for contest in found["contests"]:
        for who, row in contest["rows"].items():
            cost = middle(row["ms_per_patient_trial_epoch"], 2)
            ratio = contest["ratios"].get(f"{who}/ours")
            void = f" (void: {row['void']})" if row.get("void") else ""
            times = "1" if ratio is None else f"{ratio:.1f}"
            rows.append([f"{BACKBONES[contest['backbone']]}, {who}{void}", cost, times])
    whole = found["whole"]
    for peer, seconds in whole["peers_extrapolated_s"].items():
        ratio = whole["ratios"][f"{peer}/ours"]
        void = f" (void: {whole['void'][peer]})" if whole["void"][peer] else ""
        label = f"whole search, {peer}, extrapolated{void}"
        rows.append([label, f"{seconds:,.0f} s", f"{ratio:.1f}"])
    rows.append(["whole search, ours", f"{middle(whole['ours_wall_s'])} s", "1"])
    return [*grid(["", "ms per patient, trial, epoch", "x ours"], rows), *verdicts(found)]


def _fast(results: Results) -> list[str]:
    """Return how many times more the peers cost, by network: README's table."""
    if "results" not in results:
        return []
    found = results["results"]
    rows = []
    for contest in found["contests"]:
        cells = []
        for peer in ("plain", "tuned"):
            void = " (void)" if contest["rows"][peer].get("void") else ""
            cells.append(f"{contest['ratios'][f'{peer}/ours']:.0f}{void}")
        rows.append([f"one epoch of a trial, {BACKBONES[contest['backbone']]}", *cells])
    whole = found["whole"]
    cells = [
        f"{whole['ratios'][f'{peer}/ours']:.0f}{' (void)' if whole['void'][peer] else ''}"
        for peer in ("plain", "tuned")
    ]
    rows.append([f"a whole search, {whole['trials']} trials x {whole['epochs']} epochs", *cells])
    return grid(["times what ours costs", "plain", "tuned"], rows)


def _limit(results: Results) -> list[str]:
    there = [name for name in BACKBONES if f"limit_{name}" in results]
    if not there:
        return []
    found = [results[f"limit_{name}"] for name in there]
    rows = [
        [label, *(value(one) for one in found)]
        for label, value in (
            ("matrix peak, both cores, GFLOP/s", _rate("product_operations", 1e-9)),
            ("bare trunk, images/s", _rate("trunk_images")),
            ("bare head, samples/s trained", _rate("head_trained")),
            ("bare head, samples/s validated", _rate("head_validated")),
            ("share of the peak inside the head", lambda one: middle(one["share_of_peak"], 2)),
            ("bank at the bare rate, s", _search("bank_seconds")),
            ("- as it was, with processes, images, writing", _search("bank_step_seconds")),
            ("heads at the bare rate, s", _search("head_seconds")),
            ("- as they were", _search("epoch_seconds")),
            ("- with Ray, logs, the last trials' end", _search("search_step_seconds")),
            ("the whole search, s", _search("wall_seconds")),
            ("search / (bank + heads)", lambda one: middle(one["ratio"], 2)),
        )
    ]
    goals = [
        f"- {BACKBONES[name]}: {line.removeprefix('- ')}"
        for name, one in zip(there, found, strict=True)
        for line in verdicts(one)[1:]
    ]
    return [*grid(["", *(BACKBONES[name] for name in there)], rows), "", *goals]


def _rate(name: str, scale: float = 1.0) -> Callable[[Result], str]:
    return lambda one: f"{scale * one['rates'][0][name]:,.0f}"


def _search(name: str) -> Callable[[Result], str]:
    return lambda one: f"{one['searches'][0][name]:,.0f}"


def _profile(results: Results) -> list[str]:
    there = [name for name in BACKBONES if f"head_profile_{name}" in results]
    if not there:
        return []
    shares = []
    for name in there:
        seconds = results[f"head_profile_{name}"]["seconds"]
        shares.append({kind: 100 * s / sum(seconds.values()) for kind, s in seconds.items()})
    kinds = sorted({kind for one in shares for kind in one}, key=lambda kind: -shares[0][kind])
    rows = [[kind, *(f"{one.get(kind, 0.0):.0f}" for one in shares)] for kind in kinds]
    return grid(["% of the time", *(BACKBONES[name] for name in there)], rows)


def _tried(results: Results) -> list[str]:
    there = [name for name in BACKBONES if f"tried_{name}" in results]
    if not there:
        return []
    found = [results[f"tried_{name}"] for name in there]
    rows = [
        [way, *(middle(one["milliseconds"][topic][way], 2) for one in found)]
        for topic, ways in found[0]["milliseconds"].items()
        for way in ways
    ]
    rows += [
        [f"samples/s, trials {name}", *(f"{one['samples_a_second'][name]:,.0f}" for one in found)]
        for name in found[0]["samples_a_second"]
    ]
    return grid(["ms a batch, median (range)", *(BACKBONES[name] for name in there)], rows)


def _overhead(results: Results) -> list[str]:
    if "overhead" not in results:
        return []
    found = results["overhead"]
    rows = [
        [label, *(middle(found[key][who], digits) for who in ("ours", "raw"))]
        for key, label, digits in (
            ("milliseconds_a_trial", "ms a trial, all in all", 1),
            ("steady_milliseconds_a_trial", "ms from report to report", 1),
            ("seconds_to_first_report", "s to the first report", 2),
        )
    ]
    first = found["first_epoch"]
    return [
        *grid(["empty trials", "polartune", "Ray Tune alone"], rows),
        "",
        (
            f"From the command to the first epoch, bank warm: {middle(first['seconds'])} s, of "
            f"which computing it {middle(first['computing'])} s."
        ),
        *verdicts(found),
    ]


def _growth(results: Results) -> list[str]:
    if "growth" not in results:
        return []
    found, sizes = results["growth"], results["growth"]["settings"]
    trials, patients = found["trials"], found["patients"]
    rows = [
        [
            label,
            *(f"{one[name]:,.1f}" for name in ("command", "bank", "search")),
            f"{one['peak_bytes'] / 1000000000.0:.2f}",
        ]
        for label, one in (
            (f"{sizes['patients']:,} patients, {sizes['trials']} trials", trials["short"]),
            (f"{sizes['patients']:,} patients, {sizes['more_trials']} trials", trials["long"]),
            (f"{sizes['more_patients']:,} patients, {sizes['trials']} trials", patients["large"]),
        )
    ]
    return [*grid(["", "command, s", "bank, s", "search, s", "GB"], rows), *verdicts(found)]


def _quality(results: Results) -> list[str]:
    if "search_quality" not in results:
        return []
    found, lines = results["search_quality"], list[str]()
    for title, headings, rows in sheets(found):
        lines += [f"{title}:", "", *grid(headings, rows), ""]
    return [*lines, verdict(found)]


def _paper(results: Results) -> list[str]:
    if "paper_study" not in results:
        return []
    found = results["paper_study"]
    rows = [[name, f"{seconds:,.1f}"] for name, seconds in found["steps"].items()]
    rows.append(["all, from the command", f"{found['seconds']:,.1f}"])
    return [
        *grid(["step", "s"], rows),
        "",
        (
            f"{found['epochs']} epochs of five folds run of {found['epochs_without_pruning']} "
            f"({found['stopped']} of {found['trials']} trials stopped early); "
            f"{found['bank_images']:,} images through the trunk; bank {found['bank_gb']:.1f} GB; "
            f"memory without mapped files at most {found['peak_gb']:.2f} GB over all processes."
        ),
        *verdicts(found),
    ]


def _bootstrap(results: Results) -> list[str]:
    if "bootstrap" not in results:
        return []
    found = results["bootstrap"]
    rows = [
        [label, middle({k: 1e3 * found["seconds"][name][k] for k in KEYS}, 2)]
        for name, label in (
            ("ours", "ours, drawing included"),
            ("ours_statistics", "ours, AUC and accuracy alone"),
            ("loop", "loop over scikit-learn"),
        )
    ]
    return [
        *grid(["", "ms"], rows),
        "",
        (
            f"{middle(found['times_faster'], 0)} times as fast; the largest difference of any "
            f"value is {max(found['largest_difference'].values()):.1e}."
        ),
        *verdicts(found),
    ]


KEYS = ("median", "lowest", "highest")
BLOCKS: Blocks = {
    "machine": _machine,
    "fast": _fast,
    "peers": _peers,
    "limit": _limit,
    "profile": _profile,
    "tried": _tried,
    "overhead": _overhead,
    "growth": _growth,
    "quality": _quality,
    "paper": _paper,
    "bootstrap": _bootstrap,
}


def main(
    folder: Annotated[Path, typer.Option(help="Where the result files are.")] = FOLDER,
) -> None:
    """Write the measured figures into docs/speed.md and README.md."""
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        page.write_text(fill(text, read_results(folder)), encoding="utf-8")
        typer.echo(f"Wrote {page}")


if __name__ == "__main__":
    typer.run(main)
