"""The fault matrix runs, and what it checks can fail."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmarks.faults.driver import processes_of
from benchmarks.faults.matrix import FAULTS, QUICK
from benchmarks.faults.oracles import Ending, judge, work_lost
from benchmarks.faults.problems import NOTES
from benchmarks.faults.scene import NAME, Scene
from spaces.run_files import RunFiles

HOME = Path(__file__).parents[2]


def test_every_fault_has_a_name_of_its_own_that_fits_its_column() -> None:
    names = [fault.name for fault in FAULTS]
    assert len(set(names)) == len(names)
    assert max(map(len, names)) <= 32
    assert set(names) >= QUICK


Played = tuple[Path, dict[str, Any]]


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Played]:
    """The folder of a quick matrix, with a path short enough for sockets, and its result file."""
    out = tmp_path_factory.mktemp("faults") / "faults.json"
    with tempfile.TemporaryDirectory(prefix="pf", ignore_cleanup_errors=True) as folder:
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.faults", "--quick", "--keep", folder, "--out", out],
            cwd=HOME,
            env={**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "80", "NO_COLOR": "1"},
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        lines = [line for line in done.stdout.splitlines() if "/" not in line]
        assert max(map(len, lines)) <= 80
        yield Path(folder), json.loads(out.read_text(encoding="utf-8"))


@pytest.mark.slow
def test_a_quick_matrix_holds_and_says_what_each_fault_cost(
    played: Played,
) -> None:
    _, result = played
    assert result["format"] == "polartune/benchmark-faults/1"
    rows = {row["fault"]: row for row in result["rows"]}
    assert rows.keys() == QUICK
    assert all(row["held"] and not row["did_not_hold"] for row in rows.values())
    killed = rows["trial's process killed"]
    assert 0 < killed["detected_after_s"] < 10
    assert 0 < killed["recovered_after_s"] < 30
    assert killed["work_lost_s"] > 0


def damaged_log(change: Callable[[dict[str, object]], object]) -> Callable[[Scene], None]:
    """Return a damage that changes each event of a log, or leaves it out."""

    def damage(scene: Scene) -> None:
        head, *lines = scene.run.trials.read_text(encoding="utf-8").splitlines()
        events = [json.loads(line) for line in lines]
        kept = [event for event in events if change(event) is not False]
        text = "\n".join([head, *map(json.dumps, kept)]) + "\n"
        scene.run.trials.write_text(text, encoding="utf-8")

    return damage


def flipped(name: str) -> Callable[[Scene], None]:
    def damage(scene: Scene) -> None:
        path = scene.run.root / name
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)

    return damage


def process_left(scene: Scene) -> None:
    subprocess.Popen(["sleep", "600"], env=scene.environment)


def scratch_left(scene: Scene) -> None:
    (scene.scratch / "polartune-left").mkdir(parents=True)


def computed_again(scene: Scene) -> None:
    line = json.dumps({"lambda": 0.5, "epoch": 1, "seconds": 61.0, "pid": 1}) + "\n"
    (scene.run.root.parent / NOTES).write_text(2 * line, encoding="utf-8")


def chose_another(scene: Scene) -> None:
    content = json.loads(scene.run.best.read_text(encoding="utf-8"))
    content["trial"] = content["ranking"][-1]["trial"]
    scene.run.best.write_text(json.dumps(content), encoding="utf-8")


DAMAGES = {
    "trial 2 ended 0 times": damaged_log(
        lambda event: (event["event"], event["number"]) != ("ended", 2)
    ),
    "asked ": damaged_log(lambda event: event["number"] != 3),
    "trial 1 differs in epochs": damaged_log(
        lambda event: (
            event["event"] != "epoch" or event["number"] != 1 or event.update(auc=[0.5] * 5)
        )
    ),
    "without a reason": damaged_log(
        lambda event: event["event"] != "ended" or event.update(reason="")
    ),
    "a silent restart": lambda scene: scene.run.trials.write_text("{}\n", encoding="utf-8"),
    "no Optuna export": lambda scene: scene.run.optuna_journal.unlink(),
    "the Optuna export differs": lambda scene: scene.run.optuna_journal.write_text(
        "\n".join(scene.run.optuna_journal.read_text(encoding="utf-8").splitlines()[:-1]) + "\n",
        encoding="utf-8",
    ),
    "model/model.safetensors differs": flipped("model/model.safetensors"),
    "0.parquet is not what the log says": flipped("oof/0.parquet"),
    "was chosen": chose_another,
    "best.json differs": flipped("best.json"),
    "61 s of one trial were computed again": computed_again,
    "1 processes left (sleep)": process_left,
    "scratch left": scratch_left,
    "heartbeats left": lambda scene: scene.run.heartbeats.mkdir(),
    "unfinished files left": lambda scene: (scene.run.root / ".x.1.partial").touch(),
}


@pytest.mark.slow
@pytest.mark.parametrize("expected", DAMAGES)
def test_every_oracle_can_fail(
    played: Played,
    expected: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("benchmarks.faults.oracles.LEAVING_SECONDS", 0.0)
    reference = played[0] / "reference"
    model = reference / "runs" / NAME / "model" / "model.safetensors"
    model.parent.mkdir(exist_ok=True)
    model.write_bytes(b"a quick matrix trains none")
    shutil.copytree(reference / "runs", tmp_path / "runs")
    scene = Scene(tmp_path, RunFiles(reference / "runs" / NAME), whole=True)
    scene.keep()
    assert judge(scene, Ending.UNDISTURBED) == []
    assert work_lost(scene) == 0.0
    DAMAGES[expected](scene)
    assert any(expected in found for found in judge(scene, Ending.UNDISTURBED))
    assert processes_of(f"TMPDIR={scene.scratch}") == []
