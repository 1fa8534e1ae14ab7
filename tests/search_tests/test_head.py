"""When Ray counts as gone, and what then becomes of the work, and of the process."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from patience import PATIENCE, until
from search_studies import MakeRun
from test_interruption import epochs
from test_run import EVERY, OPENER

from search import head
from search.head import KNOCKS, Doorbell, _watched, knock_at
from spaces.errors import RayLostError
from spaces.trial_log import read_trials


def test_a_head_is_gone_after_some_knocks_in_a_row_without_an_answer() -> None:
    answers = iter([False] * (KNOCKS - 1) + [True] + [False] * KNOCKS)

    def knock(address: str, _: float) -> None:
        assert address == "10.0.0.7:6379"
        if not next(answers):
            raise ConnectionRefusedError

    look = Doorbell("10.0.0.7:6379", knock=knock)
    assert [look() for _ in range(2 * KNOCKS - 1)] == [""] * (2 * KNOCKS - 1)
    assert look() == "the head at 10.0.0.7:6379 has gone"


def test_a_knock_is_answered_by_who_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        knock_at(address, 1.0)
    with pytest.raises(ConnectionRefusedError):
        knock_at(address, 1.0)


GONE = r"^Ray: its raylet ended\. The same command goes on from here\.$"


@pytest.fixture
def ended(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was ended of a Ray; a fake one, at which is looked all the time."""
    monkeypatch.setattr(head, "LOOK_SECONDS", 0.01)
    return []


def test_work_is_interrupted_where_the_process_lives_on(ended: list[str]) -> None:
    began = time.monotonic()
    with (
        pytest.raises(RayLostError, match=GONE),
        _watched(lambda: "its raylet ended", lambda: ended.append("Ray"), ends_process=False),
    ):
        time.sleep(60)
    assert time.monotonic() - began < 30
    assert ended == ["Ray"]
    time.sleep(0.05)  # no interrupt comes later


def test_what_work_meets_first_is_told_as_what_it_is(
    ended: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(head, "LOOK_SECONDS", 60)
    for why, raised in (("its raylet ended", RayLostError), ("", ConnectionError)):
        with (
            pytest.raises(raised),
            _watched(lambda why=why: why, lambda: ended.append("Ray"), ends_process=False),  # type: ignore[misc]
        ):
            raise ConnectionError("no socket")
    assert ended == ["Ray"]


def test_nothing_is_raised_while_ray_lives(ended: list[str]) -> None:
    with _watched(lambda: "", lambda: ended.append("Ray"), ends_process=False):
        time.sleep(0.05)
    assert ended == []


NOTEBOOK = """
import sys
from pathlib import Path
from search.place import connected
from search.run import search
from spaces.errors import RayLostError
from spaces.run_files import RunFiles
from spaces.sections import ResourcesSection

run = RunFiles(Path(sys.argv[1]))

def cell():
    with connected(ResourcesSection(device="cpu", slots=2), ends_process=False) as place:
        search(run, place, console=None, opener=sys.argv[2])

try:
    cell()
except RayLostError as error:
    print(error, flush=True)
cell()
print("done")
"""


@pytest.mark.slow
@pytest.mark.xfail(reason="a call to the head that was under way ends the process", strict=False)
@pytest.mark.parametrize("name", ["gcs_server", "raylet"])
def test_a_notebook_outlives_its_ray_and_goes_on(
    make_run: MakeRun, scratch: Path, name: str
) -> None:
    import psutil  # Ray brings it

    run = make_run(trials=6)
    (run.root / "faults.json").write_text(json.dumps([{"lambda": EVERY, "seconds": 0.1}]))
    here = Path(__file__).parent
    path = os.pathsep.join(map(str, [here.parents[1], here.parent, here]))
    notebook = subprocess.Popen(
        [sys.executable, "-c", NOTEBOOK, str(run.root), OPENER],
        env=os.environ | {"PYTHONPATH": path, "TMPDIR": str(scratch)},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        until(lambda: epochs(run) >= 3)
        ours = psutil.Process(notebook.pid).children()
        next(child for child in ours if child.name() == name).kill()
        told, _ = notebook.communicate(timeout=PATIENCE)
    finally:
        notebook.kill()
    assert told == f"Ray: its {name} ended. The same command goes on from here.\ndone\n"
    assert notebook.returncode == 0
    assert all(trial.state for trial in read_trials(run.trials))
    assert [path.name for path in scratch.glob("polartune-*")] == []
