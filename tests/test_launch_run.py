"""The sweep's driver with real processes, locks and signals; only the training is fake (fake_worker.py)."""

import collections
import contextlib
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import time

import pytest
from fake_driver import ALL, FAKE, GATE, HERE, LONG, ROOT
from fake_driver import folder as _folder
from fake_driver import go as _go
from fake_driver import run as _run
from fake_driver import start as _start
from fake_driver import states as _states
from fake_driver import steps as _steps
from fake_driver import sweep as _sweep
from fake_driver import wait as _wait

from alexnet_jax import cli, run_files
from alexnet_jax import config as config_lib
from experiments.executors import local
from experiments.launch import costs, display
from experiments.launch.costs import Left
from experiments.sweep import plan as plan_lib


def test_a_sweep_from_its_file_to_its_report(tmp_path):
    workdir, sweep = tmp_path / "w", _sweep(tmp_path, seeds=2)
    done = _run(sweep, f"--workdir={workdir}")
    assert (done.returncode, done.stderr) == (0, "")
    assert "4 of 4 runs finished" in done.stdout
    assert "| the table |" in done.stdout
    assert (workdir / "report.md").read_text() == "report, plots=True\n"
    assert _steps(workdir) == dict.fromkeys(
        ("baseline seed 0", "no_lrn seed 0", "baseline seed 1", "no_lrn seed 1"), ALL)
    about = run_files.read_json(_folder(workdir, "no_lrn seed 1") / "run.json")
    assert (about["name"], about["seed"], about["overrides"]) == ("no_lrn", 1, {"model.lrn.layers": []})
    if len(local.cores()) >= 2:  # two at a time share them evenly
        assert about["cores"] == len(local.cores()) // 2

    # Nothing is run again; more seeds are added.
    again = _run(sweep, f"--workdir={workdir}")
    assert (again.returncode, "4 done before" in again.stdout) == (0, True)
    more = _run(sweep, f"--workdir={workdir}", "--seeds=3", "--jobs=1")
    assert "6 of 6 runs finished" in more.stdout
    assert len(_steps(workdir)) == 6
    assert set(map(tuple, _steps(workdir).values())) == {tuple(ALL)}


def test_dry_run_shows_everything_and_writes_nothing(tmp_path):
    workdir = tmp_path / "w"
    sweep = _sweep(tmp_path, {"no_lrn": {"model.lrn.layers": ()}, "same": {}}, seeds=3)
    shown = _run(sweep, f"--workdir={workdir}", "--dry_run", "--config.train.epochs=2")
    assert (shown.returncode, shown.stderr) == (0, "")
    assert "model.lrn.layers=()" in shown.stdout
    assert "the same runs as baseline" in shown.stdout
    assert "6 runs, 6 to do" in shown.stdout
    assert "cost: unknown until a run has its first evaluation" in shown.stdout
    assert "12 epochs in all" in shown.stdout
    assert not workdir.exists()
    assert "6 runs" in _run(sweep, "--dry_run").stdout  # a workdir isn't needed

    _run(sweep, f"--workdir={workdir}", "--seeds=1")
    before = {p: p.stat().st_mtime_ns for p in workdir.rglob("*")}
    shown = _run(sweep, f"--workdir={workdir}", "--dry_run")
    assert "6 runs, 4 to do (2 finished)" in shown.stdout
    # Two minutes an epoch, says fake_worker; four runs, two at a time.
    assert "cost: about 4 min 00 s (2 at a time" in shown.stdout
    assert {p: p.stat().st_mtime_ns for p in workdir.rglob("*")} == before


def test_planning_needs_no_jax():
    code = ("import sys\nfrom experiments import run, status\n"
            "sys.argv = ['run', '--sweep=configs/sweeps/three.py', '--dry_run']\n"
            "try:\n    run.run()\nexcept SystemExit as end:\n    assert not end.code\n"
            "slow = {'jax', 'flax', 'tensorflow_datasets', 'matplotlib', 'pandas'} & set(sys.modules)\n"
            "assert not slow, slow")
    done = _run("-c", code, command=())
    assert (done.returncode, done.stderr) == (0, "")
    assert "16 runs" in done.stdout


def test_failures_are_recorded_and_the_others_go_on(tmp_path):
    arms = {name: {"optim.learning_rate": float(rate)} for name, rate in
            {"no_data": 9, "bug": 8, "diverges": 7, "killed_once": 6, "killed_always": 5}.items()}
    workdir, sweep = tmp_path / "w", _sweep(tmp_path, arms)
    done = _run(sweep, f"--workdir={workdir}")
    assert done.returncode == 1
    assert _states(workdir) == {
        "baseline seed 0": "finished", "no_data seed 0": "failed", "bug seed 0": "failed",
        "diverges seed 0": "diverged", "killed_once seed 0": "finished", "killed_always seed 0": "failed"}
    # One line each, and no traceback but in the run's own log.
    errors = done.stderr.splitlines()
    assert len(errors) == 4
    for said in ("no_data seed 0: no such data: here is what to do",
                 "bug seed 0: RuntimeError: out of luck and more (the traceback is in log.txt)",
                 "killed_always seed 0: its process was killed by SIGKILL (out of memory?), 3 times"):
        assert sum(said in line for line in errors[:3]) == 1, "two at a time: in the order in which they ended"
    assert errors[3] == "error: 3 runs failed; the same command tries again"
    assert "Traceback" not in done.stdout
    assert "Traceback" in (_folder(workdir, "bug seed 0") / "log.txt").read_text()
    assert "diverged: diverges seed 0" in done.stdout
    result = run_files.read_json(_folder(workdir, "no_data seed 0") / "result.json")
    assert (result["status"], result["eval"], result["seed"]) == ("failed", None, 0)
    assert result["message"] == "no such data: here is what to do"
    assert set(result) == set(run_files.read_json(_folder(workdir, "baseline seed 0") / "result.json"))
    # A killed process resumes from its last checkpoint: no step is lost or done twice.
    assert _steps(workdir)["killed_once seed 0"] == ALL
    assert "restarting it from its last checkpoint (1 of 2)" in done.stdout

    # Given again, the command tries what failed, and nothing else.
    again = _run(sweep, f"--workdir={workdir}")
    assert again.returncode == 1
    assert "3 done before" in again.stdout
    assert _steps(workdir)["diverges seed 0"] == _steps(workdir)["baseline seed 0"] == ALL


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_leaves_everything_resumable(tmp_path, number):
    workdir, sweep = tmp_path / "w", _sweep(tmp_path, seeds=2)
    with _start(sweep, f"--workdir={workdir}", GATE) as driver:
        _wait(lambda: len(list(workdir.glob("runs/*/steps.log"))) == 2)
        driver.send_signal(number)
        output, errors = driver.communicate(timeout=LONG)
    assert (driver.returncode, errors) == (130, "")
    assert "stopping: 2 runs save a checkpoint each" in output
    assert f"python -m experiments.run {sweep} --workdir={workdir}" in output
    states = collections.Counter(_states(workdir).values())
    assert states == {"partial": 2, "waiting": 2}
    assert _steps(workdir)["no_lrn seed 0"] == ALL[:len(_steps(workdir)["no_lrn seed 0"])] != ALL
    if number != signal.SIGINT:
        return  # the folder is as after Ctrl-C
    status = _run(f"--workdir={workdir}", command=("-m", "experiments.status"))
    assert "4 runs: 2 partial, 2 waiting" in status.stdout

    _go(workdir)
    done = _run(sweep, f"--workdir={workdir}", GATE)
    assert (done.returncode, done.stderr) == (0, "")
    assert set(map(tuple, _steps(workdir).values())) == {tuple(ALL)}


def test_signs_that_a_terminal_lacks_are_in_the_logs(tmp_path):
    workdir, sweep = tmp_path / "w", _sweep(tmp_path)
    plain = os.environ | {"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "LC_ALL": "C"}
    done = _run(sweep, f"--workdir={workdir}", env=plain)
    assert (done.returncode, done.stderr) == (0, "")
    assert "2 of 2 runs finished" in done.stdout
    assert "baseline × 0" in (_folder(workdir, "baseline seed 0") / "log.txt").read_text("utf-8")
    status = _run(f"--workdir={workdir}", command=("-m", "experiments.status"), env=plain)
    assert (status.returncode, status.stderr) == (0, "")


def test_a_sweep_that_was_told_to_ignore_signals_still_stops_its_runs(tmp_path):
    workdir, sweep = tmp_path / "w", _sweep(tmp_path, seeds=2)
    with _start(sweep, f"--workdir={workdir}", GATE,
                before=("sh", "-c", "trap '' INT TERM; exec \"$@\"", "sh")) as driver:
        _wait(lambda: len(list(workdir.glob("runs/*/steps.log"))) == 2)
        driver.send_signal(signal.SIGINT)
        driver.send_signal(signal.SIGTERM)
        time.sleep(0.5)
        assert driver.poll() is None
        driver.send_signal(signal.SIGHUP)
        output, errors = driver.communicate(timeout=LONG)
    assert (driver.returncode, errors) == (130, "")
    assert "stopping: 2 runs save a checkpoint each" in output
    assert set(_states(workdir).values()) == {"partial", "waiting"}


def test_a_second_ctrl_c_ends_at_once(tmp_path):
    workdir, clock = tmp_path / "w", tmp_path / "clock"
    clock.write_text("100.0\n")

    def press(times):
        driver.send_signal(signal.SIGINT)
        _wait(lambda: clock.read_text().count("looked") == times)  # it has heard of it

    with _start(_sweep(tmp_path, step=1e5), "--config.train.eval_every=9", f"--workdir={workdir}",
                env=os.environ | {"FAKE_CLOCK": str(clock)}) as driver:
        _wait(lambda: len(list(workdir.glob("runs/*/run.json"))) == 2)
        press(1)
        press(2)  # the same keystroke, passed on by a wrapper: not a second one
        time.sleep(0.3)
        assert driver.poll() is None
        with clock.open("a") as file:
            file.write("102.0\n")
        driver.send_signal(signal.SIGINT)
        output, errors = driver.communicate(timeout=LONG)
    assert (driver.returncode, errors) == (130, "")
    assert "the same command resumes" in output
    assert not any(plan_lib.in_use(folder) for folder in workdir.glob("runs/*"))


@pytest.mark.skipif(sys.platform != "linux", reason="PR_SET_PDEATHSIG")
def test_workers_end_with_a_driver_that_is_killed(tmp_path):
    workdir, sweep = tmp_path / "w", _sweep(tmp_path)
    with _start(sweep, f"--workdir={workdir}", GATE) as driver:
        _wait(lambda: len(list(workdir.glob("runs/*/steps.log"))) == 2)
        driver.kill()
    _wait(lambda: not any(plan_lib.in_use(folder) for folder in workdir.glob("runs/*")))
    assert set(_states(workdir).values()) == {"partial"}  # they saved a checkpoint and ended
    _go(workdir)
    done = _run(sweep, f"--workdir={workdir}", GATE)
    assert done.returncode == 0
    assert set(map(tuple, _steps(workdir).values())) == {tuple(ALL)}


def test_two_sweeps_on_one_workdir_run_nothing_twice(tmp_path):
    workdir, sweep = tmp_path / "w", _sweep(tmp_path, seeds=2, step=0.1)
    drivers = [_start(sweep, f"--workdir={workdir}") for _ in range(2)]
    outputs = [driver.communicate(timeout=LONG) for driver in drivers]
    assert [driver.returncode for driver in drivers] == [0, 0], outputs
    for output, errors in outputs:
        assert errors == ""
        assert "4 of 4 runs finished" in output
    assert _steps(workdir) == {f"{arm} seed {seed}": ALL for seed in (0, 1) for arm in ("baseline", "no_lrn")}


ONE_LINE = [
    (["--swep=configs/sweeps/three.py"], "Did you mean: sweep"),
    ([], "--sweep=FILE or --config=FILE is needed"),
    (["--sweep=configs/sweeps/four.py"], "no such file; configs/sweeps has cifar10_three.py, "),
    (["--config=configs/shapes.py"], "--workdir=FOLDER is needed"),
    (["--config=configs/shapes.py", "--ablations=lrn,poling", "--workdir={w}"], "did you mean pooling?"),
    (["--config=configs/shapes.py", "--config.model.lrm.k=1", "--workdir={w}"], "config.model.lrn.k"),
    (["--config=configs/shapes.py", "--config.model.dropout=half", "--workdir={w}"], "dropout"),
    (["--config=configs/shapes.py", "--config.seed=3", "--workdir={w}"], "choose its seeds with --seeds"),
    (["--config=configs/shapes.py", "--config.model.columns=5", "--workdir={w}"], "do not divide into"),
    (["--config=configs/shapes.py", "--seeds=two", "--workdir={w}"], "--seeds=two"),
    (["--config=configs/shapes.py", "--jobs=-1", "--workdir={w}"], "--jobs=-1"),
    (["--config=configs/shapes.py", "lrn", "--workdir={w}"], "'lrn': not understood"),
    (["--config=configs/shapes.py:papr", "--workdir={w}"], "papr"),
    (["--sweep={bad}", "--workdir={w}"], "'seed': no such key (did you mean seeds?)"),
    (["--sweep={lost}", "--workdir={w}"], "nowhere.py: no such file"),
]


@pytest.fixture(scope="module")
def refused(tmp_path_factory):
    """Their (exit code, stdout, stderr), by their place in `ONE_LINE`; in forks of one process."""
    folder = tmp_path_factory.mktemp("one_line")
    for name, text in {"bad": "'configs/shapes.py', 'seed': 1", "lost": "'nowhere.py'"}.items():
        (folder / f"{name}.py").write_text(f"def get_sweep():\n    return {{'config': {text}}}\n")
    places = {"w": folder / "w", "bad": folder / "bad.py", "lost": folder / "lost.py"}
    cases = {str(folder / str(i)): ["experiments.run", *(argument.format(**places) for argument in arguments)]
             for i, (arguments, _) in enumerate(ONE_LINE)}
    done = _run(command=(str(HERE / "programs" / "commands_forked.py"),), input=json.dumps(cases),
                env=os.environ | {"PYTHONPATH": str(ROOT)})
    assert done.returncode == 0, done.stderr
    assert not (folder / "w").exists()
    return [(code, *(pathlib.Path(f"{name}.{fd}").read_text() for fd in (1, 2)))
            for name, (code, _) in json.loads(done.stdout).items()]


@pytest.mark.parametrize("case", range(len(ONE_LINE)), ids=lambda case: ONE_LINE[case][1])
def test_a_wrong_command_is_one_line_and_starts_nothing(refused, case):
    code, out, err = refused[case]
    assert (code, out) == (2, "")
    assert ONE_LINE[case][1] in err
    assert err.startswith("error: ")
    assert len(err.splitlines()) == 1


def test_a_workdir_that_cannot_be_used_is_one_line(tmp_path):
    def refused(workdir):
        done = _run(_sweep(tmp_path), f"--workdir={workdir}")
        assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (1, "", 1), done
        return done.stderr

    (tmp_path / "file").write_text("")
    assert "not a folder" in refused(tmp_path / "file")
    assert "a part of this path is a file" in refused(tmp_path / "file" / "below")
    (tmp_path / "single").mkdir()
    (tmp_path / "single" / "run.json").write_text("{}")
    assert "holds a single run" in refused(tmp_path / "single")
    (tmp_path / "other" / "runs" / "baseline-0123456789").mkdir(parents=True)
    (tmp_path / "other" / "plan.json").write_text(json.dumps({"schema": 1, "arms": []}))
    assert "plan.json: damaged" in refused(tmp_path / "other")


def test_missing_data_is_reported_once_and_before_anything_starts(tmp_path):
    sweep = ["--config=configs/cifar10.py", "--ablations=lrn", "--seeds=2",
             f"--config.data.dir={tmp_path / 'none'}",
             f"--config.data.store={tmp_path / 'store'}", "--config.data.train_split=nothing"]
    done = _run(*sweep, f"--workdir={tmp_path / 'w'}", command=("-m", "experiments.run"))
    assert done.returncode in (1, 2)
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert not (tmp_path / "w").exists()


def test_the_catalogue_is_listed():
    done = _run("--list")
    assert (done.returncode, done.stderr) == (0, "")
    assert [line.split()[0] for line in done.stdout.splitlines()][:3] == ["lrn", "pooling", "activation"]


def test_a_terminal_shows_a_table(tmp_path):
    pty = pytest.importorskip("pty")
    master, slave = pty.openpty()
    env = {**os.environ, "COLUMNS": "120", "TERM": "xterm"}
    under_way = re.compile(r"no_lrn seed 0 +training +[01]\.[0-9]/1 +50\.0%")
    shown, text = b"", ""
    with subprocess.Popen([sys.executable, FAKE, _sweep(tmp_path), f"--workdir={tmp_path / 'w'}", GATE],
                          cwd=ROOT, stdout=slave, stderr=subprocess.PIPE, env=env) as driver:
        os.close(slave)
        with contextlib.suppress(OSError):  # how Linux says that the other side is closed
            while chunk := os.read(master, 4096):
                shown += chunk
                text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown.decode("utf-8", "replace"))
                if under_way.search(text) and "0 of 2 done, 2 running; about 1 s left" in text:
                    _go(tmp_path / "w")  # until then they wait, and it goes on showing them
        assert driver.wait(LONG) == 0
        assert driver.stderr.read() == b""
    os.close(master)
    assert "evaluation error" in text
    assert under_way.search(text)
    assert "0 of 2 done, 2 running; about 1 s left" in text
    assert "2 of 2 runs finished" in text


def test_time_left_and_results_in_words(tmp_path):
    plan = plan_lib.build(config_lib.resolve(cli.load_config("configs/shapes.py")), "", "", [], (0, 1, 2))
    measured = costs.Costs(plan, tmp_path)
    first, second, third = plan.order()
    half = {"seconds_left": 60, "step": 50, "steps": 100}
    # The waiting one takes twice a half.
    assert display.time_left(measured, [third], {first: half, second: half}, slots=1) == Left(240.0)
    assert display.time_left(measured, [third], {first: half, second: half}, slots=2) == Left(120.0)
    left = display.time_left(measured, [third], {first: half, second: {}}, slots=1)  # nothing measured of the second
    assert left == Left(180.0, (second,))
    assert display.in_words(left) == "; about 3 min 00 s left, not counting 1 run of another kind"
    assert display.in_words(display.time_left(measured, [third], {first: {}}, slots=1)) == ""
    assert display.row("a", {}) == ("a", "starting", "", "", "", "", "")
    assert display.describe_result({"status": "diverged", "message": "why"}) == "diverged: why"
    finished = {"status": "finished", "eval": {"centre": {"top1_wrong": 9, "top5_wrong": 0, "total": 10}}}
    assert display.describe_result({**finished, "message": ""}) == "finished: error 90.0% (centre crop)"
    stuck = display.describe_result({**finished, "message": "never left chance: why; what helps"})
    assert stuck == "finished: error 90.0% (centre crop); never left chance: why"


def test_a_report_that_fails_costs_no_run(tmp_path):
    code = ("import sys\nsys.path.insert(0, 'tests')\nimport fake_run\nfrom experiments import run\n"
            "def fail(workdir, plots):\n    raise OSError(28, 'No space left', 'report.md')\n"
            "run.run(run.Command((sys.executable, 'tests/fake_worker.py'), fail, lambda data: None))")
    done = _run(code, _sweep(tmp_path), f"--workdir={tmp_path / 'w'}", command=("-c",))
    assert done.returncode == 1
    assert done.stdout.count("no report for now: report.md: the disk is full") == 1
    assert "the runs have ended, but the report failed: report.md: the disk is full" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr
    assert set(_states(tmp_path / "w").values()) == {"finished"}


def test_cores_are_shared_evenly():
    assert [local.share(range(5), slot, 2) for slot in (0, 1)] == [[0, 1], [2, 3]]
    assert local.share([4, 7], 0, 1) == [4, 7]
    assert [local.share([4, 7], slot, 3) for slot in (0, 1, 2)] == [[4], [7], [4]]


def test_accelerators_are_named(monkeypatch):
    assert local.accelerators({"CUDA_VISIBLE_DEVICES": "0,1"}) == [] or _has_cuda()
    monkeypatch.setattr(local.importlib.util, "find_spec", lambda _: True)
    assert local.accelerators({"CUDA_VISIBLE_DEVICES": "0,GPU-5a"}) == ["0", "GPU-5a"]
    assert local.accelerators({"CUDA_VISIBLE_DEVICES": "-1"}) == []
    assert local.accelerators({"CUDA_VISIBLE_DEVICES": "0,1", "JAX_PLATFORMS": "cpu"}) == []
    executor = local.LocalExecutor(pathlib.Path(), 0, 10)
    monkeypatch.setattr(executor, "accelerators", ["2", "5"])
    monkeypatch.setattr(executor, "_slots", 2)
    assert [executor._environment(slot)["CUDA_VISIBLE_DEVICES"] for slot in (0, 1)] == ["2", "5"]


def _has_cuda():
    return any(local.importlib.util.find_spec(f"jax_cuda{version}_plugin") for version in (12, 13))


def test_without_a_parent_a_worker_does_nothing(tmp_path):
    done = _run(f"--workdir={tmp_path}", "--run=x", f"--parent={os.getpid() + 1}",
                command=(str(HERE / "fake_worker.py"),))
    assert done.returncode == 130


def test_without_ray_the_message_names_the_extra(tmp_path):
    code = ("import sys\nsys.modules['ray'] = None\nsys.path.insert(0, 'tests')\nimport runpy\n"
            "runpy.run_path('tests/fake_run.py', run_name='__main__')")
    cluster = [_sweep(tmp_path), f"--workdir={tmp_path / 'w'}", "--executor=ray"]
    done = _run(code, *cluster, command=("-c",))
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == ("error: --executor=ray: Ray is not installed here; pip install -c constraints.txt "
                           "-e '.[cluster]'\n")
    assert not (tmp_path / "w").exists()
    dry = _run(code, *cluster, "--dry_run", command=("-c",))
    assert (dry.returncode, dry.stderr) == (0, "")
    assert "(on Ray, 2 at a time); 2 epochs in all" in dry.stdout
    wrong = _run(_sweep(tmp_path), f"--workdir={tmp_path / 'w'}", "--ray_address=auto")
    assert (wrong.returncode, wrong.stderr) == (2, "error: --ray_address=auto: needs --executor=ray\n")
