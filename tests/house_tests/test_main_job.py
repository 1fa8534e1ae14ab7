"""The main job as a user does it: one command from a study file to a report, and again."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from patience import PATIENCE, until

import polartune
from spaces import errors
from spaces.run_files import RunFiles
from spaces.study import read_study

pytestmark = pytest.mark.slow

HERE = Path(__file__).parent
STUDY = {
    "name": "small",
    "cohort": {
        "inputs": ["reserve"],
        "target": "impaired_any",
        "derive": {"impaired_any": {"below": 2.0}},
        "colour_scale": "fixed",
        "split": {"test": 20, "stratify": True},
    },
    "network": {"backbone": "efficientnet_lite0", "image_size": 32},
    "augmentation": {"views": 2},
    "space": {"augmentation_strength": {"choices": [0.0, 1.0]}},
    "training": {"epochs": 3, "batch_size": 16},
    "search": {"trials": 4, "grace": 1},
    "resources": {"device": "cpu", "slots": 1},
    "evaluation": {"bootstraps": 200, "seeds": 2},
}


def command(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "polartune", *words],
        cwd=folder,
        env={**os.environ, "COLUMNS": "80"},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


@pytest.fixture(scope="module")
def done(phantom: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A folder with a finished run, and what its command printed."""
    folder = tmp_path_factory.mktemp("job")
    content = STUDY | {"cohort": STUDY["cohort"] | {"path": str(phantom)}, "bank": {"path": "bank"}}
    (folder / "study.yaml").write_text(yaml.safe_dump(content))
    result = command(folder, "run", "study.yaml")
    assert result.returncode == errors.DONE, result.stderr
    assert result.stderr == ""
    return folder, result.stdout


def hashes(run: RunFiles) -> dict[str, bytes]:
    changing = {".log", ".lock"}
    return {
        str(path): path.read_bytes()
        for path in run.root.rglob("*")
        if path.is_file() and path.suffix not in changing and path.name not in changing
    }


def test_the_last_lines_say_the_answer_and_where_to_read_on(done: tuple[Path, str]) -> None:
    folder, shown = done
    run = RunFiles(folder / "runs" / "small")
    metrics = json.loads(run.metrics.read_text())
    best = json.loads(run.best.read_text())
    words = " ".join(shown.split())
    assert f"Cross-validation score {best['score']:.3f}" in words
    assert f"an AUC of {metrics['model']['auc']['estimate']:.2f}" in words
    assert "95 % interval" in words
    assert "logistic regression" in words
    assert [line.split()[-1] for line in shown.splitlines()[-3:]] == [
        "runs/small/report.html",
        "runs/small/best.yaml",
        "runs/small",
    ]
    assert max(map(len, shown.splitlines())) <= 80


def test_running_it_again_changes_no_byte_and_opens_nothing(done: tuple[Path, str]) -> None:
    folder, _ = done
    run = RunFiles(folder / "runs" / "small")
    before = hashes(run)
    assert command(folder, "run", "study.yaml").returncode == errors.DONE
    assert hashes(run) == before
    assert json.loads(run.metrics.read_text())["openings"] == 1


@pytest.mark.parametrize("step", ["search", "select", "retrain", "evaluate", "report", "status"])
def test_every_step_can_be_repeated_alone(done: tuple[Path, str], step: str) -> None:
    folder, _ = done
    run = RunFiles(folder / "runs" / "small")
    before = {name: path.read_bytes() for name, path in vital(run).items()}
    result = command(folder, step, "runs/small")
    assert result.returncode == errors.DONE, result.stderr
    assert {name: path.read_bytes() for name, path in vital(run).items()} == before


def start(folder: Path, moment: str, *code: str) -> subprocess.Popen[str]:
    """Start the command on the study of a folder, to be held at a moment; or ``code`` instead."""
    for name in ("held", "go"):
        (folder / "runs" / name).unlink(missing_ok=True)
    return subprocess.Popen(
        [sys.executable, "-c", *(code or ("import held; held.main()", "run", "study.yaml"))],
        cwd=folder,
        env={**os.environ, "HELD": moment, "PYTHONPATH": f"{HERE}{os.pathsep}{HERE.parent}"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def stopped(folder: Path, moment: str, sent: signal.Signals, *code: str) -> tuple[int, str]:
    """The exit code and the last words of what gets a signal while it is held at a moment."""
    started = start(folder, moment, *code)
    until(lambda: (folder / "runs" / "held").exists() or started.poll() is not None)
    started.send_signal(sent)
    if sent != signal.SIGKILL:
        (folder / "runs" / "go").touch()
    _, said = started.communicate(timeout=PATIENCE)
    return started.returncode, said


def test_interrupted_again_and_again_it_says_so_and_ends_with_the_same_answer(
    done: tuple[Path, str], tmp_path: Path
) -> None:
    """While the bank is filled, during two epochs, and between the models of retraining."""
    shutil.copy(done[0] / "study.yaml", tmp_path)
    run, undisturbed = (RunFiles(root / "runs" / "small") for root in (tmp_path, done[0]))
    told = "polartune: stopped. The same command goes on from here.\n"
    assert stopped(tmp_path, "bank", signal.SIGKILL)[0] == -signal.SIGKILL
    assert len(list((tmp_path / "bank").rglob("*.safetensors"))) == 1
    assert not run.trials.exists()
    assert stopped(tmp_path, "1", signal.SIGTERM) == (errors.TERMINATED, told)
    assert stopped(tmp_path, "5", signal.SIGINT) == (errors.INTERRUPTED, told)
    assert len(lines(run, "ended")) < len(lines(undisturbed, "ended"))
    assert stopped(tmp_path, "retrain", signal.SIGKILL)[0] == -signal.SIGKILL
    assert any((run.model / "folds").iterdir())
    assert not (run.model / "model.json").exists()
    assert command(tmp_path, "run", "study.yaml").returncode == errors.DONE
    assert_same_answer(run, undisturbed)


def assert_same_answer(run: RunFiles, undisturbed: RunFiles) -> None:
    assert [ending(event) for event in lines(run, "ended")] == [
        ending(event) for event in lines(undisturbed, "ended")
    ]
    for name in ("best.json", "model/model.safetensors", "oof/0.parquet"):
        assert (run.root / name).read_bytes() == (undisturbed.root / name).read_bytes()


# What ``polartune run`` does up to the search, with a checkpoint after every epoch: in a study
# of seconds no trial would have a minute to lose.
EAGER = """
from pathlib import Path
from rich.console import Console
from polartune.steps import begun, fill_bank, resumed
from search.run import search

with begun(Path("study.yaml"), Path("runs")) as (files, cohort):
    with resumed(files, cohort, None, Console()) as place:
        fill_bank(files, place, Console())
        search(files, place, console=None, opener="held:Problem", unsaved_seconds=-1.0)
"""


def test_a_killed_trial_goes_on_from_its_checkpoint_to_the_same_answer(
    done: tuple[Path, str], tmp_path: Path
) -> None:
    shutil.copy(done[0] / "study.yaml", tmp_path)
    run, undisturbed = (RunFiles(root / "runs" / "small") for root in (tmp_path, done[0]))
    assert stopped(tmp_path, "2", signal.SIGKILL, EAGER)[0] == -signal.SIGKILL
    assert [line["epoch"] for line in lines(run, "epoch")] == [1, 2]
    assert any(run.checkpoint_folder(0).glob("*.json"))
    assert not lines(run, "ended")
    continued = start(tmp_path, "1000")  # more than there are
    assert continued.communicate(timeout=PATIENCE) == (None, "")
    assert continued.returncode == errors.DONE
    assert_same_answer(run, undisturbed)
    assert (tmp_path / "runs" / "computed").read_text().split()[:3] == ["1", "2", "3"]


def lines(run: RunFiles, kind: str) -> list[dict[str, object]]:
    text = run.trials.read_text().splitlines() if run.trials.exists() else []
    return [event for event in map(json.loads, text) if event.get("event") == kind]


def ending(event: dict[str, object]) -> dict[str, object]:
    return {name: value for name, value in event.items() if name not in {"seconds", "retries"}}


def vital(run: RunFiles) -> dict[str, Path]:
    return {
        "trials": run.trials,
        "best": run.best_study,
        "model": run.model / "model.safetensors",
        "metrics": run.metrics,
        "report": run.report,
    }


def test_another_study_of_the_same_name_is_refused(done: tuple[Path, str]) -> None:
    folder, _ = done
    content = yaml.safe_load((folder / "study.yaml").read_text()) | {"seed": 7}
    (folder / "other.yaml").write_text(yaml.safe_dump(content))
    result = command(folder, "run", "other.yaml")
    assert result.returncode == errors.REFUSED
    assert "seed (0 -> 7)" in result.stderr


def test_ids_appear_in_no_text_of_the_run(done: tuple[Path, str], phantom: Path) -> None:
    import pandas as pd

    folder, shown = done
    ids = pd.read_csv(phantom, dtype=str)["patient_id"]
    texts = [shown.encode()] + [
        path.read_bytes() for path in (folder / "runs").rglob("*") if path.is_file()
    ]
    assert not [id_ for id_ in ids for text in texts if id_.encode() in text]


def test_best_yaml_runs_without_searching_and_says_the_same(done: tuple[Path, str]) -> None:
    folder, _ = done
    first = RunFiles(folder / "runs" / "small")
    assert read_study(first.best_study).is_fixed
    result = polartune.run(first.best_study, out=folder / "runs")
    assert result.root.name == "small-best"
    assert result.report.is_file()
    before, after = (
        json.loads((root / "model" / "model.json").read_text())["sha256"]
        for root in (first.root, result.root)
    )
    assert after == before
