"""This project's side of a comparison, in a child process: training steps through `training.program.Program`.

A step is that of training: crop, mirror and colour noise of uint8 images on the device, forward, backward, dropout,
loss, and the paper's update. Only the host's reading of images is left out.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import pathlib
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from alexnet_jax import environment

environment.prepare()

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402

from alexnet_jax import data, provenance  # noqa: E402
from alexnet_jax.data import loader, store  # noqa: E402
from alexnet_jax.data.statistics import Statistics  # noqa: E402
from alexnet_jax.parallel.mesh import make_mesh, put_batch, put_whole  # noqa: E402
from alexnet_jax.training import augment, evaluate, loop, optim  # noqa: E402
from alexnet_jax.training.program import Batches, DeviceImages, Moment, Program  # noqa: E402
from benchmarks import networks, tracing  # noqa: E402


def about() -> dict[str, Any]:
    """{'platform', 'kind', 'count', 'versions'}."""
    device = jax.devices()[0]
    return {"platform": device.platform, "kind": provenance.device_name(device), "count": len(jax.devices()),
            "versions": provenance.versions()}


_EPOCHS_READ, _BATCHES_APART = 4, 10  # epochs read from memory; batches left out at both ends
_ONE_DEVICE = {"mesh.data": "1", "mesh.column": "1"}  # as the peer has, where there are more
_RESIDENT = 12_000  # images, the training set's size in the paper's regime

_clock = time.perf_counter  # for `epoch`


class Step:
    """Training steps of a config on one synthetic batch.

    Args:
      resident: use many images on the device, with an epoch of them per call.
    """

    def __init__(self, config, resident: bool = False):
        self.config = config
        mesh = make_mesh(config)
        self.program = Program(config, config.model.classes, mesh)
        size, batch = config.data.size, config.train.batch_size
        rng = np.random.default_rng(0)
        self._resident, self.steps_per_call = resident, _RESIDENT // batch if resident else 1
        count = self.steps_per_call * batch
        images = rng.integers(0, 256, (count, size, size, 3), np.uint8)
        labels = rng.integers(0, config.model.classes, count, np.int32)
        rows = np.arange(batch, dtype=np.int32)
        if resident:
            order = rng.permutation(count).astype(np.int32)
            self.batch = Batches(DeviceImages(*put_whole(mesh, (images, labels))), put_whole(mesh, order),
                                 put_batch(mesh, rows, batch), put_whole(mesh, np.int32(0)))
        else:
            self.batch = put_batch(mesh, (images, labels, rows), batch)
        self.consts = augment.constants(config, Statistics(np.full((size, size, 3), 127.5), np.ones(3), np.eye(3)))
        self.rates = {k: np.float32(v) for k, v in optim.rates(config, 0.0, optim.Plateau()).items()}
        self.noise = np.float32(optim.noise_amount(config, 0.0))
        self.state, self.sums = self.program.init(np.uint32(0)), self.program.zero_sums()
        self.done = 0
        # Compiled ahead of time: a call of `jax.jit` may number instructions differently from `compiled_text`.
        step = self.program.train_steps if resident else self.program.train_step
        self._step = step.lower(*self._arguments(1)).compile()

    def run(self, steps: int) -> float:
        """Seconds of `steps` steps, with synchronisation before and after."""
        jax.block_until_ready(self.state)
        begin = time.perf_counter()
        for done in range(0, steps, self.steps_per_call):
            many = min(self.steps_per_call, steps - done)
            self.state, self.sums = self._step(*self._arguments(many))
            self.done += many
        jax.block_until_ready(self.state)
        return time.perf_counter() - begin

    def _arguments(self, steps: int) -> tuple:
        return (self.state, self.sums, self.batch, *((np.int32(steps),) if self._resident else ()), self.consts,
                Moment(np.uint32(0), np.int32(self.done), self.rates, self.noise))

    def compiled_text(self) -> str | None:
        """The HLO text of the compiled step."""
        return self._step.as_text()

    def loss(self) -> float:
        """The mean training loss so far."""
        return float(self.sums.loss) / max(1, int(self.sums.images))


_STEPS: dict[str, Step] = {}


def setup(key: str, network: str, batch: int, precision: str, shrink: bool = False,
          changes: dict[str, Any] | None = None, resident: bool = False) -> float:
    """Builds and compiles `key` and runs two steps; returns the total seconds."""
    begin = time.perf_counter()
    changes = _ONE_DEVICE | (changes or {})
    with _asking_for(precision):
        _STEPS[key] = Step(networks.config_of(network, batch, precision, shrink, changes), resident)
    _STEPS[key].run(2)
    return time.perf_counter() - begin


def _asking_for(precision: str) -> contextlib.AbstractContextManager:
    """Sets the precision for tracing, as JAX_DEFAULT_MATMUL_PRECISION would."""
    return jax.default_matmul_precision(precision) if precision == "tensorfloat32" else contextlib.nullcontext()


def run(key: str, steps: int) -> float:
    return _STEPS[key].run(steps)


def profile(key: str, steps: int) -> list[dict[str, Any]]:
    return tracing.profile(_STEPS[key], steps)


def kernels(key: str, steps: int) -> dict[str, Any]:
    return tracing.kernels(_STEPS[key], steps)


def epoch(network: str, batch: int, precision: str, changes: dict[str, Any], shrink: bool = False) -> float:
    """Images per second in one epoch of `training.loop.train`, from the end of its first step to that of its last.

    Includes everything that a run does in an epoch: reading, shuffling, transfer to the device, augmentation, progress.
    """
    config = networks.config_of(network, batch, precision, shrink, _ONE_DEVICE | changes | {"train.epochs": 1})
    seen: list[tuple[float, int]] = []  # (time, images) after the first call and at the evaluation
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

        called.lower = call.lower  # type: ignore[attr-defined]  # a run compiles ahead of time
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


def read(network: str, batch: int, changes: dict[str, Any], images: int, cold: bool, how: str = "loader",
         threads: int = 0) -> float:
    """Images per second when only reading the store in an epoch's order.

    Args:
      images: at most so many of an epoch. cold: first drop the file from the page cache, if the system complies.
      how: 'loader'; or as baselines 'requests', one read per image by plain `threads`, or 'copy', of images in memory
        by these threads.
    """
    config = networks.config_of(network, batch, "float32", changes=changes)
    split = data.open_split(config.data, config.data.train_split, report=lambda line: None)
    course = loader.Course(split, batch, 1 if cold else _EPOCHS_READ)
    steps = min(course.steps, max(1, images // batch) * course.epochs)
    if cold:
        with (split.store.folder / store.IMAGES).open("rb") as file:
            os.fsync(file.fileno())  # dirty pages can't be dropped
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    if how == "loader":
        # Timed in the middle: the first batches use fresh memory, and the last have been read ahead.
        apart = _BATCHES_APART if steps >= 4 * _BATCHES_APART else 0
        with contextlib.closing(loader.training_batches(course, 0, 0, steps, threads=threads)) as batches:
            _take(batches, apart)
            begin = time.perf_counter()
            _take(batches, steps - 2 * apart)
            return (steps - 2 * apart) * batch / (time.perf_counter() - begin)
    rows = np.concatenate([loader.epoch_order(len(split), 0, epoch) for epoch in range(course.epochs)])[:steps * batch]
    each = split.images[0].nbytes
    # As much memory as the loader uses, and more than the processor's caches.
    there, out = np.ones((2, min(len(split), max(4 * batch, 2048)), each), np.uint8)
    with (split.store.folder / store.IMAGES).open("rb") as file, ThreadPoolExecutor(threads) as pool:

        def some(first: int) -> None:
            for place in range(first, len(rows), threads):
                if how == "copy":
                    out[place % len(out)] = there[rows[place] % len(there)]
                else:
                    os.preadv(file.fileno(), [out[place % len(out)]], int(rows[place]) * each)

        begin = time.perf_counter()
        list(pool.map(some, range(threads)))
        return len(rows) / (time.perf_counter() - begin)


def _take(batches: Iterator[Any], count: int) -> None:
    for _ in itertools.islice(batches, count):
        pass


def loss(key: str) -> float:
    return _STEPS[key].loss()


def forget() -> None:
    """Frees all setups."""
    _STEPS.clear()
    jax.clear_caches()


def matmul(size: int, repeats: int, precision: str, calls: int = 1) -> float:
    """The best rate of a square matrix product, in floating-point operations per second.

    Args:
      calls: products per timing.
    """
    a = jnp.ones((size, size), jnp.bfloat16 if precision == "bfloat16" else jnp.float32)
    # float32 products in full precision, as with `training.program.products`.
    products = jax.lax.Precision.HIGHEST if precision == "float32" else None
    product = jax.jit(lambda a, b: jnp.matmul(a, b, precision=products))
    with _asking_for(precision):
        return 2.0 * size**3 / _quickest(lambda: product(a, a), repeats, calls)


def copy(megabytes: int, repeats: int, calls: int = 1) -> float:
    """The best rate of copying memory, in bytes read plus written per second."""
    a = jnp.ones((megabytes << 18,), jnp.float32)
    move = jax.jit(lambda a: a + 1)
    return 2.0 * a.nbytes / _quickest(lambda: move(a), repeats, calls)


def _quickest(call: Callable[[], jax.Array], repeats: int, calls: int) -> float:
    """The minimal seconds per call, timing `calls` together, after a warm-up call."""
    call().block_until_ready()
    times = []
    for _ in range(repeats):
        begin = time.perf_counter()
        for _ in range(calls):
            out = call()
        out.block_until_ready()
        times.append((time.perf_counter() - begin) / calls)
    return min(times)
