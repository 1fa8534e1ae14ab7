"""Several nodes on this machine that come, go and crash while work runs on them."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from patience import PATIENCE
from search_studies import MakeRun
from test_run import EVERY, outcome, run_search

from search.place import Place
from spaces.errors import BAD_INPUT, TERMINATED
from spaces.run_files import RunFiles, sha256_of
from spaces.trial_log import read_trials

pytestmark = pytest.mark.slow

TRIALS, EPOCHS = 12, 4
"""So many epochs get into the log before trials wait: one that is lost has some behind it."""
SCRIPT = Path(__file__).parent / "changing_cluster.py"

Play = Callable[[str, Path], dict[str, Any]]


@pytest.fixture
def play() -> Iterator[Play]:
    """Plays a scene in a process of its own, with a Ray of its own in a folder of its own."""
    with tempfile.TemporaryDirectory(prefix="pt-", ignore_cleanup_errors=True) as scratch:

        def scene(name: str, folder: Path) -> dict[str, Any]:
            done = subprocess.run(
                [sys.executable, str(SCRIPT), name, str(folder)],
                env={**os.environ, "RAY_TMPDIR": scratch, "RAY_AUTH_MODE": "disabled"},
                capture_output=True,
                text=True,
                check=False,
                timeout=PATIENCE,
            )
            assert done.returncode == 0, done.stderr[-3000:]
            return dict(json.loads(done.stdout.splitlines()[-1]))

        yield scene


def held_beside_undisturbed(make_run: MakeRun, place: Place) -> tuple[RunFiles, RunFiles]:
    """A run whose trials wait until the scene is played, and the same one, ended undisturbed."""
    undisturbed = make_run("undisturbed", trials=TRIALS)
    run_search(undisturbed, place)
    run = make_run("changing", trials=TRIALS)
    held = {"lambda": EVERY, "most": EPOCHS, "until": "played"}
    (run.root / "faults.json").write_text(json.dumps([held]))
    return run, undisturbed


def test_a_search_whose_nodes_change_ends_as_if_undisturbed(
    make_run: MakeRun, two_slots: Place, play: Play
) -> None:
    """All slots of nodes that join are used; every number ends once, with its undisturbed score."""
    run, undisturbed = held_beside_undisturbed(make_run, two_slots)
    played = play("search", run.root)
    assert played["seen"] == {
        "at first": 2,
        "after a node joined": 4,
        "after a crash and another node": 4,
    }
    trials = read_trials(run.trials)
    assert outcome(trials) == outcome(read_trials(undisturbed.trials))
    assert sum(trial.retries for trial in trials) == played["lost"] >= 2
    ended = [json.loads(line) for line in run.trials.read_text().splitlines()[1:]]
    numbers = [event["number"] for event in ended if event["event"] == "ended"]
    assert sorted(numbers) == list(range(TRIALS))


def test_a_piece_whose_node_is_lost_takes_the_slot_of_one_that_is_done(
    tmp_path: Path, play: Play
) -> None:
    played = play("slots", tmp_path)
    assert played["pieces"] == 4
    assert played["last"] != played["lost"]


def test_work_that_lasts_reaches_a_node_that_joins_and_leaves_an_unfit_one(
    tmp_path: Path, play: Play
) -> None:
    """As a search does: the unfit node is tried, and then left alone."""
    played = play("growth", tmp_path)
    assert played["used"] == [True, False]
    assert 1 <= played["back"] <= 2


def test_a_preflight_says_what_is_wrong_with_which_node(tmp_path: Path, play: Play) -> None:
    said = play("preflight", tmp_path)
    assert (said["fit"], said["marks"]) == ("", 0)
    assert said["too large"] == (
        "InputError the cluster: no slot of 8 CPUs was free within 0.05 minutes. `ray status` says "
        "what there is and what is asked for; see resources in the study."
    )
    start, _, rest = said["another torch"].partition(": torch must be ")
    assert start.startswith("RefusedError node ")
    assert "as on the driver, got 1.0. Start every node from one image" in rest
    assert ";" not in rest.split(". ")[0]
    if said["another disk"] is None:
        pytest.skip("this machine gives no process a disk of its own: no mount namespaces")
    assert said["another disk"].startswith("InputError node ")
    assert (
        f"{tmp_path}/run must be the driver's folder of that name, and another folder is in"
        in (said["another disk"])
    )


def test_an_unfit_node_that_joins_ends_no_search(
    make_run: MakeRun, two_slots: Place, play: Play
) -> None:
    """Its trials start again elsewhere; without a fit node all work ends, and says why."""
    run, undisturbed = held_beside_undisturbed(make_run, two_slots)
    played = play("unfit", run.root)
    assert played["failed"] == 0
    assert outcome(read_trials(run.trials)) == outcome(read_trials(undisturbed.trials))
    before, after = played["back"]
    assert 1 <= before <= 4
    assert after == before, "a trial was given to the unfit node again"
    searched, filled = played["alone"]
    assert searched == filled
    start, _, rest = searched.partition(": torch must be ")
    assert start.startswith("RefusedError node ")
    assert "as on the driver, got 1.0." in rest


def test_a_driver_whose_cluster_loses_its_head_says_so(
    make_run: MakeRun, two_slots: Place, play: Play
) -> None:
    run, undisturbed = held_beside_undisturbed(make_run, two_slots)
    played = play("head", run.root)
    assert played["code"] == TERMINATED
    told = r"polartune: Ray: the head at [0-9.]+:[0-9]+ has gone. The same command goes on from"
    assert re.match(told, played["told"])
    assert len(played["told"].splitlines()) == 1
    assert any(trial.state is None for trial in read_trials(run.trials))
    run_search(run, two_slots)
    assert outcome(read_trials(run.trials)) == outcome(read_trials(undisturbed.trials))


def test_a_driver_without_the_token_of_a_cluster_is_told_so(make_run: MakeRun, play: Play) -> None:
    """On one line and at once, where Ray itself says it twenty times."""
    played = play("token", make_run(trials=1).root)
    assert played.keys() == {"none", "wrong", "off"}
    for code, told in played.values():
        assert code == BAD_INPUT
        [line] = told.splitlines()
        assert re.match(
            r"--address .*: Ray refuses this user \(.*oken.*\)\. Set RAY_AUTH_MODE", line
        )


def test_a_cluster_without_nodes_gets_one_and_searches(make_run: MakeRun, play: Play) -> None:
    run = make_run(trials=2)
    assert play("empty", run.root) == {
        "said": ["Waiting for a slot of 1 CPU, at most 1 minutes."],
        "complete": 2,
    }


def test_a_bank_is_filled_on_two_nodes_as_on_one(phantom: Path, tmp_path: Path, play: Play) -> None:
    from small_runs import prepare_run

    from trainable.problem import fill_part, missing_parts

    one, two = (prepare_run(make(tmp_path / name), phantom) for name in ("one", "two"))
    for part in missing_parts(str(one.root), "cpu"):
        fill_part(str(one.root), "cpu", part)
    played = play("bank", two.root)
    assert (played["nodes"], played["left"]) == (2, 0)
    assert played["parts"] >= 2
    assert banks(tmp_path / "one") == banks(tmp_path / "two")


def make(folder: Path) -> Path:
    folder.mkdir()
    return folder


def banks(folder: Path) -> dict[str, str]:
    """The digest of every tensor file of the banks, by path."""
    found = (folder / "banks").rglob("*.safetensors")
    return {str(path.relative_to(folder)): sha256_of(path) for path in found}
