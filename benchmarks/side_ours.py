"""This project's side of a comparison, in a child process: training steps through `training.program.Program`.

A step is the one that training runs: crop, mirror and colour noise of uint8 images that lie on the device, forward,
backward, dropout, loss, and the paper's update. Only the host's reading of images is left out.
"""

from __future__ import annotations

import os
import pathlib
import tempfile
import time
from typing import Any

from alexnet_jax import environment

environment.prepare()

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402

from alexnet_jax import data, provenance  # noqa: E402
from alexnet_jax.data import loader, store  # noqa: E402
from alexnet_jax.data.statistics import Statistics  # noqa: E402
from alexnet_jax.parallel.mesh import make_mesh, put_batch  # noqa: E402
from alexnet_jax.training import augment, evaluate, loop, optim  # noqa: E402
from alexnet_jax.training.program import Moment, Program  # noqa: E402
from benchmarks import networks, tracing  # noqa: E402


def about() -> dict[str, Any]:
    """{'platform', 'kind', 'count', 'versions'}."""
    device = jax.devices()[0]
    return {"platform": device.platform, "kind": provenance.device_name(device), "count": len(jax.devices()),
            "versions": provenance.versions()}


_clock = time.perf_counter  # of `epoch`


class Step:
    """Training steps of a config on one synthetic batch."""

    def __init__(self, config):
        self.config = config
        mesh = make_mesh(config)
        self.program = Program(config, config.model.classes, mesh)
        size, batch = config.data.size, config.train.batch_size
        rng = np.random.default_rng(0)
        images = rng.integers(0, 256, (batch, size, size, 3), np.uint8)
        labels = rng.integers(0, config.model.classes, batch, np.int32)
        self.batch = put_batch(mesh, (images, labels, np.arange(batch, dtype=np.int32)), batch)
        self.consts = augment.constants(config, Statistics(np.full((size, size, 3), 127.5), np.ones(3), np.eye(3)))
        self.rates = {k: np.float32(v) for k, v in optim.rates(config, 0.0, optim.Plateau()).items()}
        self.noise = np.float32(optim.noise_amount(config, 0.0))
        self.state, self.sums = self.program.init(np.uint32(0)), self.program.zero_sums()
        self.done = 0
        self._step: Any = self.program.train_step

    def run(self, steps: int) -> float:
        """Seconds of `steps` steps, from a device at rest to a device at rest."""
        jax.block_until_ready(self.state)
        begin = time.perf_counter()
        for _ in range(steps):
            self.state, self.sums = self._step(*self._arguments())
            self.done += 1
        jax.block_until_ready(self.state)
        return time.perf_counter() - begin

    def _arguments(self) -> tuple:
        return (self.state, self.sums, self.batch, self.consts,
                Moment(np.uint32(0), np.int32(self.done), self.rates, self.noise))

    def compiled_text(self) -> str | None:
        """XLA's text of the compiled step, which `run` runs from here on.

        Compiled ahead once: what a call of `jax.jit` compiles may number its instructions differently.
        """
        if self._step is self.program.train_step:
            self._step = self.program.train_step.lower(*self._arguments()).compile()
        return self._step.as_text()

    def loss(self) -> float:
        """The mean training loss so far."""
        return float(self.sums.loss) / max(1, int(self.sums.images))


_STEPS: dict[str, Step] = {}


def setup(key: str, network: str, batch: int, precision: str, shrink: bool = False,
          changes: dict[str, Any] | None = None) -> float:
    """Builds and compiles `key`, runs two steps; returns the seconds of all that."""
    begin = time.perf_counter()
    _STEPS[key] = Step(networks.config_of(network, batch, precision, shrink, changes))
    _STEPS[key].run(2)
    return time.perf_counter() - begin


def run(key: str, steps: int) -> float:
    return _STEPS[key].run(steps)


def profile(key: str, steps: int) -> list[dict[str, Any]]:
    return tracing.profile(_STEPS[key], steps)


def epoch(network: str, batch: int, precision: str, changes: dict[str, Any], shrink: bool = False) -> float:
    """Images a second of one epoch of `training.loop.train`, from the end of its first step to that of its last.

    Reading the store, shuffling, moving to the device, augmentation, progress: all that a run does within an epoch.
    """
    config = networks.config_of(network, batch, precision, shrink, changes | {"train.epochs": 1})
    seen: list[tuple[float, int]] = []  # (moment, images) after the first call and at the evaluation
    init, evaluated = Program.__init__, evaluate.evaluate

    def watched(self, *arguments, **options):
        init(self, *arguments, **options)
        for name in [name for name in vars(self) if name.startswith("train_")]:
            setattr(self, name, first(getattr(self, name)))

    def first(call):
        def called(*arguments, **options):
            out = call(*arguments, **options)
            latest[:] = [out]
            if not seen:
                jax.block_until_ready(out)
                seen.append((_clock(), int(out[1].images)))
            return out

        return called

    def at_end(*arguments, **options):
        if len(seen) == 1:
            jax.block_until_ready(latest)
            seen.append((_clock(), int(latest[0][1].images)))
        return evaluated(*arguments, **options)

    latest: list[Any] = []
    Program.__init__, evaluate.evaluate = watched, at_end  # type: ignore[method-assign]
    try:
        with tempfile.TemporaryDirectory() as folder:
            loop.train(config, pathlib.Path(folder) / "run", show=False)
    finally:
        Program.__init__, evaluate.evaluate = init, evaluated  # type: ignore[method-assign]
    (begin, some), (end, images) = seen
    return (images - some) / (end - begin)


def read(network: str, batch: int, changes: dict[str, Any], images: int, cold: bool) -> float:
    """Images a second that the loader reads from the store in an epoch's order, nothing done with them.

    Args:
      images: how many at most. cold: ask the system first to forget the file, which it may decline.
    """
    config = networks.config_of(network, batch, "float32", changes=changes)
    split = data.open_split(config.data, config.data.train_split, report=lambda line: None)
    course = loader.Course(split, batch, 1)
    steps = min(course.steps, max(1, images // batch))
    if cold:
        with (split.store.folder / store.IMAGES).open("rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    begin = time.perf_counter()
    for _ in loader.training_batches(course, 0, 0, steps):
        pass
    return steps * batch / (time.perf_counter() - begin)


def loss(key: str) -> float:
    return _STEPS[key].loss()


def forget() -> None:
    """Frees what was set up."""
    _STEPS.clear()
    jax.clear_caches()


def matmul(size: int, repeats: int, precision: str) -> float:
    """The best rate of a square matrix product, in floating-point operations a second."""
    a = jnp.ones((size, size), precision)
    product = jax.jit(lambda a, b: a @ b)
    product(a, a).block_until_ready()
    times = []
    for _ in range(repeats):
        begin = time.perf_counter()
        product(a, a).block_until_ready()
        times.append(time.perf_counter() - begin)
    return 2.0 * size**3 / min(times)


def copy(megabytes: int, repeats: int) -> float:
    """The best rate of copying memory, read and written bytes both counted, in bytes a second."""
    a = jnp.ones((megabytes << 18,), jnp.float32)
    move = jax.jit(lambda a: a + 1)
    move(a).block_until_ready()
    times = []
    for _ in range(repeats):
        begin = time.perf_counter()
        move(a).block_until_ready()
        times.append(time.perf_counter() - begin)
    return 2.0 * a.nbytes / min(times)
