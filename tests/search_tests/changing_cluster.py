"""A cluster on this machine whose nodes come, go and crash; run as a script, in its own process.

``python changing_cluster.py SCENE FOLDER`` plays one scene and prints what came of it as JSON.
"""

from __future__ import annotations

import atexit
import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parents[1]), str(HERE), str(HERE.parent)]
os.environ["PYTHONPATH"] = os.pathsep.join(sys.path[:3])
if sys.argv[1] == "token":  # Ray reads it when it is imported
    os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "1" * 64}

import patience  # noqa: E402
from ray.cluster_utils import Cluster  # noqa: E402

from search.place import Place, connected, living_nodes  # noqa: E402
from search.preflight import MARK, preflight  # noqa: E402
from search.run import search  # noqa: E402
from spaces.errors import UserError  # noqa: E402
from spaces.run_files import RunFiles  # noqa: E402
from spaces.sections import ResourcesSection  # noqa: E402

STORE = 80 * 1024 * 1024
SECONDS = 300
START = 8.0
# Less than a whole scene has, so that what never comes is said, and not that the scene lasts.
until = partial(patience.until, seconds=SECONDS / 3)
SIMULATED = "simulated_workload:open_problem"


def cluster_of(*cpus: int) -> tuple[Cluster, list[Any]]:
    """A head that runs nothing, as in cluster.yaml, and nodes with so many CPUs."""
    head = {"num_cpus": 0, "include_dashboard": False, "object_store_memory": STORE}
    # Its own way to end nodes at exit sets signal handlers, which a thread may not.
    cluster = Cluster(initialize_head=True, head_node_args=head, shutdown_at_exit=False)
    atexit.register(cluster.shutdown)
    return cluster, [join(cluster, count) for count in cpus]


def join(cluster: Cluster, cpus: int = 1, **more: Any) -> Any:
    return cluster.add_node(num_cpus=cpus, object_store_memory=STORE, **more)


def crash(cluster: Cluster, node: Any) -> None:
    cluster.remove_node(node, allow_graceful=False)


def played_beside(change: Callable[[], None], folder: Path) -> Future[None]:
    """Play changes in a thread; trials that wait for their end go on, however that is."""
    playing = ThreadPoolExecutor(1).submit(change)
    playing.add_done_callback(lambda _: (folder / "played").touch())
    return playing


def search_scene(folder: Path) -> dict[str, Any]:
    """A search on all slots there are, while two nodes join, one crashes and one is shut down."""
    run = RunFiles(folder)
    cluster, [first] = cluster_of(2)
    seen: dict[str, int] = {}

    def lost() -> int:
        return run.trials.read_text().count('"event": "lost"') if run.trials.exists() else 0

    def see(what: str, running: int) -> None:
        """Wait until so many trials run at the same time."""
        until(lambda: len(list(run.heartbeats.glob("*.json"))) == running)
        seen[what] = running

    def change() -> None:
        see("at first", 2)
        second = join(cluster, 2)
        see("after a node joined", 4)
        crash(cluster, first)
        until(lambda: lost() >= 1)
        join(cluster, 2)
        see("after a crash and another node", 4)
        before = lost()
        cluster.remove_node(second, allow_graceful=True)
        until(lambda: lost() > before)

    with connected(ResourcesSection(device="cpu"), address=cluster.address) as place:
        changes = played_beside(change, folder)
        outcome = search(run, place, console=None, opener=SIMULATED)
        changes.result()
    return {"seen": seen, "asked": outcome.asked, "lost": lost()}


def here() -> str:
    import ray

    return str(ray.get_runtime_context().get_node_id())


def piece(folder: str, number: int) -> str:
    """One piece of work; the first one lasts until its node is lost, and then is quick."""
    mark = Path(folder) / f"piece{number}"
    started = mark.exists()
    mark.write_text(here())
    if number == 0 and not started:
        time.sleep(SECONDS)
    return here()


def slots_scene(folder: Path) -> dict[str, Any]:
    """A piece whose node crashes while the other slot has nothing left to do."""
    cluster, nodes = cluster_of(1, 1)

    def crash_its_node(done: int, of: int) -> None:
        if done == of - 1:
            mark = folder / "piece0"
            until(lambda: mark.exists() and mark.read_text() != "")
            [node] = [node for node in nodes if node.node_id == mark.read_text()]
            lost.append(node.node_id)
            crash(cluster, node)

    lost: list[str] = []
    with connected(ResourcesSection(device="cpu"), address=cluster.address) as place:
        pieces = [(str(folder), number) for number in range(4)]
        done_on = place.run_on_slots(piece, pieces, progress=crash_its_node)
    return {"pieces": len(done_on), "last": done_on[0], "lost": lost[0]}


def held_piece(folder: str, number: int) -> str:
    """One piece of work; from the fourth on it lasts until the scene is played."""
    (Path(folder) / f"{here()}.node").touch()
    if number > 3:
        until((Path(folder) / "played").exists)
    return here()


def growth_scene(folder: Path) -> dict[str, Any]:
    """Pieces of work for longer than it takes two nodes to join, one of which is unfit."""
    cluster, _ = cluster_of(1)
    joined: list[str] = []
    told: list[str] = []
    (folder / "study.yaml").touch()
    logging.getLogger("search.fitness").addFilter(lambda line: not told.append(line.getMessage()))

    def change() -> None:
        until(lambda: len(list(folder.glob("*.node"))) == 1)
        joined.append(join(cluster).node_id)
        joined.append(join(cluster, **other_torch(folder)).node_id)
        until(lambda: len(list(folder.glob("*.node"))) == 2 and bool(told))
        # The fit slots are taken and the unfit one is free: long enough for a start on it.
        time.sleep(START)

    with connected(ResourcesSection(device="cpu"), address=cluster.address) as place:
        workplace = place.workplace(folder, SIMULATED)
        pieces = [(str(folder), number) for number in range(1, 9)]
        changes = played_beside(change, folder)
        done_on = place.run_on_slots(held_piece, pieces, workplace=workplace)
        changes.result()
    return {"used": [node in done_on for node in joined], "back": len(told)}


def told_by(function: Callable[..., Any], *arguments: Any, **options: Any) -> str:
    """What a user is told by what was called: nothing if it ends well."""
    try:
        function(*arguments, **options)
    except UserError as error:
        return f"{type(error).__name__} {error}"
    return ""


def says(place: Place, folder: Path, minutes: float = 1.0) -> str:
    """What a preflight says: nothing if the cluster is fit."""
    return told_by(preflight, place, [folder], say=lambda _: None, minutes=minutes)


def preflight_scene(folder: Path) -> dict[str, Any]:
    """A fit node; a trial too large for it; a node with another torch; one with another disk."""
    cluster, _ = cluster_of(1)
    (folder / "run").mkdir()
    found = {}
    with connected(ResourcesSection(device="cpu"), address=cluster.address) as place:
        found["fit"] = says(place, folder / "run")
        found["marks"] = len(list((folder / "run").glob(f"{MARK}*")))
        large = Place(1, "cpu", 8, 0.0)
        found["too large"] = says(large, folder / "run", minutes=0.05)
        other = join(cluster, **other_torch(folder))
        found["another torch"] = says(place, folder / "run")
        cluster.remove_node(other)
        found["another disk"] = with_another_disk(cluster, place, folder / "run")
    return found


def with_another_disk(cluster: Cluster, place: Place, folder: Path) -> str | None:
    """What is said of a node that has an empty disk where the run is; None where none can be had.

    A mount namespace of its own gives it one, which a container may forbid.
    """
    script = (
        'mount -t tmpfs none "$1" && exec "$2" -m ray.scripts.scripts start --block '
        '--address "$3" --num-cpus 1 --object-store-memory 80000000'
    )
    words = ["unshare", "-Urm", "sh", "-c", script, "sh", str(folder), sys.executable]
    if subprocess.run(["unshare", "-Urm", "true"], check=False, capture_output=True).returncode:
        return None
    nodes = len(living_nodes())
    log = (folder.parent / "node.log").open("w")
    node = subprocess.Popen([*words, cluster.address], stdout=log, stderr=log)
    try:
        until(lambda: len(living_nodes()) > nodes)
        return says(place, folder)
    finally:
        node.terminate()
        node.wait()


def other_torch(folder: Path) -> dict[str, Any]:
    """What makes a node that has another torch, to all appearances."""
    found = folder / "path" / "torch-1.0.dist-info"
    found.mkdir(parents=True)
    (found / "METADATA").write_text("Metadata-Version: 2.1\nName: torch\nVersion: 1.0\n")
    path = os.pathsep.join([str(folder / "path"), os.environ["PYTHONPATH"]])
    return {"env_vars": {"PYTHONPATH": path}}


def unfit_scene(folder: Path) -> dict[str, Any]:
    """A node with another torch joins a search; then a fit one; then the first one crashes.

    A second search, and other work, begin when the only node left is the unfit one.
    """
    run, second = RunFiles(folder), RunFiles(folder / "second")
    cluster, [first] = cluster_of(1)
    others: list[Any] = []

    def count(sign: str) -> int:
        return run.trials.read_text().count(sign) if run.trials.exists() else 0

    def running(number: int) -> None:
        until(lambda: len(list(run.heartbeats.glob("*.json"))) == number)

    def change() -> None:
        running(1)
        join(cluster, 2, **other_torch(folder))
        until(lambda: run.log.exists() and "gets no more work" in run.log.read_text())
        others.append(join(cluster))
        running(2)
        back.append(count('"counts": false'))
        crash(cluster, first)
        until(lambda: count('"counts": true') > 0)
        # The one fit slot is taken and the unfit ones are free: long enough for a start on these.
        time.sleep(START)

    back: list[int] = []
    with connected(ResourcesSection(device="cpu"), address=cluster.address) as place:
        changes = played_beside(change, folder)
        outcome = search(run, place, console=None, opener=SIMULATED)
        changes.result()
        back.append(count('"counts": false'))
        crash(cluster, others[0])
        second.root.mkdir()
        second.study.write_text(run.study.read_text())
        alone = [
            told_by(search, second, place, console=None, opener=SIMULATED),
            told_by(
                place.run_on_slots,
                piece,
                [(str(folder), 1)],
                workplace=place.workplace(run.root, SIMULATED),
            ),
        ]
    return {
        "complete": outcome.complete,
        "failed": outcome.failed,
        "back": back,
        "alone": alone,
    }


def in_a_process(scene: str, folder: Path, address: str, **environment: str) -> Any:
    """Start another scene of this file as a driver that can be lost, or ends by itself."""
    found = {name: value for name, value in (os.environ | environment).items() if value}
    return subprocess.Popen(
        [sys.executable, __file__, scene, str(folder), address],
        env=found,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def driver_scene(folder: Path) -> dict[str, Any]:
    """What ``polartune search`` does with the cluster at the address that is given."""
    try:
        with connected(ResourcesSection(device="cpu"), address=sys.argv[3]) as place:
            run = RunFiles(folder)
            search(run, place, console=None, opener=SIMULATED)
    except UserError as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(error.exit_code)
    return {}


def head_scene(folder: Path) -> dict[str, Any]:
    """The head of a cluster is killed in the middle of a search."""
    run = RunFiles(folder)
    cluster, _ = cluster_of(1)
    driver = in_a_process("driver", folder, cluster.address)
    until(lambda: run.trials.exists() and run.trials.read_text().count('"event": "epoch"') > 3)
    os.kill(cluster.head_node.all_processes["gcs_server"][0].process.pid, signal.SIGKILL)
    _, told = driver.communicate()
    return {"code": driver.returncode, "told": told}


def token_scene(folder: Path) -> dict[str, Any]:
    """Drivers without the token of a cluster, with that of another, and that know of no tokens."""
    cluster, _ = cluster_of(1)
    found = {}
    for name, mode, token in (("none", "token", ""), ("wrong", "token", "0" * 64), ("off", "", "")):
        given = {"RAY_AUTH_MODE": mode, "RAY_AUTH_TOKEN": token, "HOME": str(folder)}
        driver = in_a_process("driver", folder, cluster.address, **given)
        _, told = driver.communicate()
        found[name] = [driver.returncode, told]
    return found


def empty_scene(folder: Path) -> dict[str, Any]:
    """A cluster of nothing but a head, which gets its first node when it is asked for one."""
    run = RunFiles(folder)
    cluster, _ = cluster_of()
    said: list[str] = []
    with connected(ResourcesSection(device="cpu", slots=1), address=cluster.address) as place:
        threading.Timer(2.0, lambda: join(cluster)).start()
        preflight(place, [run.root], say=said.append, minutes=1.0)
        outcome = search(run, place, console=None, opener=SIMULATED)
    return {"said": said, "complete": outcome.complete}


def filled_here(run_root: str, device: str, part: Any) -> str:
    """Fill a part of a bank; return the node that did it, once each has begun one."""
    from trainable.problem import fill_part

    (Path(run_root) / f"{here()}.node").touch()
    until(lambda: len(list(Path(run_root).glob("*.node"))) == 2)
    fill_part(run_root, device, part)
    return here()


def bank_scene(folder: Path) -> dict[str, Any]:
    """The bank of a run is filled on two nodes."""
    from trainable.problem import missing_parts

    cluster, _ = cluster_of(1, 1)
    with connected(ResourcesSection(device="cpu"), address=cluster.address) as place:
        run_on_slots = partial(place.run_on_slots, workplace=place.workplace(folder))
        [parts] = run_on_slots(missing_parts, [(str(folder), "cpu")])
        done_on = run_on_slots(filled_here, [(str(folder), "cpu", part) for part in parts])
        [left] = run_on_slots(missing_parts, [(str(folder), "cpu")])
    return {"parts": len(parts), "nodes": len(set(done_on)), "left": len(left)}


SCENES = {
    "search": search_scene,
    "unfit": unfit_scene,
    "driver": driver_scene,
    "head": head_scene,
    "token": token_scene,
    "empty": empty_scene,
    "bank": bank_scene,
    "slots": slots_scene,
    "growth": growth_scene,
    "preflight": preflight_scene,
}

if __name__ == "__main__":
    signal.signal(signal.SIGALRM, lambda *_: sys.exit("the scene lasts too long"))
    signal.alarm(SECONDS)
    played = SCENES[sys.argv[1]](Path(sys.argv[2]))
    print(json.dumps(played))
