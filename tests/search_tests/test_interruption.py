"""Drivers in processes of their own: fresh, killed, terminated."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from patience import PATIENCE, until
from search_studies import MakeRun
from simulated_workload import notes
from test_run import EVERY, OPENER, outcome, run_search

from search.place import Place
from search.reach import _scratch
from spaces.run_files import RunFiles
from spaces.trial_log import read_trials

pytestmark = pytest.mark.slow

HERE = Path(__file__).parent
DRIVER = """
import sys
from pathlib import Path
from search.place import connected
from search.run import search
from spaces.run_files import RunFiles
from spaces.sections import ResourcesSection

with connected(ResourcesSection(device="cpu", slots=int(sys.argv[3]))) as place:
    run = RunFiles(Path(sys.argv[1]))
    search(run, place, console=None, opener=sys.argv[2], unsaved_seconds=-1.0)
"""
TRIALS = 16
AHEAD = 3
"""Epochs that a search may be ahead of the signal: who sends it late finds it waiting."""


def start(
    run: RunFiles, scratch: Path, slots: int = 2, most: int = 1000
) -> subprocess.Popen[bytes]:
    """Start a driver; once so many epochs are in the log, its trials wait for a file ``go``."""
    slow = {"lambda": EVERY, "seconds": 0.1, "most": most, "until": "go"}
    (run.root / "go").unlink(missing_ok=True)
    (run.root / "faults.json").write_text(json.dumps([slow]))
    path = os.pathsep.join(map(str, (HERE.parents[1], HERE, HERE.parent)))
    environment = os.environ | {"PYTHONPATH": path, "TMPDIR": str(scratch)}
    command = [sys.executable, "-c", DRIVER, str(run.root), OPENER, str(slots)]
    return subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)


def epochs(run: RunFiles) -> int:
    return sum(len(trial.epochs) for trial in read_trials(run.trials))


@pytest.fixture
def undisturbed(make_run: MakeRun, two_slots: Place) -> list[tuple[object, ...]]:
    run = make_run("undisturbed", trials=TRIALS)
    run_search(run, two_slots, 1)
    return outcome(read_trials(run.trials))


def test_a_fresh_process_gives_the_same(
    make_run: MakeRun, undisturbed: list[tuple[object, ...]], scratch: Path
) -> None:
    run = make_run("fresh", trials=TRIALS)
    assert start(run, scratch).wait(timeout=PATIENCE) == 0
    assert outcome(read_trials(run.trials)) == undisturbed


def left_for_the_next(scratch: Path) -> list[Path]:
    """What is left once another driver came and went: a killed Ray may write until it is gone."""
    with _scratch(scratch):
        pass
    return list(scratch.glob("polartune-*"))


CODES = {
    signal.SIGINT: {1, -signal.SIGINT},  # Python's own for KeyboardInterrupt; the command's is 130
    signal.SIGTERM: {143},
    signal.SIGKILL: {-signal.SIGKILL},
}


def test_a_search_interrupted_again_and_again_ends_as_if_undisturbed(
    make_run: MakeRun, undisturbed: list[tuple[object, ...]], scratch: Path
) -> None:
    """Each signal twice, in any order, at any moment, with one, two or three slots."""
    draw = random.Random(4)  # noqa: S311  a die, not a secret
    signals = draw.sample([*CODES, *CODES], 2 * len(CODES))
    run = make_run("interrupted", trials=TRIALS)
    for sent in signals:
        wanted = epochs(run) + draw.randint(1, 6)
        driver = start(run, scratch, draw.choice([1, 2, 3]), wanted + AHEAD)
        until(lambda wanted=wanted: epochs(run) >= wanted)
        time.sleep(draw.uniform(0.0, 0.2))
        driver.send_signal(sent)
        (run.root / "go").touch()
        assert driver.wait(timeout=PATIENCE) in CODES[sent]
        # With one slot a signal may come between two trials, when none is running.
        assert sum(trial.state is not None for trial in read_trials(run.trials)) < TRIALS
    assert start(run, scratch).wait(timeout=PATIENCE) == 0
    assert outcome(read_trials(run.trials)) == undisturbed
    assert notes(run.root, "restored"), "no kill reached a checkpoint, so the test says too little"
    until(lambda: left_for_the_next(scratch) == [])
