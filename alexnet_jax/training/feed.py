"""How images reach the training step: from device memory where they fit, otherwise streamed from the host in batches.

Either way a step sees the same images in the same order, and computes the same. With the images on an accelerator, one
call runs many steps, saving dispatches; on a CPU a call is one step, because XLA for CPUs runs convolutions inside a
loop about twenty times slower.
"""

from __future__ import annotations

import bisect
import collections
import contextlib
import pathlib
import time
from collections.abc import Callable, Generator, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from ml_collections import ConfigDict

from alexnet_jax import provenance, text
from alexnet_jax.data import Split, loader
from alexnet_jax.errors import ConfigError
from alexnet_jax.parallel import distributed
from alexnet_jax.parallel.mesh import local_rows, put_batch, put_whole
from alexnet_jax.training import optim
from alexnet_jax.training.program import SLOTS, Batches, Counts, DeviceImages, Moment, Program, State, Sums

SHARE = 0.3  # of a device's free memory that images may take; the step's temporaries are allocated later
TARGET = 0.25  # seconds a call; up to three are in flight when a signal comes
_LAG = 2  # calls in flight before the host fetches a result


class Call(NamedTuple):
    """The input of one call: a batch on the mesh, or `steps` many `batches` of device images."""

    steps: int
    batch: Any = None
    batches: Batches | None = None


class Pace:
    """How many steps a call makes: `fixed`, or as many as take about `TARGET` seconds, adapted as calls end."""

    def __init__(self, fixed: int = 0, most: int = 1 << 16):
        self.steps = min(fixed or 1, most)
        self._fixed, self._most = fixed, most
        self._last: float | None = None

    def begin(self) -> None:
        """Resets the timer, after something other than a call."""
        self._last = None

    def ended(self, steps: int, now: float | None = None) -> None:
        """Records that a call of `steps` ended at `now` (seconds), directly after another one."""
        now = time.perf_counter() if now is None else now
        if self._last is not None and not self._fixed:
            wanted = TARGET * steps / max(now - self._last, 1e-9)
            self.steps = int(max(1, min(wanted, 2 * self.steps, self._most)))
        self._last = now


class UnderWay:
    """The few calls in flight, whose results the host has not fetched yet.

    Waiting for an earlier call keeps the queue short without letting the devices idle.
    """

    def __init__(self, pace: Pace):
        self._pace, self._calls = pace, collections.deque[tuple[int, Sums]]()
        self.seen: Sums | None = None  # of the newest fetched call, on the host

    def add(self, steps: int, sums: Sums) -> None:
        """Adds a started call; fetches the one `_LAG` calls earlier."""
        self._calls.append((steps, sums))
        if len(self._calls) > _LAG:
            done, earlier = self._calls.popleft()
            self.seen = jax.device_get(earlier)
            self._pace.ended(done)

    def forget(self, seen: bool = False) -> None:
        """Restarts the pace after something other than a call; `seen`: it waited for all calls; drops their sums."""
        self._pace.begin()
        if seen:
            self._calls.clear()
            self.seen = None


class Resident(NamedTuple):
    """A slice of a store, from image `first` on, in the memory of every device."""

    images: DeviceImages
    first: int


class Feed:
    """Feeds the images of one run to its program, call by call.

    Args:
      config: a resolved config. program: the run's. course: what it learns from, epoch by epoch.
      others: splits that are evaluated. say: called with a line about where the images are.

    Raises:
      ConfigError: `data.placement` is 'device' and the images don't fit.
    """

    def __init__(self, config: ConfigDict, program: Program, course: loader.Course, others: Sequence[Split],
                 say: Callable[[str], None] = lambda line: None):
        self._program, self._course, self._mesh, self._batch = program, course, program.mesh, config.train.batch_size
        self._rows = local_rows(self._mesh, self._batch)
        self._rows_of_batch = put_batch(self._mesh, np.arange(self._batch, dtype=np.int32)[self._rows], self._batch)
        self._resident = _place(config.data.placement, self._mesh, [*course.splits, *others], say)
        self._orders: dict[int, Any] = {}
        requested, on_cpu = config.train.steps_per_call, _is_cpu(self._mesh)
        self.looped = requested > 1 or (requested == 0 and not on_cpu)
        self._here = all(self.resident(split) for split in course.splits)
        if requested > 1 and not self._here:
            say("note: config.train.steps_per_call: one step a call, as the images are streamed from the host")
        elif requested > 1 and on_cpu:
            say("note: config.train.steps_per_call: on a CPU several steps a call are much slower than one")
        # Several processes have to make the same calls, and agree between two calls whether to stop.
        fixed = requested or (distributed.EVERY if distributed.several() else 0)
        self.pace = Pace(fixed if self.looped and self._here else 1)
        self._evaluation_fixed = fixed
        changes = [bisect.bisect_left(range(course.steps), at, key=lambda step: optim.position(
            config, course.epochs_done(step))) for at in optim.changes(config)]
        self._changes = sorted(changes)

    def resident(self, split: Split) -> Resident | None:
        """The device images of a split; None: it is on the host."""
        return self._resident.get(split.store.folder)

    def boundary(self, step: int) -> int:
        """The last step that a call from `step` on may reach: an epoch ends there, or a rate or the noise changes."""
        later = bisect.bisect_right(self._changes, step)
        end = step + self._course.left_in_epoch(step)
        if distributed.several():
            end = min(end, step + distributed.EVERY - step % distributed.EVERY)
        return min(end, *self._changes[later:later + 1], self._course.steps)

    # Training.

    def training(self, seed: int, step: int) -> Generator[Call, None, None]:
        """The calls from step `step` to the run's end, each as long as `pace` says at that time."""
        return self._from_device(seed, step) if self._here else self._from_host(seed, step)

    def _from_host(self, seed: int, step: int) -> Generator[Call, None, None]:
        def put(batch: loader.Batch):  # in a loader thread: the step needn't wait for the transfer
            return *put_batch(self._mesh, (batch.images, batch.labels), self._batch), self._rows_of_batch

        with contextlib.closing(loader.training_batches(
                self._course, seed, step, self._course.steps, self._rows, put)) as batches:
            for batch in batches:
                yield Call(1, batch)

    def _from_device(self, seed: int, step: int) -> Generator[Call, None, None]:
        order, order_epoch = None, -1
        while step < self._course.steps:
            split, (epoch, place) = self._course.split(step), self._course.place(step)
            resident = self.resident(split)
            assert resident is not None
            if epoch != order_epoch:
                order, order_epoch = self._order(loader.epoch_order(len(split), seed, epoch), split, resident), epoch
            if self.looped:
                steps = min(self.pace.steps, self.boundary(step) - step)
                call = Call(steps, batches=self._batches(resident, order, place))
            else:
                call = Call(1, self._gather(resident, order, place))
            yield call
            step += call.steps

    def train(self, call: Call, state: State, sums: Sums, consts, moment: Moment) -> tuple[State, Sums]:
        """Runs a call; arguments and result as in `Program.train_step`."""
        moment = put_whole(self._mesh, moment)
        if call.batches is None:
            return self._program.train_step(state, sums, call.batch, consts, moment)
        return self._program.train_steps(state, sums, call.batches, put_whole(self._mesh, np.int32(call.steps)), consts,
                                         moment)

    # Evaluation.

    def evaluation(self, split: Split, params, consts, views: np.ndarray) -> Generator[Counts, None, None] | None:
        """`Counts` of the batches of a resident split, arrays of [SLOTS]; None where one call is one batch.

        Args:
          views: int32 [views, 3] of evaluate.places.
        """
        resident = self.resident(split)
        return self._counts(split, resident, params, consts, views) if resident and self.looped else None

    def _counts(self, split: Split, resident: Resident, params, consts, views) -> Generator[Counts, None, None]:
        order, pace = self._in_order(split, resident), Pace(self._evaluation_fixed, SLOTS)
        done, batches = 0, -(-len(split) // self._batch)
        total, views = put_whole(self._mesh, (np.int32(len(split)), views))
        while done < batches:
            many = min(pace.steps, batches - done)
            counts = self._program.in_turn(self._program.count_batches(
                params, self._batches(resident, order, done), put_whole(self._mesh, np.int32(many)), total, views,
                consts))
            yield counts
            pace.ended(many)
            done += many

    def evaluation_batches(self, split: Split) -> Generator[Any, None, None]:
        """`loader.evaluation_batches` on the mesh, from device images or streamed."""
        resident = self.resident(split)
        if resident is None:
            yield from streamed_evaluation(self._program, split)
            return
        order = self._in_order(split, resident)
        for place in range(-(-len(split) // self._batch)):
            weight = np.arange(place * self._batch, (place + 1) * self._batch)[self._rows] < len(split)
            images, labels, _ = self._gather(resident, order, place)
            yield images, labels, put_batch(self._mesh, weight.astype(np.float32), self._batch)

    def _in_order(self, split: Split, resident: Resident):
        """The order of an evaluation: each image once, then the first again to fill the last batch."""
        key = id(split)
        if key not in self._orders:
            fill = -len(split) % self._batch
            self._orders[key] = self._order(np.pad(np.arange(len(split)), (0, fill)), split, resident)
        return self._orders[key]

    def _order(self, order: np.ndarray, split: Split, resident: Resident):
        return put_whole(self._mesh, (split.places(order) - resident.first).astype(np.int32))

    def _batches(self, resident: Resident, order, place: int) -> Batches:
        return Batches(resident.images, order, self._rows_of_batch, put_whole(self._mesh, np.int32(place)))

    def _gather(self, resident: Resident, order, place: int):
        # A separate program, so that the step is unchanged: fusing the two might change its last bits.
        return *self._program.gather(self._batches(resident, order, place)), self._rows_of_batch


def streamed_evaluation(program: Program, split) -> Generator[Any, None, None]:
    """`loader.evaluation_batches` on the program's mesh."""
    batch = program.config.train.batch_size
    for arrays in loader.evaluation_batches(split, batch, local_rows(program.mesh, batch)):
        yield put_batch(program.mesh, arrays, batch)


# Placement.


def _is_cpu(mesh) -> bool:
    return mesh.devices.flat[0].platform == "cpu"


def free_bytes(mesh) -> int | None:
    """Free bytes on each of this process's devices; None where JAX doesn't report it."""
    if _is_cpu(mesh):
        return provenance.free_memory()
    stats = [device.memory_stats() for device in mesh.local_devices]
    known = [s["bytes_limit"] - s.get("bytes_in_use", 0) for s in stats if s and "bytes_limit" in s]
    return min(known) if len(known) == len(stats) else None


def _place(placement: str, mesh, splits: Sequence[Split], say: Callable[[str], None]) -> dict[pathlib.Path, Resident]:
    """Puts images onto the devices, {store: Resident}: all slices of a store together, training images first.

    On a CPU 'auto' leaves them on the host, which is the same memory.
    """
    if placement == "host" or (placement == "auto" and _is_cpu(mesh)):
        return {}
    groups: dict[pathlib.Path, list[Split]] = {}
    for split in splits:
        groups.setdefault(split.store.folder, []).append(split)
    free, placed, used = free_bytes(mesh), {}, 0
    room = None if free is None else int(free * (SHARE if placement == "auto" else 1))
    for folder, parts in groups.items():
        first, last = min(s.span[0] for s in parts), max(s.span[1] for s in parts)
        store = parts[0].store
        need = (last - first) * (store.images[0].nbytes + 4)
        fits = need + used <= room if room is not None else placement == "device"
        if not distributed.everywhere(fits):
            if placement == "device":
                raise ConfigError(f"config.data.placement: 'device' needs {text.size(need + used)} for the images and "
                                  f"{text.size(room or 0)} are free; choose auto or host")
            say(f"images of {parts[0].whole} ({text.size(need)}) stay on the host; a device has "
                f"{text.size(room or 0)} for them")
            continue
        # The splits share the run's classes; rows between them that belong to none of these are not used.
        labels = parts[0].mapped(store.labels[first:last])
        placed[folder] = Resident(DeviceImages(*put_whole(mesh, (store.images[first:last], labels))), first)
        used += need
    if used:
        say(f"images on the device: {text.size(used)}")
    return placed
