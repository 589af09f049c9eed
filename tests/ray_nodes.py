"""Ray nodes on this machine, for tests: a process that starts and removes them as its standard input says.

    python tests/ray_nodes.py TEMPORARY_FOLDER

`add CPUS GPUS` starts a node and answers with the process id of its raylet, `remove ID` kills that node as if its plug
were pulled; the first line is the cluster's address. Without input any more it ends, and all nodes with it.
"""

import os
import pathlib
import sys
import tempfile

os.environ["RAY_USAGE_STATS_ENABLED"] = "0"

import ray_agents  # noqa: F401  nodes that don't wait for their agents
from ray.cluster_utils import Cluster

MEMORY = 80 * 2**20  # bytes of a node's object store: Ray's smallest


def main():
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what Ray prints is no answer
    cluster, nodes = None, {}
    for line in sys.stdin:
        verb, *arguments = line.split()
        if verb == "add":
            options = {"num_cpus": int(arguments[0]), "num_gpus": int(arguments[1]), "object_store_memory": MEMORY}
            if cluster is None:
                # Ray notes its newest cluster in a folder that it only makes where the nodes use it themselves.
                pathlib.Path(os.environ.get("RAY_TMPDIR", tempfile.gettempdir()), "ray").mkdir(exist_ok=True)
                cluster = Cluster(initialize_head=True, head_node_args={
                    **options, "include_dashboard": False, "temp_dir": sys.argv[1]})
                node = cluster.head_node
                answers.write(f"{cluster.address}\n")
            else:
                node = cluster.add_node(**options)
            pid = node.all_processes["raylet"][0].process.pid
            nodes[pid] = node
            answers.write(f"{pid}\n")
        elif verb == "remove":
            cluster.remove_node(nodes.pop(int(arguments[0])), allow_graceful=False)
            answers.write("removed\n")
    cluster.shutdown()


if __name__ == "__main__":
    main()
