from __future__ import annotations

import contextlib
import io
import os
import shutil
import signal
import tempfile
import time
import zipfile
from pathlib import Path
from typing import Any

import pytest
import ray
from filelock import FileLock
from patience import PATIENCE, until
from ray.exceptions import AuthenticationError, RpcError

from search.place import Place, connected, place_of, slots_of
from search.reach import (
    UNNAMED_SECONDS,
    _keeping_signals,
    _scratch,
    _short_base,
    cluster_environment,
)
from search.refusal import authenticated, refused_at_once
from spaces.errors import InputError, RefusedError
from spaces.sections import ResourcesSection

SHORT, OTHER = "/tmp", "/var/tmp"  # noqa: S108  nothing is written there


def halve(value: int) -> int:
    if value % 2:
        raise InputError("cohort.csv row 7", f"must be even, got {value}", "Halve something else")
    time.sleep(0.01 * (16 - value))
    return value // 2


def halve_together(value: int, folder: str) -> tuple[int, int]:
    """Halve once two processes are at it."""
    (Path(folder) / str(os.getpid())).touch()
    until(lambda: len(list(Path(folder).iterdir())) == 2, 60)
    return halve(value), os.getpid()


def find_package(name: str) -> str:
    import importlib

    return str(importlib.import_module(name).__file__)


def test_results_come_in_order_from_two_processes(two_slots: Place, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    arguments = [(value, str(tmp_path)) for value in range(0, 16, 2)]
    results = two_slots.run_on_slots(
        halve_together, arguments, progress=lambda done, total: seen.append((done, total))
    )
    assert [half for half, _ in results] == list(range(8))
    assert len({process for _, process in results}) == 2
    assert seen == [(done, 8) for done in range(1, 9)]


def test_nothing_to_do_is_done(two_slots: Place) -> None:
    assert two_slots.run_on_slots(halve, []) == []


def test_a_user_error_arrives_as_it_was_raised(two_slots: Place) -> None:
    with pytest.raises(InputError, match=r"row 7: must be even, got 3\. Halve") as caught:
        two_slots.run_on_slots(halve, [(2,), (3,)])
    assert type(caught.value) is InputError
    assert caught.value.where == "cohort.csv row 7"


def test_nobody_else_reaches_our_ray(two_slots: Place) -> None:
    import psutil  # Ray brings it

    two_slots.run_on_slots(halve, [(2,), (4,)])
    us = psutil.Process()
    processes = [us, *us.children(recursive=True)]
    listening = set()
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):  # gone since they were listed
            listening |= {
                (process.name(), connection.laddr.ip)
                for connection in process.net_connections(kind="inet")
                if connection.status == psutil.CONN_LISTEN
            }
    assert {name for name, _ in listening} >= {"gcs_server", "raylet"}
    loopback = {"127.0.0.1", "::1", "::ffff:127.0.0.1"}
    assert {(name, address) for name, address in listening if address not in loopback} == set()


def test_sigterm_stays_with_the_driver(two_slots: Place) -> None:
    assert two_slots.slots == 2
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


@pytest.mark.parametrize(
    ("error", "tries"), [(AuthenticationError("token is wrong"), 1), (RpcError("busy"), 3)]
)
def test_a_cluster_that_refuses_a_token_is_asked_once_and_in_silence(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], error: Exception, tries: int
) -> None:
    """Ray asks again after any exception, and its client writes to stderr without Python."""
    asked: list[str] = []

    def connect(address: str) -> None:
        asked.append(address)
        os.write(2, b"gcs_client.cc:210: Failed\n")
        raise error

    monkeypatch.setattr("ray._private.node.GcsClient", connect)
    refused = pytest.raises(InputError, match=r"^--address a:1: Ray refuses .* .token is wrong")
    expected = refused if tries == 1 else contextlib.nullcontext()
    with expected, authenticated("--address a:1"), refused_at_once():
        for _ in range(3):
            with contextlib.suppress(Exception):
                ray._private.node.GcsClient("a:1")
    assert len(asked) == tries
    assert ray._private.node.GcsClient is connect
    assert capfd.readouterr().err == ""


def test_folders_of_dead_drivers_go_and_all_others_stay(tmp_path: Path) -> None:
    for name in ("polartune-dead", "polartune-unlocked", "other-dead"):
        (tmp_path / name).mkdir()
    for name in ("polartune-dead", "other-dead"):
        (tmp_path / name / "lock").touch()
    with _scratch(tmp_path) as living:
        with _scratch(tmp_path) as second:
            assert living != second
            assert {path.name for path in tmp_path.iterdir()} == {
                "polartune-unlocked",
                "other-dead",
                living.name,
                second.name,
            }
        assert living.exists()
        assert not second.exists()
    assert not living.exists()


def test_a_folder_that_a_dying_ray_still_writes_into_is_found_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left, remove = tmp_path / "polartune-dead", shutil.rmtree
    (left / "session").mkdir(parents=True)
    (left / "lock").touch()

    def remove_too_soon(path: Path, **how: bool) -> None:
        remove(path, **how)
        path.mkdir()

    monkeypatch.setattr(shutil, "rmtree", remove_too_soon)
    with _scratch(tmp_path):
        monkeypatch.undo()
        assert (left / "lock").exists()
    assert list(tmp_path.iterdir()) == []


def test_what_a_dying_ray_writes_after_its_folder_was_removed_goes_too(tmp_path: Path) -> None:
    (tmp_path / "polartune-dead" / "session_1" / "logs").mkdir(parents=True)
    (tmp_path / "polartune-mine" / "session_notes").mkdir(parents=True)
    (tmp_path / "polartune-mine" / "paper.txt").touch()
    with _scratch(tmp_path):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["polartune-mine"]


def test_a_temporary_folder_too_long_for_sockets_gives_way_to_a_short_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = tmp_path / ("x" * 60)
    long.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(long))
    assert _short_base() == Path(SHORT)
    monkeypatch.setattr(tempfile, "tempdir", OTHER)
    assert _short_base() == Path(OTHER)
    monkeypatch.setattr(tempfile, "tempdir", str(long))
    monkeypatch.setattr(os, "access", lambda path, _: str(path) != SHORT)
    with pytest.raises(InputError, match=r"^TMPDIR: its path must have at most \d+ characters"):
        _short_base()


def test_folders_of_drivers_that_died_before_they_named_them_go(tmp_path: Path) -> None:
    long_ago = time.time() - 2 * UNNAMED_SECONDS
    for name in (".polartune-locked", ".polartune-dead", ".polartune-unlocked", ".polartune-new"):
        (tmp_path / name).mkdir()
    for name in (".polartune-locked", ".polartune-dead"):
        (tmp_path / name / "lock").touch()
    with FileLock(tmp_path / ".polartune-locked" / "lock"):
        for name in (".polartune-locked", ".polartune-dead", ".polartune-unlocked"):
            os.utime(tmp_path / name, (long_ago, long_ago))
        with _scratch(tmp_path):
            left = {path.name for path in tmp_path.glob(".*")}
    assert left == {".polartune-locked", ".polartune-new"}


def test_sigterm_stays_with_a_driver_whose_ray_did_not_start() -> None:
    def of_ray(*_: object) -> None:
        """What Ray's own handler is here."""

    before = signal.getsignal(signal.SIGTERM)

    def fail() -> None:
        with _keeping_signals():
            signal.signal(signal.SIGTERM, of_ray)
            raise ValueError("no Ray")

    with pytest.raises(ValueError, match="no Ray"):
        fail()
    assert signal.getsignal(signal.SIGTERM) is before


def test_folders_of_other_users_are_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "polartune-dead").mkdir()
    (tmp_path / "polartune-dead" / "lock").touch()
    monkeypatch.setattr(os, "getuid", lambda: (tmp_path / "polartune-dead").stat().st_uid + 1)
    with _scratch(tmp_path):
        assert (tmp_path / "polartune-dead").exists()


def test_a_second_ray_is_refused(two_slots: Place) -> None:
    with (
        pytest.raises(RefusedError, match=r"ray\.shutdown"),
        connected(ResourcesSection(device="cpu", slots=1)),
    ):
        pass


@pytest.mark.parametrize(
    ("resources", "offered", "slots", "device"),
    [
        ({}, {"CPU": 4}, 4, "cpu"),
        ({"cpus_per_trial": 3}, {"CPU": 8}, 2, "cpu"),
        ({}, {"CPU": 16, "GPU": 2}, 2, "cuda"),
        ({"gpus_per_trial": 0.25}, {"CPU": 16, "GPU": 2}, 8, "cuda"),
        ({"gpus_per_trial": 1 / 3}, {"CPU": 16, "GPU": 1}, 3, "cuda"),
        ({"gpus_per_trial": 0.25, "cpus_per_trial": 4}, {"CPU": 16, "GPU": 2}, 4, "cuda"),
        ({"device": "cpu"}, {"CPU": 16, "GPU": 2}, 16, "cpu"),
        ({"gpus_per_trial": 2.0}, {"CPU": 16, "GPU": 1}, 16, "cpu"),
        ({"slots": 5}, {"CPU": 2}, 5, "cpu"),
    ],
)
def test_slots(
    resources: dict[str, Any], offered: dict[str, float], slots: int, device: str
) -> None:
    place = place_of(ResourcesSection(**resources), [offered], is_own=True)
    assert (place.slots, place.device) == (slots, device)
    assert (place.gpus > 0) is (device == "cuda")


def test_cuda_without_a_gpu_is_an_input_error() -> None:
    with pytest.raises(InputError, match="a trial needs 1 GPU on cuda, and there are 0"):
        place_of(ResourcesSection(device="cuda"), [{"CPU": 4}], is_own=True)
    empty = [{"CPU": 0}]
    asked = place_of(ResourcesSection(device="cuda", slots=4), empty, is_own=False)
    assert (asked.slots, asked.device, asked.grows) == (4, "cuda", False)


def test_on_a_cluster_all_slots_means_those_of_nodes_that_join_later_too() -> None:
    nodes = [{"CPU": 0}, {"CPU": 8, "GPU": 1}]
    place = place_of(ResourcesSection(cpus_per_trial=8), nodes, is_own=False)
    assert (place.slots, place.device, place.grows) == (1, "cuda", True)
    assert not place_of(ResourcesSection(), nodes, is_own=True).grows


def test_a_slot_lies_whole_on_one_node() -> None:
    nodes = [{"CPU": 3, "GPU": 1}, {"CPU": 3}, {"CPU": 1, "GPU": 1}]
    assert slots_of(nodes, 2, 0.0) == 2
    assert slots_of(nodes, 2, 1.0) == 1
    assert slots_of(nodes, 1, 0.5) == 3
    with pytest.raises(InputError, match="a trial needs 2 GPU on cuda, and there are 1"):
        place_of(ResourcesSection(device="cuda", gpus_per_trial=2.0), nodes, is_own=False)


def test_what_computes_must_be_said_while_a_cluster_is_empty() -> None:
    with pytest.raises(InputError, match=r"none that could run a trial is there yet. Say cuda or"):
        place_of(ResourcesSection(slots=4), [{"CPU": 0}], is_own=False)


def test_a_cluster_without_cpus_is_an_input_error() -> None:
    with pytest.raises(InputError, match="a trial needs 2 CPUs, 1 are there"):
        place_of(ResourcesSection(cpus_per_trial=2), [{"CPU": 1}], is_own=False)


def archive_of(folder: str, target: Path) -> list[str]:
    """The names in the archive that Ray makes of a py_modules folder."""
    from ray._private.runtime_env import packaging

    file = target / f"{Path(folder).name}.zip"  # Ray leaves a file that is there as it is
    packaging.create_package(
        folder, file, include_gitignore=True, include_parent_dir=True, excludes=[]
    )
    with zipfile.ZipFile(io.BytesIO(file.read_bytes())) as archive:
        return archive.namelist()


# What the packages hold beside code and pages: simulations and wordings, nothing of a patient.
OUR_DATA = {
    "analysis/judge/coverage.json",
    "analysis/judge/optimism.json",
    "analysis/report/checklists.csv",
    "analysis/use/model_card.md",
}


def test_a_cluster_is_sent_our_code_and_nothing_else(tmp_path: Path) -> None:
    environment = cluster_environment()
    folders = [Path(folder).name for folder in environment["py_modules"]]
    assert folders == ["spaces", "cohort", "trainable", "search", "analysis"]
    assert set(environment) == {"py_modules", "env_vars"}
    others = set()
    for folder in environment["py_modules"]:
        names = [name for name in archive_of(folder, tmp_path) if not name.endswith("/")]
        assert {Path(name).parts[0] for name in names} == {Path(folder).name}
        others |= {name for name in names if Path(name).suffix not in {".py", ".html", ".css"}}
    assert others == OUR_DATA


@pytest.mark.slow
def test_a_cluster_at_an_address_runs_our_code() -> None:
    """Joins a Ray that was started for others from a process whose folder is elsewhere."""
    import subprocess
    import sys

    code = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from ray.cluster_utils import Cluster\n"
        "from search.place import connected\n"
        "from spaces.sections import ResourcesSection\n"
        "from spaces.parameters import first_configurations, Space\n"
        "def check(): import search.actor; return search.actor.__file__\n"
        "head = {'num_cpus': 1, 'include_dashboard': False}\n"
        "cluster = Cluster(initialize_head=True, head_node_args=head)\n"
        "resources = ResourcesSection(device='cpu', slots=1)\n"
        "with connected(resources, address=cluster.address) as place:\n"
        "    print(place.run_on_slots(check, [()])[0])\n"
        "cluster.shutdown()\n"
    )
    root = str(Path(__file__).parents[2])
    found = subprocess.run(
        [sys.executable, "-c", code, root],
        capture_output=True,
        text=True,
        check=False,
        cwd="/",
        timeout=PATIENCE,
    )
    assert found.returncode == 0, found.stderr
    assert "py_modules" in found.stdout


def test_an_address_that_does_not_answer_says_what_to_do() -> None:
    import subprocess
    import sys

    code = (
        "from search.place import connected\n"
        "from spaces.errors import InputError\n"
        "from spaces.sections import ResourcesSection\n"
        "try:\n"
        "    with connected(ResourcesSection(), address='127.0.0.1:1'): pass\n"
        "except InputError as error: print(error)\n"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "no Ray cluster answers" in found.stdout
    assert "ray up cluster.yaml" in found.stdout
