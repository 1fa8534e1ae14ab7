"""A Ray cluster on this machine whose nodes crash and return, told by lines on stdin.

``python -m benchmarks.faults.nodes`` prints the address of its head, which runs no trials; then
``crash`` ends the worker node as a power failure would, and ``return`` adds another.
"""

from __future__ import annotations

import sys
from typing import Any

from ray.cluster_utils import Cluster

SLOTS = 2


def main() -> None:
    """Serve until stdin ends."""
    head = {"num_cpus": 0, "include_dashboard": False}  # its folder: ``ray`` in $TMPDIR
    cluster: Any = Cluster(initialize_head=True, head_node_args=head)
    node = cluster.add_node(num_cpus=SLOTS)
    cluster.wait_for_nodes()
    print(cluster.address, flush=True)
    for line in sys.stdin:
        if line.strip() == "crash":
            cluster.remove_node(node, allow_graceful=False)
        else:
            node = cluster.add_node(num_cpus=SLOTS)
        print(line.strip(), flush=True)
    cluster.shutdown()


if __name__ == "__main__":
    main()
