"""Drivers in processes of their own: fresh, killed, terminated."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from search_studies import MakeRun
from test_run import EVERY, OPENER, outcome, run_search

from search.place import Place
from search.run import search
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
from spaces.study import ResourcesSection

with connected(ResourcesSection(device="cpu", slots=2)) as place:
    search(RunFiles(Path(sys.argv[1])), place, console=None, opener=sys.argv[2])
"""
SLOW = [{"lambda": EVERY, "seconds": 0.1}]


@pytest.fixture
def scratch() -> Iterator[Path]:
    """A short path, for Ray's sockets; a killed driver cannot clean up behind itself."""
    with tempfile.TemporaryDirectory(prefix="pt-", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


def start(run: RunFiles, scratch: Path) -> subprocess.Popen[bytes]:
    (run.root / "faults.json").write_text(json.dumps(SLOW))
    path = os.pathsep.join([str(HERE.parents[1]), str(HERE)])
    environment = os.environ | {"PYTHONPATH": path, "TMPDIR": str(scratch)}
    command = [sys.executable, "-c", DRIVER, str(run.root), OPENER]
    return subprocess.Popen(command, env=environment)


def wait_for_epochs(run: RunFiles, count: int) -> None:
    deadline = time.monotonic() + 60
    while sum(len(trial.epochs) for trial in read_trials(run.trials)) < count:
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.fixture
def undisturbed(make_run: MakeRun, two_slots: Place) -> list[tuple[object, ...]]:
    run = make_run("undisturbed", trials=10)
    run_search(run, two_slots, 1)
    return outcome(read_trials(run.trials))


def test_a_fresh_process_gives_the_same(
    make_run: MakeRun, undisturbed: list[tuple[object, ...]], scratch: Path
) -> None:
    run = make_run("fresh", trials=10)
    assert start(run, scratch).wait(timeout=120) == 0
    assert outcome(read_trials(run.trials)) == undisturbed


@pytest.mark.parametrize(
    ("sent", "code"),
    [(signal.SIGKILL, -signal.SIGKILL), (signal.SIGTERM, 143), (signal.SIGINT, 1)],
)
def test_an_interrupted_search_continues_to_the_same_end(
    make_run: MakeRun,
    *,
    two_slots: Place,
    undisturbed: list[tuple[object, ...]],
    scratch: Path,
    sent: signal.Signals,
    code: int,
) -> None:
    run = make_run("interrupted", trials=10)
    driver = start(run, scratch)
    wait_for_epochs(run, 20)
    driver.send_signal(sent)
    assert driver.wait(timeout=60) in {code, -signal.SIGINT if sent == signal.SIGINT else code}
    left = read_trials(run.trials)
    assert any(trial.state is None for trial in left)
    assert any(trial.state is not None for trial in left)
    search(run, two_slots, console=None, opener=OPENER)
    assert outcome(read_trials(run.trials)) == undisturbed
