"""Sweeps on a Ray cluster of three nodes on this machine: placement, faults, claims, paths. Training is a fake."""

import collections
import contextlib
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile

import ports
import pytest
import ray_cluster
import tiny_run
from fake_driver import ALL, GATE, HERE, LONG, ROOT, folder, run, start, states, steps, sweep, wait
from ray_cluster import on

from alexnet_jax import run_files
from experiments import report
from experiments.executors import supervisor
from experiments.sweep import plan as plan_lib

ray = pytest.importorskip("ray", reason="Ray is not installed (pip install -e '.[cluster]')")
pytestmark = [pytest.mark.skipif(sys.platform != "linux", reason="reads /proc"), pytest.mark.timeout(600)]

nodes = ray_cluster.nodes


def _go(nodes, *arguments, cpu=True, **more):
    command, env = on(nodes, *arguments, cpu=cpu)
    return run(*command, env={**env["env"], **more})


def _begin(nodes, *arguments, **more):
    command, env = on(nodes, *arguments)
    return start(*command, env={**env["env"], **more})


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
        wait(lambda: len(_training(workdir)) == 3)
        two = {label: pids for label, pids in _training(workdir).items() if label != "kills_itself seed 0"}
        # Not the head, without which no cluster is.
        lost = next(label for label, pids in two.items() if pids[2] != nodes.alive[0])
        killed = next(label for label in two if label != lost)
        nodes.remove(two[lost][2])
        os.kill(two[killed][1], signal.SIGKILL)
        wait(lambda: not any(os.path.exists(f"/proc/{pids[0]}") for pids in two.values()))
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
    about = run_files.read_json(folder(workdir, lost) / "run.json")
    assert len(about["resumed"]) >= 1
    assert about["cores"] == 1
    assert not list(workdir.glob(".cluster-*"))


def test_a_killed_driver_and_two_at_once(nodes, tmp_path):
    workdir, file = tmp_path / "w", sweep(tmp_path, seeds=2)
    with _begin(nodes, file, f"--workdir={workdir}", GATE) as driver:
        wait(lambda: len(_training(workdir)) == 3)
        driver.kill()
        driver.communicate(timeout=LONG)
    wait(lambda: not _workers(workdir))  # nothing runs unseen
    assert "finished" not in states(workdir).values()
    (workdir / "go").touch()
    drivers = [_begin(nodes, file, f"--workdir={workdir}", GATE) for _ in range(2)]
    outputs = [driver.communicate(timeout=LONG) for driver in drivers]
    assert [driver.returncode for driver in drivers] == [0, 0], outputs
    for output, errors in outputs:
        assert errors == ""
        assert "4 of 4 runs finished" in output
    assert steps(workdir) == {f"{arm} seed {seed}": ALL for seed in (0, 1) for arm in ("baseline", "no_lrn")}


def _named_actors(nodes):
    code = ("import ray, sys; ray.init(sys.argv[1], log_to_driver=False); "
            "print(*(actor['name'] for actor in ray.util.list_named_actors(all_namespaces=True)), sep='\\n')")
    done = subprocess.run([sys.executable, "-c", code, nodes.address], env=on(nodes)[1]["env"], capture_output=True,
                          text=True, check=True, timeout=LONG)
    return done.stdout.split()


def test_ctrl_c_leaves_everything_resumable_and_status_tells(nodes, tmp_path):
    workdir, file = tmp_path / "w", sweep(tmp_path, seeds=2)
    with _begin(nodes, file, f"--workdir={workdir}", GATE) as driver:
        wait(lambda: len(_training(workdir)) == 3)
        told = run(f"--workdir={workdir}", command=("-m", "experiments.status"))
        names = _named_actors(nodes)  # what Ray's dashboard lists
        driver.send_signal(signal.SIGINT)
        output, errors = driver.communicate(timeout=LONG)
    assert (driver.returncode, errors) == (130, ""), (output, errors)
    assert "4 runs: 3 running, 1 waiting" in told.stdout
    running = [folder(workdir, label).name for label in ("baseline seed 0", "no_lrn seed 0", "baseline seed 1")]
    assert all(any(name.endswith(f"/{each}") for name in names) for each in running), names
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
    (tmp_path / "site/jax_cuda12_plugin").mkdir(parents=True)
    (tmp_path / "site/jax_cuda12_plugin/__init__.py").touch()  # JAX for NVIDIA's cards
    two = _go(nodes, file, f"--workdir={workdir}", "--config.mesh.column=2", cpu=False, JAX_PLATFORMS="",
              PYTHONPATH=f"{ROOT}:{tmp_path / 'site'}")
    one = _go(nodes, file, f"--workdir={workdir}", "--seeds=2", "--config.mesh.column=1", cpu=False)
    nodes.remove(node)
    for done, told in ((two, "1 at a time on Ray's 4 nodes, 2 cores and 2 GPUs each"), (one, "1 core and 1 GPU each")):
        assert (done.returncode, done.stderr) == (0, "")
        assert told in done.stdout
    about = {label: run_files.read_json(folder(workdir, label) / "run.json") for label in states(workdir)}
    given = {label: run["gpus"] for label, run in about.items()}
    assert {run["platforms"] for run in about.values() if len(run["gpus"]) == len("0,1")} == {"cuda,cpu"}, (
        "or JAX would compute on the CPU where it can't have the cards")
    assert set(map(len, given.values())) == {len("0,1"), len("0")}
    assert {len(gpus) for label, gpus in given.items() if label.endswith("seed 0")} == {len("0,1")}


def test_a_path_that_workers_do_not_see_is_named_before_a_run_starts(nodes, tmp_path):
    # A folder by the number of this process's open file: it is there for the driver and for nobody else.
    place = os.open(tmp_path, os.O_RDONLY)
    command, env = on(nodes, sweep(tmp_path), f"--workdir=/proc/self/fd/{place}/w")
    done = run(*command, pass_fds=[place], **env)
    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (1, "", 1), done
    assert "error: --workdir: node " in done.stderr
    assert f"sees no /proc/self/fd/{place}/w; it has to be on a file system that all nodes share" in done.stderr
    (tmp_path / "data").mkdir()
    command, env = on(nodes, sweep(tmp_path), f"--workdir={tmp_path / 'w'}",
                       f"--config.data.dir=/proc/self/fd/{place}/data")
    done = run(*command, pass_fds=[place], **env)
    os.close(place)
    assert (done.returncode, len(done.stderr.splitlines())) == (1, 1), done
    assert f"config.data.dir: node {nodes.address.partition(':')[0]} sees no /proc/self/fd/{place}/data" in done.stderr
    assert not (tmp_path / "w").exists()


def test_a_node_that_comes_without_the_paths_is_named_and_gets_no_run(nodes, tmp_path):
    if subprocess.run(["unshare", "-rm", "true"], capture_output=True, check=False).returncode:
        pytest.skip("no mount namespaces here")
    workdir, file = tmp_path / "w", sweep(tmp_path, seeds=2)
    ray_start = 'mount -t tmpfs none "$1" && exec "$2" "$4" start --address="$3" --num-cpus=2 --block'
    with _begin(nodes, file, f"--workdir={workdir}", GATE) as driver:
        wait(lambda: len(_training(workdir)) == 3)
        blind = subprocess.Popen(
            ["unshare", "-rm", "bash", "-c", ray_start, "bash", str(tmp_path), sys.executable, nodes.address,
             str(HERE / "ray_agents.py")],
            env={**os.environ, **ray_cluster.TOKEN, "RAY_USAGE_STATS_ENABLED": "0"}, start_new_session=True,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            told = next(line for line in iter(driver.stdout.readline, "") if "it gets no run" in line)
            assert f"--workdir: node {nodes.address.partition(':')[0]} sees no {workdir}; it gets no run" in told
            (workdir / "go").touch()
            output, errors = driver.communicate(timeout=LONG)
        finally:
            blind.terminate()
            blind.wait(LONG)
    assert (driver.returncode, errors) == (0, ""), (output, errors)
    assert set(map(tuple, steps(workdir).values())) == {tuple(ALL)}
    assert "lost" not in output  # no run was ever there


def test_the_loss_of_the_head_ends_the_command_and_it_resumes_with_another(nodes, tmp_path):
    workdir, file = tmp_path / "w", sweep(tmp_path)
    with tempfile.TemporaryDirectory(prefix="ray", dir="/tmp", ignore_cleanup_errors=True) as short:
        other = ray_cluster.Nodes(short + "/ray")
        try:
            other.add(1)
            patience = {"RAY_gcs_rpc_server_reconnect_timeout_s": "5"}  # Ray's own is a minute
            with _begin(other, file, f"--workdir={workdir}", GATE, **patience) as driver:
                wait(lambda: len(_training(workdir)) == 1)
                other.close()
                output, errors = driver.communicate(timeout=LONG)
        finally:
            other.process.kill()
    assert (driver.returncode, len(errors.splitlines())) == (1, 1), (output, errors)
    wait(lambda: not _workers(workdir))
    (workdir / "go").touch()
    done = _go(nodes, file, f"--workdir={workdir}", GATE)
    assert (done.returncode, done.stderr) == (0, "")
    assert set(map(tuple, steps(workdir).values())) == {tuple(ALL)}


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


def test_results_are_those_of_the_sequential_sweep(nodes, tmp_path):
    file, overrides = tmp_path / "tiny.py", tiny_run.TINY | {"augment.chunk": 16, "data.store": str(tmp_path / "store")}
    file.write_text(f"""def get_sweep():
    return {{"config": "configs/shapes.py", "overrides": {overrides!r}, "seeds": 2}}
""")
    tiny = (str(HERE / "tiny_sweep.py"), f"--sweep={file}", "--cores=1")
    alone, spread = tmp_path / "alone", tmp_path / "spread"
    command, env = on(nodes, f"--workdir={spread}")
    for arguments in (["--jobs=1", f"--workdir={alone}"], command):
        done = run(*arguments, command=tiny, **env)
        assert (done.returncode, done.stderr) == (0, ""), done
        assert "2 of 2 runs finished" in done.stdout
    plan = plan_lib.read(alone)
    assert len(plan.runs) == 2
    for planned in plan.runs.values():
        for name in ("result.json", "metrics.csv"):
            assert (alone / planned.dir / name).read_bytes() == (spread / planned.dir / name).read_bytes()
        # Seconds are the one thing that may differ.
        shutil.copy(alone / planned.dir / "timing.csv", spread / planned.dir / "timing.csv")
    assert report.render(alone) == report.render(spread)


def test_slurm_starts_ray_over_the_allocation_and_resumes_when_resubmitted(tmp_path):
    workdir, file = tmp_path / "w", sweep(tmp_path, seeds=2)
    tools = tmp_path / "bin"
    tools.mkdir()
    for name, text in {
            "srun": f'exec {sys.executable} {HERE / "fake_srun.py"} "$@"',
            # The script's `python -m experiments.run` is the sweep of fakes.
            "python": f'[ "$2" != experiments.run ] || {{ shift 2; set -- {HERE / "fake_run.py"} "$@"; }}\n'
                      f'[ "$2" != ray.scripts.scripts ] || {{ shift 2; set -- {HERE / "ray_agents.py"} "$@"; }}\n'
                      f'exec {sys.executable} "$@"'}.items():
        (tools / name).write_text(f"#!/bin/bash\n{text}\n")
        (tools / name).chmod(0o755)
    with tempfile.TemporaryDirectory(prefix="r", dir="/tmp", ignore_cleanup_errors=True) as short:
        env = {**os.environ, "PATH": f"{tools}:{os.environ['PATH']}", "PYTHON": str(tools / "python"), "TMPDIR": short,
               "SLURM_JOB_ID": "77", "SLURM_NNODES": "2", "RAY_PORT": str(ports.free()), "JAX_PLATFORMS": "cpu",
               "ALEXNET_STORE_DIR": short,
               "RAY_ARGS": f"--object-store-memory={80 * 2**20}", "RAY_HEAD_ARGS": "--include-dashboard=false"}
        script = ["bash", "experiments/executors/slurm.sh", file, f"--workdir={workdir}", "--jobs=2", GATE]
        options = {"cwd": ROOT, "env": env, "text": True, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
        with subprocess.Popen(script, **options) as job:
            wait(lambda: len(_training(workdir)) == 2)
            job.send_signal(signal.SIGTERM)  # as Slurm before the time is up
            output = job.communicate(timeout=LONG)[0]
        assert job.returncode == 130, output
        assert "stopping: 2 runs save a checkpoint each" in output
        assert collections.Counter(states(workdir).values()) == {"partial": 2, "waiting": 2}
        (workdir / "go").touch()
        done = subprocess.run(script, timeout=LONG, check=False, **options)
        assert done.returncode == 0, done.stdout
        assert "4 of 4 runs finished" in done.stdout
        assert set(map(tuple, steps(workdir).values())) == {tuple(ALL)}
        wait(lambda: not _of(short))  # nothing of Ray's is left


def _of(folder):
    """The processes that have `folder` in their command."""
    found = []
    for entry in pathlib.Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if entry.name.isdecimal() and folder.encode() in (entry / "cmdline").read_bytes():
                found.append(entry.name)
    return found
