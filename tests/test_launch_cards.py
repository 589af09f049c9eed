"""Several runs on one GPU: their number, their shares, and NVIDIA's multi-process service. The GPU is a stand-in."""

import contextlib
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile

import fake_driver
import pytest
from fake_card import Card
from fake_driver import GATE, LONG, ROOT

from alexnet_jax import cli, provenance
from alexnet_jax import config as config_lib
from alexnet_jax.errors import ConfigError
from experiments.executors import cards, devices, local, mps
from experiments.sweep import plan as plan_lib

GIB = 1 << 30
USER = """
import pathlib, sys, time
from experiments.executors import mps
service = mps.Service(pathlib.Path({!r}))
print("up", service.joined, flush=True)
{}
service.close()
"""
HERE_ONLY = pytest.mark.skipif(sys.platform != "linux", reason="PR_SET_PDEATHSIG, /proc")


@pytest.fixture
def folder():
    """A short one: sockets lie below it."""
    made = pathlib.Path(tempfile.mkdtemp(prefix="c"))
    yield made
    for number in Card(made).alive():
        with contextlib.suppress(OSError):
            os.kill(number, signal.SIGKILL)
    shutil.rmtree(made)


def _config(recipe="configs/cifar10.py", **overrides):
    return config_lib.to_json(config_lib.resolve(config_lib.override(cli.load_config(recipe), overrides)))


def _card(free=140, total=140):
    return cards.Card("0", "GPU-a", "NVIDIA H200", free * GIB, total * GIB)


def _user(card, workdir="w", then="time.sleep(60)"):
    """A process that uses the service as a sweep does."""
    return subprocess.Popen([sys.executable, "-c", USER.format(workdir, then)], env=card.environment, cwd=ROOT,
                            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


@pytest.fixture
def here(monkeypatch):
    """Makes this process see a `Card`."""
    def see(card):
        for name in [name for name in os.environ if name not in card.environment]:
            monkeypatch.delenv(name)
        for name, text in card.environment.items():
            monkeypatch.setenv(name, text)
        monkeypatch.setattr(tempfile, "tempdir", card.environment["TMPDIR"])
        monkeypatch.setattr(local.importlib.util, "find_spec", lambda _: True)
        monkeypatch.setattr(local, "cores", lambda: list(range(16)))
        monkeypatch.setattr(local.provenance, "most_cores", lambda: None)
        monkeypatch.setattr(local.provenance, "free_memory", lambda: None)
        return card
    return see


def _started(folder, jobs, runs=2, **options):
    """What an executor says of itself, its news, and the environments of runs that it has started."""
    worker = ("sh", "-c", 'env > "${1#--workdir=}/$2"', "sh")
    with contextlib.closing(local.LocalExecutor(folder, jobs, 99, worker, 1, [_config()], **options)) as executor:
        words = executor.description
        for run in range(runs):
            executor.start(str(run), folder / str(run))
        fake_driver.wait(lambda: [executor.ended(), not executor.running][1])
        files = [folder / f"--run={run}" for run in range(runs)]
        found = [dict(line.split("=", 1) for line in file.read_text().splitlines() if "=" in line) for file in files]
        return words, executor.news(), found


def test_how_many_runs_suit_a_card():
    small, full = _config(), _config("configs/imagenet_released.py")
    assert cards.jobs([_card()], 16, [small]) == 14  # two cores of sixteen are left
    assert cards.jobs([_card()], 16, [small], each=4) == 3
    assert cards.jobs([_card(), _card()], 16, [small]) == 7  # of each
    assert cards.jobs([_card(free=10)], 16, [small]) == 10 * GIB * 0.95 // cards.need(small) == 3
    assert cards.jobs([_card(free=1)], 16, [small]) == 1
    assert cards.jobs([_card()], 16, [small], host=32 * GIB) == 10  # 3 GiB of main memory each
    assert cards.jobs([_card(), _card()], 16, [small], host=32 * GIB) == 5
    assert cards.jobs([_card()], 16, [small], host=GIB) == 1
    assert cards.jobs([_card()], 16, [full]) == cards.jobs([_card()], 16, [small, full]) == 1
    assert cards.jobs([], 16, [small]) == 1  # a card of which nothing is known
    assert cards.jobs([_card()], 256, [small]) == cards.CLIENTS
    # The images are counted: ten times as many of them, at 64 pixels for 32.
    assert cards.need(_config("configs/shapes.py")) < cards.need(_config("configs/shapes.py", **{"data.size": 512}))
    # 2 for a product and a sum, of 4,344 million of them a full image's passes.
    assert cards.operations(full) == pytest.approx(128 * 3 * 2 * 724.4e6, rel=1e-3)
    assert sum(cards.share(_card(70), 7) for _ in range(7)) * 140 + 7 * 0.75 == pytest.approx(70 * 0.95)


def test_runs_share_a_card_and_its_service(folder, here):
    card = here(Card(folder))
    words, news, runs = _started(folder, 4)
    assert words == ("4 at a time, on 1 accelerator, 4 on a card with 34.8 GB and 1 core each, side by side through "
                     "NVIDIA's multi-process service, started for them")
    started, ended = card.told()
    own = started.split()[1].removeprefix("pipe=").removesuffix("/pipe")
    assert own.startswith(f"{folder}/tmp/alexnet_jax-mps-")
    assert len(f"{own}/pipe/control") < 100
    assert started == f"-d pipe={own}/pipe log={own}/log cards=GPU-0-of-these"
    assert ended == f"quit pipe={own}/pipe"
    assert (news, card.folders()) == ([], [])
    fake_driver.wait(lambda: not card.alive())
    wanted = {"CUDA_MPS_PIPE_DIRECTORY": f"{own}/pipe", "CUDA_MPS_LOG_DIRECTORY": f"{own}/log",
              "CUDA_VISIBLE_DEVICES": "GPU-0-of-these", "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
              "XLA_PYTHON_CLIENT_MEM_FRACTION": "0.2309"}
    assert all(wanted.items() <= run.items() for run in runs)


def test_a_service_that_runs_is_used_and_left_alone(folder, here):
    card = here(Card(folder))
    subprocess.run(["nvidia-cuda-mps-control", "-d"], check=True)
    before, alive = card.told(), card.alive()
    words, _, runs = _started(folder, 0)  # as many as suit
    assert words.startswith("14 at a time, on 1 accelerator, 14 on a card with ")
    assert words.endswith("service, which runs already")
    assert (card.told(), card.alive()) == (before, alive)
    assert len(alive) == 1
    assert [run["CUDA_VISIBLE_DEVICES"] for run in runs] == ["0", "0"]  # as that service numbers them
    assert "CUDA_MPS_PIPE_DIRECTORY" not in runs[0]


@pytest.mark.parametrize(("service", "words"), [
    (False, "NVIDIA's multi-process service (nvidia-cuda-mps-control) is not installed"), (True, "--mps=off")])
def test_without_the_service_a_note_says_what_is_lost(folder, here, service, words):
    card = here(Card(folder, service=service))
    said, _, runs = _started(folder, 2, service=not service)
    lost = f"in turns, hardly faster than one: {words}"
    assert said == f"2 at a time, on 1 accelerator, 2 on a card with 70.4 GB and 1 core each, {lost}"
    assert {"XLA_PYTHON_CLIENT_PREALLOCATE", "XLA_PYTHON_CLIENT_MEM_FRACTION"} < runs[0].keys()
    said = local.LocalExecutor(folder, 0, 99, each=1, configs=[_config()], service=not service).description
    assert said == f"1 at a time, on 1 accelerator; 14 of these runs on a card would compute {lost}"
    assert card.told(("-d", "quit", "get_server_list")) == []


def test_a_service_that_does_not_start_costs_no_run(folder, here):
    card = here(Card(folder, count=2, refusal="echo 'no such luck'; exit 1"))
    words, [news], runs = _started(folder, 3, runs=3)
    assert words.startswith("3 at a time, on 2 accelerators, 2 on a card with 70.4 GB and ")
    assert news == ("NVIDIA's multi-process service does not start (no such luck): the runs on a card take turns")
    assert sorted(run["CUDA_VISIBLE_DEVICES"] for run in runs) == ["0", "0", "1"]
    assert card.folders() == []


@pytest.mark.parametrize(("client", "why"), [
    ("print(805)", "a process that uses it gets no card: CUDA's error 805"),
    ("import time; time.sleep(60)", "a process that uses it gets no card within 3 s")])
def test_a_service_that_lets_no_process_have_a_card_is_not_used(folder, here, monkeypatch, client, why):
    card = here(Card(folder))
    monkeypatch.setattr(mps, "_CLIENT", client)
    monkeypatch.setattr(mps, "_SECONDS", 3.0)
    _, [news], runs = _started(folder, 2)
    assert news == f"NVIDIA's multi-process service does not start ({why}): the runs on a card take turns"
    assert not any(name.startswith("CUDA_MPS") for run in runs for name in run)
    assert [run["CUDA_VISIBLE_DEVICES"] for run in runs] == ["0", "0"]
    fake_driver.wait(lambda: not card.alive() and not card.folders())


def test_a_process_that_tries_the_service_asks_cuda_itself(folder, monkeypatch):
    """The driver's library is a stand-in, which fails as it does where no service answers."""
    if shutil.which("cc") is None:
        pytest.skip("no C compiler here")
    (folder / "cuda.c").write_text("int cuInit(unsigned flags) { return FAILS; } "
                                   "int cuDeviceGet(int *card, int number) { *card = 0; return 0; } "
                                   "int cuDevicePrimaryCtxRetain(void **context, int card) { return 0; }")
    monkeypatch.setenv("LD_LIBRARY_PATH", str(folder))
    for code in (0, 805):
        subprocess.run(["cc", "-shared", "-fPIC", f"-DFAILS={code}", "-o", folder / "libcuda.so.1", folder / "cuda.c"],
                       check=True)
        if code:
            with pytest.raises(OSError, match=r"gets no card: CUDA's error 805$"):
                mps._try(folder, "")
        else:
            mps._try(folder, "GPU-0")


def test_one_run_on_a_card_is_as_ever(folder, here):
    card = here(Card(folder))
    words, _, [run] = _started(folder, 1, runs=1)
    assert (words, card.told(("-d", "quit", "get_server_list"))) == ("1 at a time, on 1 accelerator", [])
    assert run["CUDA_VISIBLE_DEVICES"] == "0"
    assert run["JAX_PLATFORMS"] == "cuda,cpu", "or JAX would compute on the CPU where it can't have the card"
    assert not any(name.startswith(("XLA_PYTHON", "CUDA_MPS")) for name in run)


@HERE_ONLY
def test_a_sweep_that_is_stopped_or_killed_ends_the_service_after_its_last_run(tmp_path, folder):
    card, workdir = Card(folder), tmp_path / "w"
    sweep = fake_driver.sweep(tmp_path)
    for number in (signal.SIGINT, signal.SIGKILL):
        with fake_driver.start(sweep, f"--workdir={workdir}", GATE, env=card.environment) as driver:
            fake_driver.wait(lambda: all(plan_lib.in_use(path.parent) for path in workdir.glob("runs/*/steps.log"))
                             and len(list(workdir.glob("runs/*/steps.log"))) == 2)
            assert len(card.alive()) == 1
            driver.send_signal(number)
            output, _ = driver.communicate(timeout=LONG)
        assert "service, started for them" in output or number == signal.SIGKILL
        fake_driver.wait(lambda: not card.alive() and not card.folders())
        assert not any(plan_lib.in_use(path) for path in workdir.glob("runs/*"))  # they had it until they had saved
    assert [line.split()[0] for line in card.told()] == ["-d", "quit"] * 2
    assert set(fake_driver.states(workdir).values()) == {"partial"}


@HERE_ONLY
def test_no_service_is_left_running_whichever_process_dies(folder):
    card = Card(folder, delay=1)
    with _user(card) as user:  # while it is being started
        fake_driver.wait(card.told)
        user.kill()
    fake_driver.wait(lambda: len(card.told()) == 2 and not card.folders() and not card.alive())
    card = Card(folder)
    with _user(card) as user:  # and the guardian with it
        assert user.stdout.readline() == "up False\n"
        [own] = (folder / "tmp").glob("alexnet_jax-mps-*")
        for process in pathlib.Path("/proc").glob("[0-9]*/cmdline"):
            with contextlib.suppress(OSError):
                if os.fsencode(own) in process.read_bytes() and b"experiments.executors.mps" in process.read_bytes():
                    os.kill(int(process.parent.name), signal.SIGKILL)
        user.kill()
    [left] = card.alive()
    with _user(card, "another", then="") as user:  # the next one clears up, also after another sweep
        assert user.stdout.readline() == "up False\n"
        fake_driver.wait(lambda: left not in card.alive())
    fake_driver.wait(lambda: not card.alive())
    assert card.folders() == []


@HERE_ONLY
def test_sweeps_side_by_side_have_one_service_until_the_last_of_them_ends(folder):
    card = Card(folder)
    with _user(card, "one", then="sys.stdin.readline()") as one:
        assert one.stdout.readline() == "up False\n"
        with _user(card, "two") as two:
            assert two.stdout.readline() == "up True\n"
            one.kill()
            one.wait()
            [service] = card.alive()
            two.send_signal(signal.SIGTERM)
    fake_driver.wait(lambda: not card.folders() and not card.alive())
    assert len(card.told()) == 2
    assert service


def test_a_listing_that_hangs_or_fails_is_one_line_or_no_cards(folder, here, monkeypatch):
    card = here(Card(folder, count=2))
    assert local.accelerators(card.environment) == ["0", "1"]
    listing = folder / "bin/nvidia-smi"
    listing.write_text("#!/bin/sh\necho 'GPU 0: NVIDIA H200'; echo 'Unable to determine …' >&2; exit 15\n")
    assert local.accelerators(card.environment) == ["0"], "those that answer"
    listing.write_text("#!/bin/sh\necho 'NVIDIA-SMI has failed'; exit 9\n")
    assert local.accelerators(card.environment) == []
    listing.unlink()
    monkeypatch.setattr(devices, "DEV", folder / "dev")
    monkeypatch.setenv("PATH", str(folder / "bin"))
    assert local.accelerators(card.environment) == []
    (folder / "dev").mkdir()
    for name in ("nvidia0", "nvidia1", "nvidiactl", "nvidia-uvm"):
        (folder / "dev" / name).touch()
    assert local.accelerators(card.environment) == ["0", "1"], "cards without that program, as in some containers"
    assert (cards.look(["0", "1"]), devices.here(1, ["0"])) == ([], None)
    listing.write_text("#!/bin/sh\nexec /bin/sleep 60\n")
    listing.chmod(0o755)
    monkeypatch.setattr(devices, "_SECONDS", 0.2)
    with pytest.raises(ConfigError, match=r"^CUDA_VISIBLE_DEVICES: nvidia-smi, .* doesn't answer; name the cards, or "):
        local.accelerators(card.environment)
    assert devices.here(1, ["0"]) is None


def test_cards_are_named_as_cuda_reads_them(monkeypatch):
    monkeypatch.setattr(local.importlib.util, "find_spec", lambda _: True)

    def named(text):
        return local.accelerators({"CUDA_VISIBLE_DEVICES": text})

    assert named("0, GPU-1-of,MIG-2") == ["0", "GPU-1-of", "MIG-2"]
    assert named("0,-1,1") == ["0"]  # what follows a name that isn't one doesn't count
    assert named("") == named("-1") == named("NoDevFiles") == named("all") == named("cuda:0") == []
    assert named("2,3") == named("2, 3,2") == ["2", "3"]


def test_a_card_that_is_divided_has_one_run_at_a_time(folder, here):
    """The listing has the whole card's memory, and a run gets an instance of it."""
    here(Card(folder, mig=True))
    words, _, [run] = _started(folder, 0, runs=1)
    assert words == "1 at a time, on 1 accelerator"
    assert "XLA_PYTHON_CLIENT_MEM_FRACTION" not in run


def test_an_instance_has_a_service_of_its_own(folder, here, monkeypatch):
    card = here(Card(folder, mig=True))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "MIG-7")
    _, news, runs = _started(folder, 2)
    assert (card.told()[0].split()[-1], news) == ("cards=MIG-7", [])
    assert [run["CUDA_VISIBLE_DEVICES"] for run in runs] == ["MIG-7", "MIG-7"]


def test_each_instance_of_a_divided_card_has_its_runs_and_its_service(folder, here):
    """CUDA gives a process one instance, so a service that was told of two would serve the first alone."""
    card = here(Card(folder, mig=True, instances=2))
    assert local.accelerators(card.environment) == ["MIG-0-0", "MIG-0-1"]
    assert local.LocalExecutor(folder, 0, 99, configs=[_config()]).slots == 2, "one each"
    words, news, runs = _started(folder, 4, runs=4)
    assert words.startswith("4 at a time, on 2 accelerators, 2 on a card with 1 core each, side by side through ")
    assert news == []
    assert [line.split()[-1] for line in card.told(("-d",))] == ["cards=MIG-0-0", "cards=MIG-0-1"]
    pipes = {(run["CUDA_VISIBLE_DEVICES"], run["CUDA_MPS_PIPE_DIRECTORY"]) for run in runs}
    assert sorted(name for name, _ in pipes) == ["MIG-0-0", "MIG-0-1"]
    assert len({pipe for _, pipe in pipes}) == 2
    fake_driver.wait(lambda: not card.alive() and not card.folders())


def test_cards_beside_a_divided_one_are_named_by_what_cuda_takes_for_both(folder, here):
    card = here(Card(folder, mig=True))
    (folder / "bin/nvidia-smi").write_text("""#!/bin/sh
echo 'GPU 0: NVIDIA H200 (UUID: GPU-whole)'
echo 'GPU 1: NVIDIA H200 (UUID: GPU-divided)'
echo '  MIG 3g.71gb     Device  0: (UUID: MIG-half)'
""")
    assert local.accelerators(card.environment) == ["GPU-whole", "MIG-half"]


@pytest.mark.parametrize(("plugin", "device", "at_once"), [
    ("xla_rocm7", "kfd", 1), ("xla_rocm7", "", 16), ("xla_cuda13", "", 16), ("metal_plugin", "", 1)])
def test_an_accelerator_of_another_make_has_one_run_at_a_time(tmp_path, monkeypatch, plugin, device, at_once):
    (tmp_path / device).touch()
    monkeypatch.setattr(devices, "DEV", tmp_path)
    monkeypatch.setattr(devices.importlib.util, "find_spec", lambda _: None)
    monkeypatch.setattr(devices.metadata, "entry_points", lambda group: [devices.metadata.EntryPoint(plugin, "", "")])
    monkeypatch.setattr(local, "cores", lambda: list(range(16)))
    monkeypatch.setattr(local.provenance, "most_cores", lambda: None)
    monkeypatch.delenv("JAX_PLATFORMS", raising=False)
    assert local.LocalExecutor(tmp_path, 0, 99).slots == at_once
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    assert local.LocalExecutor(tmp_path, 0, 99).slots == 16


def test_a_containers_memory_is_counted(tmp_path):
    meminfo = tmp_path / "meminfo"
    assert provenance.free_memory(meminfo, tmp_path) is None
    meminfo.write_text("MemTotal: 9000 kB\nMemAvailable: 8000 kB\n")
    assert provenance.free_memory(meminfo, tmp_path) == 8_192_000
    (tmp_path / "memory").mkdir()
    (tmp_path / "memory/memory.limit_in_bytes").write_text("9223372036854771712\n")
    (tmp_path / "memory.max").write_text("max\n")
    assert provenance.free_memory(meminfo, tmp_path) == 8_192_000
    (tmp_path / "memory.max").write_text("5000000\n")
    assert provenance.free_memory(meminfo, tmp_path) == 5_000_000


@pytest.mark.parametrize(("files", "most"), [
    ({"cpu.max": "250000 100000"}, 2), ({"cpu.max": "max 100000"}, None), ({}, None),
    ({"cpu/cpu.cfs_quota_us": "50000", "cpu/cpu.cfs_period_us": "100000"}, 1),
    ({"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, None)])
def test_a_containers_share_of_the_cores_limits_the_runs(tmp_path, monkeypatch, files, most):
    (tmp_path / "cpu").mkdir()
    for name, text in files.items():
        (tmp_path / name).write_text(text + "\n")
    found = provenance.most_cores(tmp_path)
    assert found == most
    monkeypatch.setattr(local, "cores", lambda: list(range(16)))
    monkeypatch.setattr(local, "accelerators", lambda env: [])
    monkeypatch.setattr(local.provenance, "most_cores", lambda: found)
    assert local.LocalExecutor(tmp_path, 0, 99).slots == (most or 16)
