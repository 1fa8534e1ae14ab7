"""A search from the command line to its end, with everything that a user waits for."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path
from typing import Any

from benchmarks.contest import PEERS, Contest, Say, extrapolated
from benchmarks.measuring import summarise
from benchmarks.timeline import Timeline, time_ours
from benchmarks.workload import LITE, Sizes, Workload, phantom_workload
from cohort.drawing.spectf import import_spectf
from cohort.table import read_cohort
from spaces.study import Study

TEST_SHARE = 0.3


def whole_workload(folder: Path, sizes: Sizes) -> tuple[Workload, str]:
    """Return SPECTF's stress maps, or as many phantoms, and what they are in words."""
    source = spectf_files()
    if source is None or sizes.whole_patients != Sizes().whole_patients:
        development = sizes.whole_patients - round(TEST_SHARE * sizes.whole_patients)
        work = phantom_workload(folder, LITE, development, sizes.pixels)
        return work, f"{development} development phantoms (no SPECTF files at hand)"
    folder.mkdir(parents=True)
    cohort: dict[str, Any] = {
        "path": str(import_spectf(source, folder / "cohort")),
        "inputs": ["stress"],
        "target": "diagnosis",
        "segments": "ratio",
        "colour_scale": "fixed",
        "split": {"test": TEST_SHARE, "stratify": True},
    }
    network = {"backbone": LITE, "image_size": sizes.pixels}
    study = Study.model_validate({"name": "spectf", "cohort": cohort, "network": network})
    development = len(read_cohort(study, folder, create_key=True).development.target)
    work = Workload(folder, cohort, network, development)
    return work, f"{development} development patients of SPECTF, stress maps"


def spectf_files() -> Path | None:
    """Return the folder with UCI's files, if it is there."""
    beside = Path(__file__).resolve().parents[2] / "shared" / "data" / "spectf"
    folder = Path(os.environ.get("POLARTUNE_SPECTF", beside))
    return folder if (folder / "SPECTF.train").is_file() else None


def measure_whole(
    work: Workload, words: str, contest: Contest, sizes: Sizes, *, deadline: float, say: Say
) -> dict[str, Any]:
    """Time our search with an empty bank, and let the peers' lines run to the same size.

    Args:
        work: the patients.
        words: what they are.
        contest: where the peers' lines come from.
        sizes: trials, epochs, repeats.
        deadline: on ``time.monotonic``; no further repeat begins that would end later.
        say: told what begins.
    """
    timelines: list[Timeline] = []
    for repeat in range(sizes.whole_repeats):
        if timelines and time.monotonic() + timelines[-1].wall > deadline:
            break
        say(f"a whole search of ours, repeat {repeat + 1} of {sizes.whole_repeats}")
        run = work.begin_run(
            f"whole_{repeat}",
            seed=repeat,
            epochs=sizes.whole_epochs,
            trials=sizes.whole_trials,
            bank=f"banks_{repeat}",
        )
        timelines.append(time_ours(run, sizes.whole_epochs))
        shutil.rmtree(work.folder / f"banks_{repeat}")
    walls = summarise([timeline.wall for timeline in timelines])
    trial_epochs = sizes.whole_trials * sizes.whole_epochs
    lines = {peer: extrapolated(contest, peer, trial_epochs, work.patients) for peer in PEERS}
    return {
        "patients": words,
        "trials": sizes.whole_trials,
        "epochs": sizes.whole_epochs,
        "ours_wall_s": walls,
        "ours_ms_per_patient_trial_epoch": summarise(
            [timeline.per_patient(work.patients) for timeline in timelines]
        ),
        "ours_start_up_and_bank_s": summarise([timeline.start_up for timeline in timelines]),
        "peers_extrapolated_s": lines,
        "ratios": {f"{peer}/ours": lines[peer] / walls["median"] for peer in PEERS},
        "void": {peer: contest.void(peer) for peer in PEERS},
    }
