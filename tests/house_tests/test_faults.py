"""The fault matrix runs, and what it checks can fail."""

from __future__ import annotations

import json
import mmap
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from filelock import FileLock
from patience import PATIENCE

from benchmarks.faults.driver import SHARED_MEMORY, named_memory, processes_of, shared_memory
from benchmarks.faults.files import truncate
from benchmarks.faults.matrix import FAULTS, QUICK
from benchmarks.faults.oracles import Ending, judge, work_lost
from benchmarks.faults.peer import NotPlayedError, Peer
from benchmarks.faults.peer_faults import CHECKPOINTS, damaged, leave_half
from benchmarks.faults.peer_faults import FAULTS as PEER_FAULTS
from benchmarks.faults.peer_script import STATE
from benchmarks.faults.peers import QUICK as PEER_QUICK
from benchmarks.faults.problems import NOTES
from benchmarks.faults.scene import NAME, Scene
from polartune.commands import _end_with_failures
from spaces.parameters import Configuration
from spaces.run_files import RunFiles
from spaces.trial_log import TrialLog, TrialRecord

HOME = Path(__file__).parents[2]


def test_every_fault_has_a_name_of_its_own_that_fits_its_column() -> None:
    names = [fault.name for fault in FAULTS]
    assert len(set(names)) == len(names)
    assert max(map(len, names)) <= 32
    assert set(names) >= QUICK


def test_failed_trials_are_told_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = TrialLog(RunFiles(tmp_path).trials)
    for number, state in enumerate(("complete", "failed", "failed")):
        configuration = Configuration(0.1 * number, 1e-3, 1e-2, 0.5)
        log.asked(number, configuration, "default")
        trial = TrialRecord(number, configuration, "default", state=state, reason=f"why {number}")
        log.ended(trial)
    with pytest.raises(typer.Exit) as ended:
        _end_with_failures(tmp_path)
    assert ended.value.exit_code == 3
    assert capsys.readouterr().err == "polartune: 2 of 3 trials failed: why 1\n"


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
            timeout=PATIENCE,
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
    assert 0 < killed["detected_after_s"] <= killed["recovered_after_s"]
    assert killed["work_lost_s"] > 0


def test_the_faults_of_the_peers_have_names_of_their_own() -> None:
    names = [fault.name for fault in PEER_FAULTS]
    assert len(set(names)) == len(names)
    assert set(names) >= PEER_QUICK


def test_a_fault_that_finds_nothing_to_damage_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed:
        def send(self, _: object) -> None: ...
        def wait(self, _: float) -> None: ...

    monkeypatch.setattr(Peer, "begin", lambda _: Killed())
    peer = Peer(tmp_path / "peer")
    checkpoint = peer.storage / "trial" / "checkpoint_000003" / STATE
    with pytest.raises(NotPlayedError, match="to damage"):
        damaged(CHECKPOINTS, truncate)(peer, [])
    checkpoint.parent.mkdir(parents=True)
    checkpoint.write_text("0123456789")
    monkeypatch.setattr(Peer, "go_on", lambda _: None)
    damaged(CHECKPOINTS, leave_half)(peer, [])
    damaged(CHECKPOINTS, truncate)(peer, [])
    following = peer.storage / "trial" / "checkpoint_000004" / STATE
    assert (checkpoint.read_text(), following.read_text()) == ("01234", "01")


def damaged_log(change: Callable[[dict[str, Any]], object]) -> Callable[[Scene], None]:
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


def memory_held(scene: Scene) -> object:
    """As Ray's is: without a name, and kept by a process that nobody knows."""
    with tempfile.TemporaryFile(dir=SHARED_MEMORY) as file:
        file.truncate(4096)
        held = mmap.mmap(file.fileno(), 4096)
    scene.memory |= shared_memory([os.getpid()])
    return held


def memory_named(scene: Scene) -> object:
    before = named_memory()
    file = tempfile.NamedTemporaryFile(dir=SHARED_MEMORY)  # noqa: SIM115  kept by the test
    scene.memory |= named_memory() - before
    return file


def lock_held(scene: Scene) -> object:
    lock = FileLock(scene.run.lock)
    lock.acquire()
    return lock


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
    "61.0 s of one trial were computed again": computed_again,
    "1 processes left (sleep)": process_left,
    "scratch left": scratch_left,
    "heartbeats left": lambda scene: scene.run.heartbeats.mkdir(),
    "the lock of the run is held": lock_held,
    "shared memory left": memory_held,
    "shared memory left:": memory_named,
    "no shared memory was seen": lambda scene: scene.drivers.append(None),
    "checkpoints/0 left": lambda scene: (scene.run.root / "checkpoints" / "0").mkdir(parents=True),
    "unfinished files left": lambda scene: (scene.run.root / ".x.1.partial").touch(),
}


# After a failed trial less can be compared.
DAMAGES_BESIDE_A_FAILURE = {
    "trial 1 differs in its epochs": DAMAGES["trial 1 differs in epochs"],
    "no trial can be compared": damaged_log(
        lambda event: event["event"] != "asked" or event["config"].update({"lambda": 0.123})
    ),
    "is complete and differs in score": damaged_log(
        lambda event: event.get("state") != "complete" or event.update(score=event["score"] + 0.01)
    ),
    "is complete and differs in oof_sha256": damaged_log(
        lambda event: event.get("state") != "complete" or event.update(oof_sha256="0" * 64)
    ),
    "0.parquet is not what the log says": flipped("oof/0.parquet"),
    "was chosen": chose_another,
}
DAMAGES_WITHOUT_A_TRIAL = {
    "something was chosen": lambda scene: scene.run.best.touch(),
    "something was chosen, and": lambda scene: scene.run.best_study.touch(),
    "something was chosen, and no": lambda scene: scene.run.model.mkdir(),
}
CASES = [
    *((Ending.UNDISTURBED, expected, damage) for expected, damage in DAMAGES.items()),
    *((Ending.SOME_FAILED, *pair) for pair in DAMAGES_BESIDE_A_FAILURE.items()),
    *((Ending.NONE_COMPLETE, *pair) for pair in DAMAGES_WITHOUT_A_TRIAL.items()),
]


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES, ids=[case[1] for case in CASES])
def test_every_oracle_can_fail(
    played: Played,
    case: tuple[Ending, str, Callable[[Scene], object]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ending, expected, damage = case
    monkeypatch.setattr("benchmarks.faults.oracles.LEAVING_SECONDS", 0.0)
    reference = played[0] / "reference"
    model = reference / "runs" / NAME / "model" / "model.safetensors"
    model.parent.mkdir(exist_ok=True)
    model.write_bytes(b"a quick matrix trains none")
    shutil.copytree(reference / "runs", tmp_path / "runs")
    scene = Scene(tmp_path, RunFiles(reference / "runs" / NAME), whole=True)
    scene.keep()
    if ending is Ending.NONE_COMPLETE:
        shutil.rmtree(scene.run.model)
        scene.run.best.unlink()
        scene.run.best_study.unlink()
    assert judge(scene, ending) == []
    assert work_lost(scene) == 0.0
    kept = damage(scene)  # what it holds, it holds until here
    assert any(expected in found for found in judge(scene, ending))
    del kept
    assert processes_of(f"TMPDIR={scene.scratch}") == []
