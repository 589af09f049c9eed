"""Sweeps on a Ray cluster of three nodes on this machine: placement, faults, claims, paths. Training is a fake."""

import collections
import os
import pathlib
import signal
import subprocess
import sys
import tempfile

import pytest
from fake_driver import ALL, HERE, ROOT, folder, run, start, states, steps, sweep, wait

from alexnet_jax import records
from experiments import plan as plan_lib
from experiments.executors import supervisor

ray = pytest.importorskip("ray", reason="Ray is not installed (pip install -e '.[cluster]')")
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")

LONG = 240.0  # seconds; Ray starts a node, a driver or an actor in one to ten
GATE = "--config.train.eval_every=8"  # fake_worker.py: each run waits after its first step


class Nodes:
    """The nodes of ray_nodes.py; each is known by its raylet's process id."""

    def __init__(self, folder):
        self.errors = open(folder + ".log", "w")  # noqa: SIM115
        self.process = subprocess.Popen(
            [sys.executable, str(HERE / "ray_nodes.py"), folder], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=self.errors, text=True, cwd=ROOT)
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
        self.process.wait(60)
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


def _on(nodes, *arguments, cpu=True):
    """The arguments and environment of a command on the cluster."""
    env = {**os.environ, "ALEXNET_STORE_DIR": tempfile.gettempdir()}
    if cpu:
        env["JAX_PLATFORMS"] = "cpu"
    return [*arguments, "--executor=ray", f"--ray_address={nodes.address}", "--jobs=0"], {"env": env}


def _go(nodes, *arguments, **options):
    command, env = _on(nodes, *arguments, **options)
    return run(*command, timeout=LONG, **env)


def _begin(nodes, *arguments):
    command, env = _on(nodes, *arguments)
    return start(*command, **env)


def _workers(workdir):
    """{run's label: (process id of its worker, of its supervisor, of its node's raylet)}."""
    plan, found = plan_lib.read(workdir), {}
    for entry in pathlib.Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                line = (entry / "cmdline").read_bytes().decode().split("\0")
                if f"--workdir={workdir}" in line and any(part.startswith("--parent=") for part in line):
                    actor = _parent(entry.name)
                    label = plan.label(next(part for part in line if part.startswith("--run=")).partition("=")[2])
                    found[label] = (int(entry.name), actor, _parent(actor))
            except (OSError, ValueError):
                continue  # has just ended
    return found


def _parent(pid):
    return int((pathlib.Path("/proc") / str(pid) / "stat").read_text().rpartition(")")[2].split()[1])


def _training(workdir):
    """Those of `_workers` that have done a step."""
    if not (workdir / "plan.json").exists():
        return {}
    done = steps(workdir)
    return {label: pids for label, pids in _workers(workdir).items() if done[label]}


def test_every_run_ends_when_a_node_is_lost_and_processes_are_killed(nodes, tmp_path):
    arms = {name: {"optim.learning_rate": float(rate)} for name, rate in
            {"kills_itself": 6, "bug": 8, "diverges": 7, "killed_always": 5}.items()}
    workdir, file = tmp_path / "w", sweep(tmp_path, {**arms, "no_lrn": {"model.lrn.layers": ()}})
    with _begin(nodes, file, f"--workdir={workdir}", GATE) as driver:
        wait(lambda: len(_training(workdir)) == 3, LONG)
        # Not the head, without which no cluster is.
        lost, pids = next((label, pids) for label, pids in _training(workdir).items() if pids[2] != nodes.alive[0])
        nodes.remove(pids[2])
        killed, pids = next((label, pids) for label, pids in _training(workdir).items() if label != lost)
        os.kill(pids[1], signal.SIGKILL)
        (workdir / "go").touch()
        nodes.add(1)
        output, errors = driver.communicate(timeout=LONG)
    assert driver.returncode == 1, (output, errors)
    assert states(workdir) == {
        "baseline seed 0": "finished", "kills_itself seed 0": "finished", "bug seed 0": "failed",
        "diverges seed 0": "diverged", "killed_always seed 0": "failed", "no_lrn seed 0": "finished"}
    assert len(errors.splitlines()) == 3, errors
    assert "killed_always seed 0: its process was killed by SIGKILL (out of memory?), 3 times" in errors
    host = nodes.address.partition(":")[0]
    for label in (lost, killed):
        assert f"{label}: its node {host} was lost, or its supervisor there was killed; restarting it" in output, output
    assert "raylet" not in output + errors  # what Ray itself has to say about it
    # Nothing is lost or done twice.
    done = {label: part for label, part in steps(workdir).items() if states(workdir)[label] != "failed"}
    assert done == dict.fromkeys(done, ALL)
    about = records.read_json(folder(workdir, lost) / "run.json")
    assert len(about["resumed"]) >= 1
    assert about["cores"] == 1
    assert not list(workdir.glob(".cluster-*"))


def test_a_killed_driver_and_two_at_once(nodes, tmp_path):
    workdir, file = tmp_path / "w", sweep(tmp_path, seeds=2)
    with _begin(nodes, file, f"--workdir={workdir}", GATE) as driver:
        wait(lambda: len(_training(workdir)) == 3, LONG)
        driver.kill()
        driver.communicate(timeout=20)
    wait(lambda: not _workers(workdir), 30)  # nothing runs unseen
    assert "finished" not in states(workdir).values()
    (workdir / "go").touch()
    drivers = [_begin(nodes, file, f"--workdir={workdir}", GATE) for _ in range(2)]
    outputs = [driver.communicate(timeout=LONG) for driver in drivers]
    assert [driver.returncode for driver in drivers] == [0, 0], outputs
    for output, errors in outputs:
        assert errors == ""
        assert "4 of 4 runs finished" in output
    assert steps(workdir) == {f"{arm} seed {seed}": ALL for seed in (0, 1) for arm in ("baseline", "no_lrn")}


def test_ctrl_c_leaves_everything_resumable_and_status_tells(nodes, tmp_path):
    workdir, file = tmp_path / "w", sweep(tmp_path, seeds=2)
    with _begin(nodes, file, f"--workdir={workdir}", GATE) as driver:
        wait(lambda: len(_training(workdir)) == 3, LONG)
        told = run(f"--workdir={workdir}", command=("-m", "experiments.status"))
        driver.send_signal(signal.SIGINT)
        output, errors = driver.communicate(timeout=LONG)
    assert (driver.returncode, errors) == (130, ""), (output, errors)
    assert "4 runs: 3 running, 1 waiting" in told.stdout
    assert "stopping: 3 runs save a checkpoint each" in output
    assert collections.Counter(states(workdir).values()) == {"partial": 3, "waiting": 1}
    for label in ("baseline seed 0", "no_lrn seed 0", "baseline seed 1"):
        assert "stopped at step" in (folder(workdir, label) / "log.txt").read_text()  # saved, not killed
    (workdir / "go").touch()
    done = _go(nodes, file, f"--workdir={workdir}", GATE)
    assert (done.returncode, done.stderr) == (0, "")
    assert set(map(tuple, steps(workdir).values())) == {tuple(ALL)}


def test_each_run_gets_what_its_mesh_asks_for(nodes, tmp_path):
    workdir, file = tmp_path / "w", sweep(tmp_path)
    refused = _go(nodes, file, f"--workdir={workdir}", "--cores=2")
    assert (refused.returncode, len(refused.stderr.splitlines())) == (2, 1)
    assert "baseline seed 0 needs a node with 2 cores" in refused.stderr
    assert not workdir.exists()
    node = nodes.add(4, 3)
    two = _go(nodes, file, f"--workdir={workdir}", "--config.mesh.column=2", cpu=False)
    one = _go(nodes, file, f"--workdir={workdir}", "--seeds=2", "--config.mesh.column=1", cpu=False)
    nodes.remove(node)
    for done, told in ((two, "1 at a time on Ray's 4 nodes, 2 cores and 2 GPUs each"), (one, "1 core and 1 GPU each")):
        assert (done.returncode, done.stderr) == (0, "")
        assert told in done.stdout
    given = {label: records.read_json(folder(workdir, label) / "run.json")["gpus"] for label in states(workdir)}
    assert set(map(len, given.values())) == {len("0,1"), len("0")}
    assert {len(gpus) for label, gpus in given.items() if label.endswith("seed 0")} == {len("0,1")}


def test_a_path_that_workers_do_not_see_is_named_before_a_run_starts(nodes, tmp_path):
    # A folder by the number of this process's open file: it is there for the driver and for nobody else.
    place = os.open(tmp_path, os.O_RDONLY)
    command, env = _on(nodes, sweep(tmp_path), f"--workdir=/proc/self/fd/{place}/w")
    done = run(*command, timeout=LONG, pass_fds=[place], **env)
    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (1, "", 1), done
    assert "error: --workdir: node " in done.stderr
    assert f"sees no /proc/self/fd/{place}/w; it has to be on a file system that all nodes share" in done.stderr
    (tmp_path / "data").mkdir()
    command, env = _on(nodes, sweep(tmp_path), f"--workdir={tmp_path / 'w'}",
                       f"--config.data.dir=/proc/self/fd/{place}/data")
    done = run(*command, timeout=LONG, pass_fds=[place], **env)
    os.close(place)
    assert (done.returncode, len(done.stderr.splitlines())) == (1, 1), done
    assert f"config.data.dir: node {nodes.address.partition(':')[0]} sees no /proc/self/fd/{place}/data" in done.stderr
    assert not (tmp_path / "w").exists()


def test_an_address_where_nothing_listens_is_one_line(tmp_path):
    done = run(sweep(tmp_path), f"--workdir={tmp_path / 'w'}", "--executor=ray", "--ray_address=127.0.0.1:1")
    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (1, "", 1), done
    assert "--ray_address=127.0.0.1:1: nothing listens there (Connection refused)" in done.stderr
    assert not (tmp_path / "w").exists()


def test_leases_of_cores_do_not_overlap(tmp_path, monkeypatch):
    monkeypatch.setattr(supervisor.os, "sched_getaffinity", lambda _: {3, 4, 5, 6, 8})
    with supervisor.lease(2, tmp_path) as first, supervisor.lease(2, tmp_path) as second:
        assert (first, second) == ([3, 4], [5, 6])
        with supervisor.lease(2, tmp_path) as third:
            assert third == [3, 8]  # one core too few: one is shared
    with supervisor.lease(3, tmp_path) as again, supervisor.lease(5, tmp_path) as everything:
        assert (again, everything) == ([3, 4, 5], [3, 4, 5, 6, 8])
