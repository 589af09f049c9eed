"""Settings made before JAX starts."""

import os
import platform
import pwd
import subprocess
import sys
import tempfile

import another_user
import emulated
import jax
import pytest

from alexnet_jax import commands, environment
from alexnet_jax.data import store
from alexnet_jax.errors import DataError
from alexnet_jax.parallel import distributed

glibc = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the allocator is glibc's")


@glibc
def test_the_users_allocator_is_left_alone():
    assert environment.allocator({}).keys() == {"GLIBC_TUNABLES"}
    assert environment.allocator({"GLIBC_TUNABLES": "glibc.malloc.check=1"}) == {}
    assert environment.allocator({"LD_PRELOAD": "libjemalloc.so"}) == {}


@glibc
@pytest.mark.parametrize("given", [None, "glibc.malloc.check=0"])
def test_a_program_starts_over_once_with_its_arguments_and_its_number(given):
    env = {k: v for k, v in os.environ.items() if k != "GLIBC_TUNABLES"} | ({"GLIBC_TUNABLES": given} if given else {})
    process = subprocess.Popen([sys.executable, emulated.PROGRAMS / "allocator.py"], env=env, stdout=subprocess.PIPE,
                               text=True)
    number, value = process.communicate(timeout=240)[0].split()
    assert int(number) == process.pid
    assert value == (given or environment.allocator({})["GLIBC_TUNABLES"])


@pytest.fixture
def bare(monkeypatch, tmp_path):
    """A user with no home, no folders set and a temporary one: what a container's user may be."""
    def unknown(user):
        raise KeyError(user)

    for name in ("HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "ALEXNET_STORE_DIR", "JAX_COMPILATION_CACHE_DIR",
                 "MPLCONFIGDIR", "XLA_FLAGS", "TF_CPP_MIN_LOG_LEVEL", "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(pwd, "getpwuid", unknown)
    monkeypatch.setattr(environment, "_told", set())
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(os, "environ", os.environ.copy())
    return tmp_path


@pytest.mark.parametrize(("home", "why"), [
    (None, "this user has no home directory"),
    ("/dev/null/home", "/dev/null/home/.cache/alexnet_jax cannot be written"),
    ("~", "this user has no home directory")])
def test_without_a_home(bare, monkeypatch, capsys, home, why):
    if home:
        monkeypatch.setenv("HOME", home)
    substitute = bare / f"alexnet_jax-{os.getuid()}"
    for _ in range(2):
        assert store.root("") == substitute
        environment.prepare()
        environment.prepare_matplotlib()
    assert substitute.stat().st_mode & 0o777 == 0o700
    assert os.environ["JAX_COMPILATION_CACHE_DIR"] == str(substitute / "xla")
    assert os.environ["MPLCONFIGDIR"] == str(substitute / "matplotlib")
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2, "each is said once"
    assert lines[0].startswith(f"note: {why}: packed images go to {substitute}; config.data.store or ")
    assert lines[1].startswith(f"note: {why}: compiled programs go to {substitute}; $JAX_COMPILATION_CACHE_DIR or ")


def test_a_home_that_cannot_be_written_and_what_is_in_it(bare, monkeypatch, capsys):
    """An image of a container may bring packed images along."""
    folder = bare / "home" / ".cache" / "alexnet_jax"
    folder.mkdir(parents=True)
    monkeypatch.setenv("HOME", str(bare / "home"))
    monkeypatch.setattr(os, "access", lambda path, mode: not str(path).startswith(str(bare / "home")))
    assert store.root("") == folder
    environment.prepare()
    assert "cannot be written: compiled programs go to " in capsys.readouterr().err


def test_with_a_home(bare, monkeypatch, capsys):
    monkeypatch.setenv("HOME", str(bare / "home"))
    assert store.root("") == bare / "home" / ".cache" / "alexnet_jax"
    before = set(os.environ)
    environment.prepare()
    environment.prepare_matplotlib()
    set_here = {name.lower() for name in set(os.environ) - before if name.startswith("JAX_")}
    assert "jax_persistent_cache_min_compile_time_secs" in set_here
    assert set_here <= jax.config.values.keys(), "JAX ignores a variable that it doesn't know"
    assert os.environ["JAX_COMPILATION_CACHE_DIR"] == str(bare / "home" / ".cache" / "alexnet_jax" / "xla")
    assert "MPLCONFIGDIR" not in os.environ
    assert capsys.readouterr().err == ""


@another_user.needs_root
def test_a_temporary_folder_that_another_user_has_made(bare, capsys):
    (bare / f"alexnet_jax-{os.getuid()}").mkdir()
    os.chown(bare / f"alexnet_jax-{os.getuid()}", another_user.NOBODY, another_user.NOBODY)
    with pytest.raises(DataError, match=r"config\.data\.store: this user has no home directory and no temporary"):
        store.root("")
    environment.prepare()
    assert "JAX_COMPILATION_CACHE_DIR" not in os.environ
    assert "note: no compilation cache, as this user has no home directory and there is " in capsys.readouterr().err
    environment.prepare_matplotlib()


def test_analyses_compute_with_the_flags_of_the_runs(tmp_path):
    """XLA rounds otherwise by other flags: what counts a checkpoint again has to have those of its training."""
    script = ("import os, runpy, sys; sys.argv = ['x']\n"
              "try: runpy.run_module({name!r}, run_name='__main__')\n"
              "except SystemExit: pass\n"
              "print('FLAGS', os.environ.get('XLA_FLAGS', ''))")
    for name in ("alexnet_jax.evaluate", "experiments.ensemble", "experiments.retrieval"):
        done = subprocess.run([sys.executable, "-c", script.format(name=name)], capture_output=True, text=True,
                              env={k: v for k, v in os.environ.items() if k != "XLA_FLAGS"}, check=True)
        assert done.stdout.splitlines()[-1].split() == ["FLAGS", *environment.xla_flags().split()], done.stderr


@pytest.mark.parametrize(("text", "several"), [("", False), ("x", False), ("1", False), ("2", True)])
def test_slurm_s_number_of_tasks_may_be_anything(monkeypatch, text, several):
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", text)
    monkeypatch.setenv("JAX_COORDINATOR_ADDRESS", "")
    met = []
    monkeypatch.setattr("jax.distributed.initialize", lambda *_, **__: met.append(1))
    monkeypatch.setattr("jax.config.update", lambda *_: None)
    distributed.start(distributed.Place())
    assert bool(met) == several


@pytest.mark.parametrize(("error", "said"), [
    (RuntimeError("Unable to initialize backend 'typo': no such"), "JAX_PLATFORMS=typo: no such devices here; unset "),
    (DeprecationWarning("old"), "DeprecationWarning: old; PYTHONWARNINGS or -W turns this warning into an error"),
    (MemoryError("x"), "there is not enough memory (x); see whether a limit is set")])
def test_what_libraries_raise_of_a_command_s_surroundings_is_one_line(monkeypatch, capsys, error, said):
    monkeypatch.setenv("JAX_PLATFORMS", "typo")
    assert commands.report(error) in (1, 2)
    line, end = capsys.readouterr().err.split("\n")
    assert line.startswith(f"error: {said}")
    assert end == ""
    assert commands.report(RuntimeError("something else")) is None


@pytest.mark.parametrize(("name", "value"), [("JAX_DISABLE_JIT", "perhaps"), ("JAX_DEFAULT_MATMUL_PRECISION", "fine")])
def test_a_variable_that_jax_cannot_read_is_one_line(name, value, tmp_path):
    done = subprocess.run([sys.executable, "-m", "alexnet_jax.main", "--config=configs/shapes.py",
                           f"--workdir={tmp_path / 'run'}"], env={**os.environ, name: value}, capture_output=True,
                          text=True, check=False)
    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (2, "", 1)
    assert value in done.stderr
    assert name.lower() in done.stderr.lower()
