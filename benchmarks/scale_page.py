"""``python -m benchmarks.scale_page``: puts measured figures into docs/scale.md.

As ``benchmarks.speed_page`` does for its page. What was not measured but follows from a measured
slope says so in its heading; a slope is taken from the largest size that was measured.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from benchmarks import scale, slopes
from benchmarks.measuring import FOLDER
from benchmarks.speed_page import (
    BACKBONES,
    Blocks,
    Result,
    Results,
    fill,
    grid,
    read_results,
    verdicts,
)
from benchmarks.speed_page import (
    BLOCKS as SPEED_BLOCKS,
)

PAGE = FOLDER.parent / "docs" / "scale.md"
PATIENTS, GPUS = 1_000_000, 1_000
# The plain image, and four views of each of the four other strengths of the default grid.
IMAGES_A_PATIENT = 1 + 4 * 4
EPOCHS = 10
COUNTED = slopes.EPOCHS


def _slots(results: Results) -> list[str]:
    if "scale" not in results:
        return []
    found = results["scale"]
    titles = [scale.name_of(one) for one in found["searches"]]
    slots = found["settings"]["slots"]
    rows = [[label, *cells] for label, cells in scale.rows_of(found["searches"])]
    return [*grid([f"{slots} slots", *titles], rows), *verdicts(found)]


def _slopes(results: Results) -> list[str]:
    if "slopes" not in results:
        return []
    rows = [list(row) for row in slopes.rows_of(dict(results["slopes"]))]
    return grid(["", "size", "each time"], rows)


def _far(results: Results) -> list[str]:
    if "slopes" not in results:
        return []
    found = results["slopes"]
    return grid(
        [f"by the slopes above, not measured: {PATIENTS:,} patients, {GPUS:,} slots", ""],
        [*_patient_rows(found), *_bank_rows(found), *_driver_rows(found, results)],
    )


def _patient_rows(found: Result) -> list[list[str]]:
    images, table, logits = found["images"], found["table"][-1], found["logits"][-1]
    hours = images["median"] / images["images"] * PATIENTS / 3600
    times, more = PATIENTS / table["rows"], PATIENTS / logits["patients"]
    # Each epoch writes the logits of all epochs before it again.
    written = logits["mb"] * more / 1e3 * (EPOCHS + 1) / 2
    return [
        ["images of one map, decoded and hashed once by the driver", f"{hours:,.1f} h"],
        ["the cohort table, in each slot's memory", f"{table['mb'] * times / 1e3:,.1f} GB"],
        ["the cohort table, read when a slot starts", f"{table['median'] * times:,.0f} s"],
        [
            f"logits, written in the {COUNTED}th epoch of a trial",
            f"{logits['median'] * more:,.1f} s, {logits['mb'] * more:,.0f} MB",
        ],
        [f"logits, written in all {EPOCHS} epochs of a trial", f"{written:,.1f} GB"],
    ]


def _bank_rows(found: Result) -> list[list[str]]:
    return [
        [
            f"bank of one map, {BACKBONES[name]}, `trainable_layers: {layers}`",
            f"{size * PATIENTS * IMAGES_A_PATIENT / 1e12:,.2f} TB",
        ]
        for name, sizes in found["bank_bytes"].items()
        for layers, size in sizes.items()
    ]


def _driver_rows(found: Result, results: Results) -> list[list[str]]:
    proposal, log = found["proposal"][-1], found["log"]
    rows = [
        [
            f"proposals a second, after {proposal['trials']:,} trials",
            f"{1 / proposal['median']:,.0f}",
        ],
        ["epochs a second that the log takes", f"{1 / log['median']:,.0f}"],
    ]
    if "scale" in results:
        one = results["scale"]["searches"][0]
        most = one["reports_a_second"] / one["driver_cpu_share"]
        rows += [
            ["epochs a second that fill one core with the driver", f"{most:,.0f}"],
            [
                f"so the shortest epoch at which {GPUS:,} slots do not wait for it",
                f"{GPUS / most:,.0f} s",
            ],
        ]
    return rows


def _faults(results: Results) -> list[str]:
    if "faults" not in results:
        return []
    found = results["faults"]
    rows = [
        [
            row["fault"],
            *(
                "" if row[name] is None else f"{row[name]:.1f}"
                for name in ("detected_after_s", "recovered_after_s", "work_lost_s")
            ),
            "yes" if row["held"] else "; ".join(row["did_not_hold"]),
        ]
        for row in found["rows"]
    ]
    headings = ["fault", "detected s", "recovered s", "lost s", "held"]
    held = sum(row["held"] for row in found["rows"])
    said = f"{held} of {len(rows)} held, in {found['seconds'] / 60:.1f} minutes."
    return [*grid(headings, rows), "", said, *verdicts(found)]


def _soak(results: Results) -> list[str]:
    if "soak" not in results:
        return []
    found, memory = results["soak"], results["soak"]["driver_mb"]
    said = (
        f"{found['trials']:,} trials on {found['settings']['slots']} slots in "
        f"{found['seconds'] / 60:.1f} minutes: {found['killed']} processes killed, "
        f"{found['started_again']} trials started again, {found['complete']:,} complete, "
        f"{found['failed']} failed. Driver: {memory['after_warm_up']:.0f} MB after warm-up, "
        f"{memory['at_the_end']:.0f} MB at the end."
    )
    return [said, *verdicts(found)]


BLOCKS: Blocks = {
    "machine": SPEED_BLOCKS["machine"],
    "growth": SPEED_BLOCKS["growth"],
    "slots": _slots,
    "slopes": _slopes,
    "far": _far,
    "faults": _faults,
    "soak": _soak,
}


def main(
    folder: Annotated[Path, typer.Option(help="Where the result files are.")] = FOLDER,
    page: Annotated[Path, typer.Option(help="The page to write.")] = PAGE,
) -> None:
    """Write the measured figures into docs/scale.md."""
    text = page.read_text(encoding="utf-8")
    page.write_text(fill(text, read_results(folder), BLOCKS), encoding="utf-8")
    typer.echo(f"Wrote {page}")


if __name__ == "__main__":
    typer.run(main)
