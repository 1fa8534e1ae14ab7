"""What a node is asked before a search, and what is said of its answer. Nodes: the slow tests."""

from __future__ import annotations

import socket
import sys
from collections.abc import Callable, Collection, Sequence
from functools import partial
from pathlib import Path

import pytest

from search.place import Place, SlotCount
from search.preflight import Answer, Node, look, preflight, refuse_faults
from search.workplace import CODE, Workplace, refuse_other_versions, versions
from spaces.environment import describe_computing
from spaces.errors import InputError, RefusedError
from spaces.run_files import RunFiles, read_json
from spaces.storage import outlasting

Answers = Callable[[Sequence[Path]], dict[Node, Answer]]


def test_a_node_leaves_a_file_for_the_driver_and_tells_its_versions(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    mark.mkdir()
    answer = look([mark], "node1")
    assert answer.faults == {}
    assert [path.name for path in mark.iterdir()] == ["node1"]
    assert answer.versions == versions()
    assert answer.versions["python"] == ".".join(map(str, sys.version_info[:3]))
    assert {"torch", "ray", CODE} <= answer.versions.keys()


def test_a_node_says_why_a_folder_cannot_be_used(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    mark = tmp_path / "full" / "mark"
    mark.mkdir(parents=True)
    (mark / "node1").symlink_to(mark / "none" / "file")  # as on a disk that takes nothing
    answer = look([tmp_path / "none" / "mark", tmp_path / "empty" / "mark", mark], "node1")
    assert answer.faults == {
        str(tmp_path / "none"): "it is not there",
        str(tmp_path / "empty"): "another folder is in its place",
        str(tmp_path / "full"): "it cannot write there (No such file or directory)",
    }


def test_a_folder_that_is_not_shared_is_an_input_error_that_names_the_node() -> None:
    refuse_faults("gpu-3", {})
    with pytest.raises(InputError) as caught:
        refuse_faults("gpu-3", {"/mnt/runs/demo": "it is not there"})
    assert str(caught.value) == (
        "node gpu-3: /mnt/runs/demo must be the driver's folder of that name, and it is not there. "
        "Mount the shared storage on every node, and work in it."
    )


def test_other_versions_are_refused_all_at_once() -> None:
    expected = {"python": "3.11.9", "torch": "2.14.1", CODE: "a" * 64}
    refuse_other_versions("gpu-3", dict(expected), expected)
    with pytest.raises(RefusedError) as caught:
        refuse_other_versions("gpu-3", {**expected, "torch": None, CODE: "b" * 64}, expected)
    assert str(caught.value) == (
        "node gpu-3: torch must be 2.14.1 as on the driver, got None; polartune's code must be "
        "equal to the driver's. Start every node from one image, or install constraints.txt on "
        "each."
    )


PLACE = Place(1, "cpu", 1, 0.0)
GPU_3 = Node("node1", "gpu-3")


@pytest.fixture
def answering(monkeypatch: pytest.MonkeyPatch) -> Callable[[Answers], None]:
    """Lets a preflight get a slot at once, and the answers of these nodes."""

    def answer(answers: Answers) -> None:
        monkeypatch.setattr("search.preflight._wait_for_slot", lambda *_: None)
        monkeypatch.setattr("search.preflight.ask_nodes", lambda _, marks: answers(marks))

    return answer


def test_a_preflight_says_how_long_it_waits_and_leaves_nothing(
    tmp_path: Path, answering: Callable[[Answers], None]
) -> None:
    said: list[str] = []
    folders = [tmp_path / "runs" / "new", tmp_path]
    answering(lambda marks: {GPU_3: look(marks, GPU_3.id)})
    preflight(Place(4, "cuda", 8, 0.5), folders, say=said.append, minutes=20)
    assert said == ["Waiting for a slot of 8 CPUs and 0.5 GPU, at most 20 minutes."]
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["new", "runs"]


def test_what_a_node_writes_must_arrive_at_the_driver(
    tmp_path: Path, answering: Callable[[Answers], None]
) -> None:
    answering(lambda _: {GPU_3: Answer(versions())})
    with pytest.raises(InputError, match=r"node gpu-3: .*, and what it writes does not arrive"):
        preflight(PLACE, [tmp_path], say=lambda _: None)
    assert list(tmp_path.iterdir()) == []


def test_a_preflight_refuses_other_versions_and_an_empty_cluster(
    tmp_path: Path, answering: Callable[[Answers], None]
) -> None:
    answering(lambda _: {GPU_3: Answer({**versions(), "ray": "1.0"})})
    with pytest.raises(RefusedError, match=r"node gpu-3: ray must be .* on the driver, got 1\.0"):
        preflight(PLACE, [tmp_path], say=lambda _: None)
    answering(lambda _: {})
    with pytest.raises(InputError, match="its last node has left"):
        preflight(PLACE, [tmp_path], say=lambda _: None)


@pytest.fixture
def workplace(tmp_path: Path) -> Callable[..., Workplace]:
    """What a driver with these versions gives to a node that joins."""
    RunFiles(tmp_path).study.touch()

    def give(opener: str = "builtins:print", **other: str) -> Workplace:
        expected = {**versions(), **other}
        return Workplace(str(tmp_path), "cpu", opener, expected)

    return give


@pytest.mark.parametrize("library", ["numpy", "pillow", "efficientnet-lite-pytorch"])
def test_a_node_that_joins_later_is_compared_before_it_opens_a_study(
    workplace: Callable[..., Workplace], library: str
) -> None:
    workplace().open()
    with pytest.raises(
        RefusedError, match=rf"{library} must be 0\.0\.7 as on the driver, got [0-9]"
    ):
        workplace(**{library: "0.0.7"}).open()


def test_what_nodes_must_share_is_what_a_log_is_begun_with() -> None:
    assert describe_computing().keys() - {CODE} <= versions().keys()


def test_a_node_without_the_run_says_so_after_it_has_waited(
    workplace: Callable[..., Workplace], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    waited: list[float] = []
    monkeypatch.setattr(
        "search.workplace.outlasting", partial(outlasting, seconds=0.5, sleep=waited.append)
    )
    RunFiles(tmp_path).study.unlink()
    with pytest.raises(InputError) as caught:
        workplace().open()
    assert waited
    assert str(caught.value) == (
        f"node {socket.gethostname()}: {tmp_path} must be the driver's folder of that name, and "
        "its study.yaml cannot be seen (No such file or directory). Mount the shared storage on "
        "every node, and work in it."
    )


def open_twice(run_root: str, device: str) -> str:
    """Opens a problem whose cohort, on another server, comes back."""
    told = Path(run_root) / "told"
    if told.exists():
        return device
    told.touch()
    return str(read_json(Path(run_root) / "absent.json", "cohort"))


def test_storage_that_is_away_while_a_study_is_opened_is_waited_for(
    workplace: Callable[..., Workplace], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("search.workplace.outlasting", partial(outlasting, sleep=lambda _: None))
    assert workplace(f"{__name__}:open_twice").open() == "cpu"


class GrowingPlace(Place):
    counts = iter(())

    def slots_now(self, unfit: Collection[str] = ()) -> int:
        return next(self.counts)


def test_slots_are_counted_every_five_seconds_and_a_change_is_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now, told = [0.0], []
    place = GrowingPlace(2, "cpu", 1, 0.0, grows=True)
    monkeypatch.setattr(GrowingPlace, "counts", iter([2, 6, 1]))
    count = SlotCount(place, [told.append], clock=lambda: now[0])
    for seconds in (1.0, 5.0, 6.0, 10.0, 16.0):
        now[0] = seconds
        count.look()
    assert told == [6, 1]


def test_slots_that_were_asked_for_are_not_counted() -> None:
    now = [0.0]
    count = SlotCount(GrowingPlace(2, "cpu", 1, 0.0), [], clock=lambda: now[0])
    now[0] = 99.0
    count.look()
