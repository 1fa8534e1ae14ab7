"""A small campaign: two inputs, a first step and a second; one split, one opening, one answer."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml
from patience import PATIENCE

from analysis.report.membership import FILE as MEMBERSHIP
from spaces import errors
from spaces.run_files import RunFiles

pytestmark = pytest.mark.slow

CAMPAIGN: dict[str, Any] = {
    "format": "polartune/campaign/1",
    "name": "all",
    "inputs": {"rest": ["rest"], "stack": ["rest", "reserve"]},
    "targets": ["impaired_any"],
    "transfer": {"from": "impaired_any", "targets": ["sex"]},
    "study": {
        "cohort": {
            "path": "cohort/cohort.csv",
            "derive": {"impaired_any": {"below": 2.0}},
            "colour_scale": "fixed",
            "split": {"test": 20},
        },
        "network": {"backbone": "efficientnet_lite0", "image_size": 32},
        "augmentation": {"views": 1},
        "space": {"augmentation_strength": {"choices": [0.0, 1.0]}},
        "training": {"epochs": 2, "batch_size": 16},
        "search": {"trials": 3, "generation": 2, "grace": 1},
        "resources": {"device": "cpu", "slots": 2},
        "evaluation": {"bootstraps": 200, "seeds": 2},
    },
}
STUDIES = ("impaired_any-rest", "impaired_any-stack", "sex-rest", "sex-stack")


def prepare(folder: Path, phantom: Path) -> Path:
    shutil.copytree(
        phantom.parent, folder / "cohort", ignore=lambda _, names: {"banks"} & set(names)
    )
    for ledger in (folder / "cohort").glob("*.openings.*"):
        ledger.unlink()
    (folder / "campaign.yaml").write_text(yaml.safe_dump(CAMPAIGN))
    return folder


def words(*more: str) -> list[str]:
    return [sys.executable, "-m", "polartune", "campaign", "campaign.yaml", *more]


def run(folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        words(),
        cwd=folder,
        env={**os.environ, "COLUMNS": "80"},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


@pytest.fixture(scope="module")
def done(phantom: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A folder with a finished campaign, and what its command printed."""
    folder = prepare(tmp_path_factory.mktemp("campaign"), phantom)
    result = run(folder)
    assert result.returncode == errors.DONE, result.stderr
    return folder, result.stdout


def runs(folder: Path) -> dict[str, RunFiles]:
    return {name: RunFiles(folder / "runs" / "all" / name) for name in STUDIES}


def openings(folder: Path) -> list[dict[str, object]]:
    [ledger] = (folder / "cohort").glob("*.openings.jsonl")
    return [json.loads(line) for line in ledger.read_text().splitlines()][1:]


def test_four_models_on_one_split_were_judged_in_one_opening(done: tuple[Path, str]) -> None:
    folder, _ = done
    splits = {run.split.read_bytes() for run in runs(folder).values()}
    assert len(splits) == 1
    [opening] = openings(folder)
    assert opening["run"] == "all"
    frozen = json.loads((folder / "runs" / "all" / "frozen.json").read_text())["studies"]
    assert set(frozen) == set(STUDIES)
    for name, run in runs(folder).items():
        metrics = json.loads(run.metrics.read_text())
        assert metrics["openings"] == 1
        assert not metrics["exploratory"]
        assert metrics["frozen_sha256"] == frozen[name]
        assert run.report.is_file()


def test_the_second_step_starts_from_the_first_of_the_same_input(done: tuple[Path, str]) -> None:
    models = {
        name: json.loads((run.model / "model.json").read_text())
        for name, run in runs(done[0]).items()
    }
    for maps in ("rest", "stack"):
        first, second = models[f"impaired_any-{maps}"], models[f"sex-{maps}"]
        assert second["first_step_sha256"] == first["sha256"]
        assert first["first_step_sha256"] is None


def test_a_bank_is_filled_once_for_all_studies_that_need_it(done: tuple[Path, str]) -> None:
    """The stack of rest and reserve adds reserve alone; a second target adds nothing."""
    filled = {
        name: [line for line in run.log.read_text().splitlines() if "parts to fill" in line]
        for name, run in runs(done[0]).items()
    }
    images = {name: int(lines[0].split(",")[-1].split()[0]) for name, lines in filled.items()}
    assert images["impaired_any-rest"] == images["impaired_any-stack"] > 0
    assert images["sex-rest"] == images["sex-stack"] == 0


def test_the_table_holds_every_study_and_its_words_are_printed(done: tuple[Path, str]) -> None:
    folder, shown = done
    frame = pd.read_csv(folder / "runs" / "all" / "campaign.csv")
    assert set(frame["target"] + "-" + frame["input"]) == set(STUDIES)
    assert frame.groupby("target")["headline"].sum().eq(1).all()
    best = frame.loc[frame.groupby("target")["score"].idxmax()]
    assert best["headline"].all()
    for row in frame.itertuples():
        metrics = json.loads(runs(folder)[f"{row.target}-{row.input}"].metrics.read_text())
        assert row.auc == pytest.approx(metrics["model"]["auc"]["estimate"])
        assert row.p == pytest.approx(metrics["permutation_p"])
        # Holm's correction of two tests: those of the other input are the only others of the step.
        [other] = frame.loc[(frame["target"] == row.target) & (frame["input"] != row.input), "p"]
        expected = 2 * row.p if row.p <= other else max(row.p, 2 * other)
        assert row.p_holm == pytest.approx(min(1.0, expected))
        told = json.loads((runs(folder)[f"{row.target}-{row.input}"].test / MEMBERSHIP).read_text())
        assert (told["p_holm"], told["family"]) == (row.p_holm, 2)
        said = "the headline input of its target" if row.headline else "secondary, as"
        assert f'<a href="../campaign.html">all</a>: {said}' in (
            runs(folder)[f"{row.target}-{row.input}"].report.read_text()
        )
        assert f"{row.auc:.2f}" in shown
    page = (folder / "runs" / "all" / "campaign.html").read_text()
    assert all(f'href="{name}/report.html"' in page for name in STUDIES)
    tables = set(re.findall(r'href="(report/[^"]+|campaign[^"]+)"', page))
    assert {"report/performance.csv", "report/patients_by_set.csv", "report/flow.csv"} <= tables
    assert all((folder / "runs" / "all" / name).is_file() for name in tables)
    # Why a trial was stopped is a line of its own, which a terminal's live table does not have.
    assert max(len(line) for line in shown.splitlines() if not line.startswith("[")) <= 80


def test_interrupted_twice_it_ends_the_same_side_by_side_and_opens_once(
    done: tuple[Path, str], phantom: Path, tmp_path: Path
) -> None:
    """With four slots two studies run at a time; numbers depend on neither slots nor company."""
    folder = prepare(tmp_path, phantom)
    # The key names patients in the split; without it the same patients are split differently.
    [key] = (done[0] / "cohort").glob("*.key")
    shutil.copy(key, folder / "cohort" / key.name)
    for name in ("impaired_any-rest", "sex-rest"):
        started = subprocess.Popen(words(), cwd=folder, stdout=subprocess.DEVNULL)
        trials = runs(folder)[name].trials
        while not (trials.exists() and '"event": "epoch"' in trials.read_text()):
            assert started.poll() is None
            time.sleep(0.02)
        started.send_signal(signal.SIGINT)
        assert started.wait(timeout=PATIENCE) == errors.INTERRUPTED
        wide = CAMPAIGN["study"] | {"resources": {"device": "cpu", "slots": 4}}
        (folder / "campaign.yaml").write_text(yaml.safe_dump(CAMPAIGN | {"study": wide}))
    assert not list((folder / "cohort").glob("*.openings.jsonl"))
    assert run(folder).returncode == errors.DONE
    assert len(openings(folder)) == 1
    for name, undisturbed in runs(done[0]).items():
        continued = runs(folder)[name]
        for file in ("best.json", "model/model.safetensors", "test/predictions.parquet"):
            assert (continued.root / file).read_bytes() == (undisturbed.root / file).read_bytes()


def test_running_it_again_opens_nothing(done: tuple[Path, str]) -> None:
    folder, _ = done
    before = (folder / "runs" / "all" / "campaign.csv").read_bytes()
    assert run(folder).returncode == errors.DONE
    assert len(openings(folder)) == 1
    assert (folder / "runs" / "all" / "campaign.csv").read_bytes() == before
