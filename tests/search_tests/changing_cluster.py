"""A cluster on this machine whose nodes come, go and crash; run as a script, in its own process.

``python changing_cluster.py SCENE FOLDER`` plays one scene and prints what came of it as JSON.
"""

from __future__ import annotations

import atexit
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parents[1]), str(HERE)]
os.environ["PYTHONPATH"] = os.pathsep.join([str(HERE.parents[1]), str(HERE)])

from ray.cluster_utils import Cluster  # noqa: E402

from search.place import Place, connected, living_nodes  # noqa: E402
from search.preflight import MARK, preflight  # noqa: E402
from search.run import search  # noqa: E402
from spaces.errors import UserError  # noqa: E402
from spaces.run_files import RunFiles  # noqa: E402
from spaces.sections import ResourcesSection  # noqa: E402

STORE = 80 * 1024 * 1024
SECONDS = 100


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


def until(condition: Callable[[], bool], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it never came"
        time.sleep(0.05)


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
        (folder / "played").touch()

    changes = threading.Thread(target=change, daemon=True)
    with connected(ResourcesSection(device="cpu"), address=cluster.address) as place:
        changes.start()
        outcome = search(run, place, console=None, opener="simulated_workload:open_problem")
    changes.join(timeout=10)
    return {"seen": seen, "asked": outcome.asked, "lost": lost(), "played": not changes.is_alive()}


def piece(folder: str, number: int) -> str:
    """One piece of work; the last one lasts until its node is lost, and then is quick."""
    import ray

    node = ray.get_runtime_context().get_node_id()
    started = Path(folder) / f"piece{number}"
    if number == 0 and not started.exists():
        started.write_text(node)
        time.sleep(300)
    time.sleep(0.1)
    return str(node)


def slots_scene(folder: Path) -> dict[str, Any]:
    """A piece whose node crashes while the other slot has nothing left to do."""
    cluster, nodes = cluster_of(1, 1)

    def crash_its_node() -> None:
        started = folder / "piece0"
        until(lambda: started.exists() and started.read_text() != "")
        time.sleep(3)  # the others are done by now
        [node] = [node for node in nodes if node.node_id == started.read_text()]
        crash(cluster, node)

    with connected(ResourcesSection(device="cpu"), address=cluster.address) as place:
        threading.Thread(target=crash_its_node, daemon=True).start()
        done_on = place.run_on_slots(piece, [(str(folder), number) for number in range(4)])
    return {"pieces": len(done_on), "last": done_on[0], "lost": (folder / "piece0").read_text()}


def growth_scene(folder: Path) -> dict[str, Any]:
    """Pieces of work for longer than it takes a node to join."""
    cluster, _ = cluster_of(1)
    joined: list[str] = []

    def progress(done: int, _: int) -> None:
        if done == 3:
            joined.append(join(cluster).node_id)

    with connected(ResourcesSection(device="cpu"), address=cluster.address) as place:
        arguments = [(str(folder), number) for number in range(1, 101)]
        done_on = place.run_on_slots(piece, arguments, progress=progress)
    return {"nodes": len(set(done_on)), "used": joined[0] in done_on}


def says(place: Place, folder: Path, minutes: float = 1.0) -> str:
    """What a preflight says: nothing if the cluster is fit."""
    try:
        preflight(place, [folder], say=lambda _: None, minutes=minutes)
    except UserError as error:
        return f"{type(error).__name__} {error}"
    return ""


def preflight_scene(folder: Path) -> dict[str, Any]:
    """A fit node; a trial too large for it; a node with another torch; one with another disk."""
    cluster, _ = cluster_of(1)
    (folder / "run").mkdir()
    (folder / "path" / "torch-1.0.dist-info").mkdir(parents=True)
    (folder / "path" / "torch-1.0.dist-info" / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: torch\nVersion: 1.0\n"
    )
    found = {}
    with connected(ResourcesSection(device="cpu"), address=cluster.address) as place:
        found["fit"] = says(place, folder / "run")
        found["marks"] = len(list((folder / "run").glob(f"{MARK}*")))
        large = Place(1, "cpu", 8, 0.0)
        found["too large"] = says(large, folder / "run", minutes=0.05)
        path = os.pathsep.join([str(folder / "path"), os.environ["PYTHONPATH"]])
        other = join(cluster, env_vars={"PYTHONPATH": path})
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


SCENES = {
    "search": search_scene,
    "slots": slots_scene,
    "growth": growth_scene,
    "preflight": preflight_scene,
}

if __name__ == "__main__":
    signal.signal(signal.SIGALRM, lambda *_: sys.exit("the scene lasts too long"))
    signal.alarm(SECONDS)
    played = SCENES[sys.argv[1]](Path(sys.argv[2]))
    print(json.dumps(played))
