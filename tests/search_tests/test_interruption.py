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
from search_studies import MakeRun
from simulated_workload import notes
from test_run import EVERY, OPENER, outcome, run_search

from search.place import Place
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
TRIALS = 10
SLOW = [{"lambda": EVERY, "seconds": 0.1}]


def start(run: RunFiles, scratch: Path, slots: int = 2) -> subprocess.Popen[bytes]:
    (run.root / "faults.json").write_text(json.dumps(SLOW))
    path = os.pathsep.join([str(HERE.parents[1]), str(HERE)])
    environment = os.environ | {"PYTHONPATH": path, "TMPDIR": str(scratch)}
    command = [sys.executable, "-c", DRIVER, str(run.root), OPENER, str(slots)]
    return subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)


def wait_for_epochs(run: RunFiles, count: int) -> None:
    deadline = time.monotonic() + 60
    while sum(len(trial.epochs) for trial in read_trials(run.trials)) < count:
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.fixture
def undisturbed(make_run: MakeRun, two_slots: Place) -> list[tuple[object, ...]]:
    run = make_run("undisturbed", trials=TRIALS)
    run_search(run, two_slots, 1)
    return outcome(read_trials(run.trials))


def test_a_fresh_process_gives_the_same(
    make_run: MakeRun, undisturbed: list[tuple[object, ...]], scratch: Path
) -> None:
    run = make_run("fresh", trials=TRIALS)
    assert start(run, scratch).wait(timeout=120) == 0
    assert outcome(read_trials(run.trials)) == undisturbed


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
        before = sum(len(trial.epochs) for trial in read_trials(run.trials))
        driver = start(run, scratch, slots=draw.choice([1, 2, 3]))
        wait_for_epochs(run, before + draw.randint(1, 6))
        time.sleep(draw.uniform(0.0, 0.2))
        driver.send_signal(sent)
        assert driver.wait(timeout=60) in CODES[sent]
        # With one slot a signal may come between two trials, when none is running.
        assert sum(trial.state is not None for trial in read_trials(run.trials)) < TRIALS
    assert start(run, scratch, slots=2).wait(timeout=120) == 0
    assert outcome(read_trials(run.trials)) == undisturbed
    assert notes(run.root, "restored"), "no kill reached a checkpoint, so the test says too little"
    assert [path.name for path in scratch.glob("polartune-*")] == []
