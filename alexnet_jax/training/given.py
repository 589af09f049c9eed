"""Shapes and shardings of the arguments of a run's programs, to compile these ahead of time."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from alexnet_jax.data import Split
from alexnet_jax.data.statistics import Statistics
from alexnet_jax.parallel.mesh import DATA
from alexnet_jax.training import augment, evaluate, initial_signal, optim, views
from alexnet_jax.training.compiling import Function
from alexnet_jax.training.feed import Feed
from alexnet_jax.training.program import Batches, DeviceImages, Moment, Program, State, Sums

INITIALISATION, SIGNALS, STEP, EVALUATION = "initialisation", "initial signals", "step", "evaluation"


def _whole(program: Program, shape: tuple[int, ...], dtype) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, dtype, sharding=NamedSharding(program.mesh, P()))


def _split(program: Program, *shape: int, dtype) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, dtype, sharding=NamedSharding(program.mesh, P(DATA)))


def arguments(program: Program) -> tuple[tuple, tuple]:
    """Shapes and shardings of the arguments of `program.train_step` and of `program.view_log_probs`."""
    config = program.config
    whole = functools.partial(_whole, program)
    state: State = jax.tree.map(lambda leaf, sharding: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding),
                                jax.eval_shape(program.init, np.uint32(0)), program.state_shardings)
    batch, size = config.train.batch_size, config.data.size
    images = _split(program, batch, size, size, 3, dtype=jnp.uint8)
    blank = Statistics(np.zeros((size, size, 3)), np.zeros(3), np.zeros((3, 3)))
    consts = jax.tree.map(lambda x: whole(x.shape, x.dtype), augment.constants(config, blank))
    scalar = functools.partial(whole, ())
    wide = jnp.float64 if config.train.precision == "float64" else jnp.float32
    sums = Sums(scalar(wide), scalar(jnp.int32), scalar(jnp.int32))
    numbers = _split(program, batch, dtype=jnp.int32)
    rates = {group: scalar(jnp.float32) for group in optim.GROUPS}
    moment = Moment(scalar(jnp.uint32), scalar(jnp.int32), rates, scalar(jnp.float32))
    step = (state, sums, (images, numbers, numbers), consts, moment)
    return step, (state.params, images, whole((3,), jnp.int32), consts)


def evaluation(by: str) -> str:
    """The name, for people, of the program that evaluates by these views."""
    return EVALUATION if by == views.CENTRE else f"{EVALUATION} by {views.NAMES[by]}"


def programs(program: Program, feed: Feed, train: Split, evaluated: Split, fresh: bool) -> dict[str, Function]:
    """The programs that take long to compile, {name for people: program}, longest first.

    Args:
      train, evaluated: the training and the reported split. fresh: is the run starting, not resuming?
    """
    (state, sums, batch, consts, moment), view = arguments(program)
    whole, scalar = functools.partial(_whole, program), _whole(program, (), jnp.int32)
    size, found = program.config.train.batch_size, dict[str, Function]()

    def batches(split: Split, count: int) -> Batches | None:
        resident = feed.resident(split) if feed.looped else None
        return resident and Batches(DeviceImages(*(whole(x.shape, x.dtype) for x in resident.images)),
                                    whole((count,), jnp.int32), batch[2], scalar)

    learnt = batches(train, len(train))
    found[STEP] = ((program.train_step, (state, sums, batch, consts, moment)) if learnt is None else
                   (program.train_steps, (state, sums, learnt, scalar, consts, moment)))
    if fresh:
        images = np.zeros((min(initial_signal.IMAGES, len(train)), *train.images.shape[1:]), np.uint8)
        found[INITIALISATION] = program.init, (np.uint32(0),)
        found[SIGNALS] = program.initial_signal, (state.params, images, consts)
    seen = batches(evaluated, -(-len(evaluated) // size) * size)
    if seen is None:
        found[EVALUATION] = program.view_log_probs, view
        return found
    for name in views.counted(program.config):
        places = whole(evaluate.places(program.config, name).shape, jnp.int32)
        found[evaluation(name)] = program.count_batches, (state.params, seen, scalar, scalar, places, consts)
    return found
