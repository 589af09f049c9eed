"""Programs are compiled ahead of their calls, in parallel, and once for all runs that share a cache."""

import re
import threading

import emulated
import fake_driver
import jax
import numpy as np
import pytest
import tiny_run

from alexnet_jax import environment, files
from alexnet_jax.parallel import mesh
from alexnet_jax.signals import Stop
from alexnet_jax.training import compiling, program
from alexnet_jax.training import loop as train_lib

use_tiny, store, tiny = tiny_run.use_tiny, tiny_run.store, tiny_run.tiny
COMPILED = "/jax/core/compile/backend_compile_duration"
LARGE = ("init", "initial_signal", "train_step", "train_steps", "view_log_probs", "count_batches")


class Lowered:
    """Stands for a program that was lowered: its compilation takes until `go`, and says when it begins and ends."""

    def __init__(self, events, go=None, error=None):
        self.events, self.go, self.error = events, go, error

    def lower(self, *_):
        return self

    def as_text(self):
        return "the program"

    def compile(self):
        self.events.append("begins")
        if self.go is not None:
            assert self.go.wait(fake_driver.LONG)
        self.events.append("ends")
        if self.error:
            raise self.error


@pytest.fixture
def cache(tmp_path):
    """The folder of locks of a persistent cache of this test's own."""
    old = jax.config.jax_compilation_cache_dir
    jax.config.update("jax_compilation_cache_dir", str(tmp_path))
    yield tmp_path / "compiling"
    jax.config.update("jax_compilation_cache_dir", old)


@pytest.fixture
def refused(monkeypatch):
    """The times that a lock was held by another; they are a tenth of a second apart."""
    found, hold = [], files.hold
    monkeypatch.setattr(compiling.files, "hold", lambda path: hold(path) or found.append(path))
    return found


def test_the_second_run_waits_for_the_first_one_s_compilation(cache, refused):
    events, go = [], threading.Event()
    with compiling.Compiling(threads=1) as first, compiling.Compiling(threads=1) as second:
        first.begin({"step": (Lowered(events, go), ())})
        fake_driver.wait(lambda: events == ["begins"])
        second.begin({"step": (Lowered(events), ())})
        fake_driver.wait(lambda: len(refused) > 2)
        assert events == ["begins"]
        go.set()
        first.ready("step")
        second.ready("step")
        assert events == ["begins", "ends"] * 2
        assert re.fullmatch(r"compiled: step \d+\.\d s", first.told())
        assert re.fullmatch(r"compiled: step \d+\.\d s \(\d+\.\d s of it waiting for another run\)", second.told())
        assert second.told() == ""
    [lock] = cache.iterdir()
    held = files.hold(lock)  # once it is compiled nobody waits, whoever looks after it again
    assert held is not None
    with compiling.Compiling() as third:
        third.begin({"step": (Lowered(events), ())})
        third.ready("step", "no such program")
        assert "waiting" not in third.told()


def test_a_first_run_that_dies_or_fails_or_takes_too_long_does_not_block_others(cache, refused, monkeypatch):
    def compile_in_turn(*events_of_each):
        with compiling.Compiling(threads=1) as one:
            one.begin({"step": (Lowered(*events_of_each), ())})
            one.ready("step")
            return one.told()

    with pytest.raises(MemoryError):
        compile_in_turn([], None, MemoryError())
    [lock] = cache.iterdir()
    assert lock.stat().st_size == 0
    first = files.hold(lock)

    def die():
        fake_driver.wait(lambda: len(refused) > 2)
        compiling.os.close(first)  # as the system does when a process dies

    dying = threading.Thread(target=die)
    dying.start()
    assert "waiting for another run" in compile_in_turn([])
    dying.join()
    assert lock.stat().st_size > 0
    lock.write_text("")
    slow = files.hold(lock)
    monkeypatch.setattr(compiling, "_WAIT", 0.2)
    assert "waiting for another run" in compile_in_turn(events := [])
    assert events == ["begins", "ends"]
    compiling.os.close(slow)


def test_a_signal_ends_the_waiting_and_leaves_no_thread(cache):
    with compiling.Compiling(threads=1) as one:
        one.begin({"step": (Lowered([]), ())})
        one.ready("step")
    [lock] = cache.iterdir()
    lock.write_text("")
    other, events = files.hold(lock), []

    def stop():
        raise Stop

    with compiling.Compiling(stop) as two:
        two.begin({"step": (Lowered(events), ())})
        with pytest.raises(Stop):
            two.ready("step")
    assert events == []
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("compile")]
    compiling.os.close(other)


@pytest.mark.parametrize("place", [None, "gs://bucket/cache"])
def test_without_a_cache_on_a_file_system_no_run_waits(cache, place):
    jax.config.update("jax_compilation_cache_dir", place)
    assert compiling._lock(Lowered([])) is None
    assert not cache.exists()


@pytest.mark.parametrize("uniform", [False, True])
def test_weights_whose_program_is_quick_to_compile_are_the_same(tiny, monkeypatch, uniform):
    monkeypatch.setenv("XLA_FLAGS", "")
    c = tiny(**({"model__init_distribution": "uniform"} if uniform else {}))
    built = program.Program(c, 10, mesh.make_mesh(c, jax.devices()[:1]))
    quick, whole = (jax.jit(built.exact(built._init), compiler_options=emulated.USUAL | options)(np.uint32(3))
                    for options in (environment.options_of_init("cpu"), {}))
    for a, b in zip(jax.tree.leaves(quick), jax.tree.leaves(whole), strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_level_of_the_user_s_and_other_devices_are_left_alone(monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", "--xla_backend_optimization_level=2")
    assert environment.options_of_init("cpu") is None
    monkeypatch.setenv("XLA_FLAGS", "")
    assert environment.options_of_init("gpu") is None


@pytest.mark.parametrize(("fields", "programs"), [
    ({}, ["step", "initialisation", "initial signals", "evaluation"]),
    ({"data.placement": "device", "train.steps_per_call": 2},
     ["step", "initialisation", "initial signals", "evaluation", "evaluation by ten views"])])
def test_what_a_run_calls_is_what_was_compiled_before(tiny, tmp_path, monkeypatch, fields, programs):
    """By shapes and shardings: another program would be compiled at its first call, in the main thread."""
    monkeypatch.setattr(train_lib, "Program", program.Program)  # compiled by nobody yet
    monkeypatch.setattr(train_lib, "_threads", lambda: 2)
    seen = []

    def hear(event, _, **about):
        if event == COMPILED:
            seen.append((threading.current_thread() is threading.main_thread(), str(about.get("fun_name"))))

    jax.monitoring.register_event_duration_secs_listener(hear)
    tiny_run.go(tiny(**{key.replace(".", "__"): value for key, value in fields.items()}), tmp_path / "run")
    here = [name for main, name in seen if main and any(f"_{large})" in name for large in LARGE)]
    there = [name for main, name in seen if not main]
    assert (here, len(there)) == ([], len(programs))
    log = (tmp_path / "run" / "log.txt").read_text()
    lines = re.findall(r"compiled: (.*)", log)
    assert sorted(re.findall(r"([a-z][a-z ]+[a-z]) \d+\.\d s", " ".join(lines))) == sorted(programs)
    assert log.index("compiled: ") < log.index("epoch 1/2")
