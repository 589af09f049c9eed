"""Common helpers of the tests with Ray: three one-core nodes on this machine, and commands on them."""

import os
import secrets
import subprocess
import sys
import tempfile

import pytest
from fake_driver import HERE, LONG, ROOT

TOKEN = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}  # not the user's, from ~/.ray

# A dead node refuses to answer and is lost five such answers later; one on a busy machine is given its time.
CHECKS = {"RAY_health_check_period_ms": "500", "RAY_health_check_timeout_ms": "60000"}


class Nodes:
    """The nodes of ray_nodes.py; each is known by its raylet's process id."""

    def __init__(self, folder):
        self.errors = open(folder + ".log", "w")  # noqa: SIM115
        self.process = subprocess.Popen(
            [sys.executable, str(HERE / "ray_nodes.py"), folder], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=self.errors, text=True, cwd=ROOT, env={**os.environ, **TOKEN, **CHECKS})
        self.address, self.alive = "", []

    def add(self, cpus, gpus=0):
        answer = self._ask(f"add {cpus} {gpus}")
        if not self.address:
            self.address, answer = answer, self.process.stdout.readline().strip()
        self.alive.append(int(answer))
        return self.alive[-1]

    def remove(self, node):
        assert self._ask(f"remove {node}") == "removed"
        self.alive.remove(node)

    def _ask(self, text):
        self.process.stdin.write(text + "\n")
        self.process.stdin.flush()
        return self.process.stdout.readline().strip()

    def close(self):
        self.process.stdin.close()
        self.process.wait(LONG)
        self.process.stdout.close()
        self.errors.close()


@pytest.fixture(scope="module")
def nodes():
    # A short path: Ray's sockets are below it, and their names may have 107 characters.
    with tempfile.TemporaryDirectory(prefix="ray", dir="/tmp", ignore_cleanup_errors=True) as folder:
        started = Nodes(folder + "/ray")
        for _ in range(3):
            started.add(1)
        yield started
        started.close()


def on(nodes, *arguments, cpu=True):
    """The arguments and environment of a command on the cluster."""
    env = {**os.environ, **TOKEN, "ALEXNET_STORE_DIR": tempfile.gettempdir()}
    if cpu:
        env["JAX_PLATFORMS"] = "cpu"
    return [*arguments, "--executor=ray", f"--ray_address={nodes.address}", "--jobs=0"], {"env": env}
