"""The compiled programs of a run: initialisation, the training step, the forward pass of one view, and loops of these.

Each is one jitted function over the ('data', 'column') mesh. Inside `jax.shard_map` the network runs on the local
columns; gradients are taken outside it, which is correct on every mesh. Seeds, rates,
data statistics and the step are arguments, so that one compiled program serves a whole sweep.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jax import lax
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
from ml_collections import ConfigDict

from alexnet_jax import environment, models, numerics
from alexnet_jax.models import geometry
from alexnet_jax.models.alexnet import Dropout
from alexnet_jax.parallel.mesh import COLUMN, DATA, shardings
from alexnet_jax.training import augment, initial_signal, optim

# Purposes of randomness, folded into the seed's key.
_INIT, _AUGMENT, _DROPOUT = range(3)
SLOTS = 256  # batches that one call of `count_batches` can count


class State(NamedTuple):
    """What training updates: `params` and `velocity`, nested dicts of arrays by layer."""

    params: Any
    velocity: Any


class Sums(NamedTuple):
    """Running sums over training images since the last evaluation: loss, top-1 mistakes, images.

    `images` stops counting at the first step whose loss is not finite.
    """

    loss: Any
    wrong: Any
    images: Any


class Moment(NamedTuple):
    """A step's inputs besides state and images: the seed, the step (int32, from 0), {group: rate}, the noise."""

    seed: Any
    step: Any
    rates: optim.Rates
    noise: Any


class DeviceImages(NamedTuple):
    """Images that lie whole on every device: uint8 [n, size, size, 3], and their labels, int32 [n]."""

    images: Any
    labels: Any


class Batches(NamedTuple):
    """Batches of device images in an order, from batch `place` on.

    order: int32 [at least (place + 1) · batch]. rows: int32 [batch], 0 … batch − 1, split over 'data'.
    """

    images: DeviceImages
    order: Any
    rows: Any
    place: Any


class Counts(NamedTuple):
    """Sums over evaluated images: mistakes at one and at five guesses, images, loss. And `outcome`, int8 [batch].

    An image's outcome is 0 if it was right, 1 if it was wrong at one guess, 2 if at five too, −1 for padding.
    """

    top1_wrong: Any
    top5_wrong: Any
    total: Any
    loss: Any
    outcome: Any


def count_mistakes(log_probs: jax.Array, labels: jax.Array, weight: jax.Array) -> Counts:
    """Mistakes among the images of weight 1; a tie goes to the lower class, NaN counts as a mistake.

    Args:
      log_probs: [batch, classes]. labels: int32 [batch]. weight: [batch], 0 for padding.
    """
    labels = jnp.asarray(labels)
    own = jnp.take_along_axis(log_probs, labels[:, None], axis=1)
    earlier = jnp.arange(log_probs.shape[1], dtype=labels.dtype)[None, :] < labels[:, None]
    rank = jnp.sum((log_probs > own) | (earlier & (log_probs == own)), axis=1)
    bad = ~jnp.isfinite(own[:, 0])
    counted = weight > 0
    one, five = counted & (bad | (rank >= 1)), counted & (bad | (rank >= 5))
    return Counts(jnp.sum(one), jnp.sum(five), jnp.sum(counted), jnp.sum(jnp.where(counted, -own[:, 0], 0.0)),
                  jnp.where(counted, one.astype(jnp.int8) + five.astype(jnp.int8), jnp.int8(-1)))


def products(precision: str, platform: str) -> str | None:
    """The matmul precision to request for products and convolutions on `platform`; None: JAX's default.

    So that float32 means float32: by default JAX multiplies float32 numbers as TensorFloat-32 on NVIDIA cards and as
    bfloat16 on TPUs. JAX_DEFAULT_MATMUL_PRECISION takes precedence. CPUs are always exact.
    """
    if platform == "cpu":
        return None
    chosen = jax.config.jax_default_matmul_precision  # type: ignore[attr-defined]
    return chosen or ("float32" if precision == "float32" else None)


def _pinned(precision: str | None, function: Callable) -> Callable:
    """`function`, traced under `numerics.pinned(precision)`, gradients included."""

    @functools.wraps(function)
    def traced(*arguments):
        with numerics.pinned(precision):
            return function(*arguments)

    return traced


def _is_spec(leaf) -> bool:
    return isinstance(leaf, P)


class Program:
    """The programs of one config on one mesh.

    Args:
      config: a resolved config. classes: output units where `model.classes` is 0. mesh: of `mesh.make_mesh`.

    Raises:
      ConfigError: impossible shapes, or JAX's 64-bit mode doesn't fit `train.precision`.
    """

    def __init__(self, config: ConfigDict, classes: int, mesh: Mesh):
        numerics.check(config.train.precision)
        self.config, self.classes, self.mesh = config, classes, mesh
        abstract = nnx.eval_shape(lambda: models.build(config, numerics.key(0), classes))
        self.layers = geometry.layers(config, classes)
        self._graph, self._abstract = nnx.split(abstract)
        specs = nnx.to_pure_dict(nnx.get_partition_spec(self._abstract))
        # An axis of one device is left out altogether: XLA for CPUs keeps collectives of a single participant.
        self._column = COLUMN if mesh.shape[COLUMN] > 1 else None
        self._data = DATA if mesh.shape[DATA] > 1 else None
        self.param_specs = specs if self._column else jax.tree.map(lambda _: P(), specs, is_leaf=_is_spec)
        rule = config.optim
        self.tx = optim.paper_sgd(rule.momentum, rule.weight_decay, rule.decay_biases, dict(rule.layer_decay),
                                  frozenset(rule.freeze))
        self._emulated = mesh.size > 1 and mesh.devices.flat[0].platform == "cpu"
        self._replicated = NamedSharding(mesh, P())
        self.state_shardings = State(*[shardings(mesh, self.param_specs)] * 2)
        self.products = products(config.train.precision, mesh.devices.flat[0].platform)
        exact = self.exact = functools.partial(_pinned, self.products)  # for other code that runs the model
        self.init = jax.jit(exact(self._init), out_shardings=self.state_shardings,
                            compiler_options=environment.options_of_init(mesh.devices.flat[0].platform))
        self.train_step = jax.jit(exact(self._train_step), donate_argnums=(0,),
                                  out_shardings=(self.state_shardings, self._replicated))
        self.view_log_probs = jax.jit(exact(self._view_log_probs))
        # From images that lie on the devices: one batch of them, and many steps or batches a call.
        self.gather = jax.jit(self._gather)
        self.train_steps = jax.jit(exact(self._train_steps), donate_argnums=(0,),
                                   out_shardings=(self.state_shardings, self._replicated))
        self.count_batches = jax.jit(exact(self._count_batches), out_shardings=self._replicated)
        wide = jnp.float64 if config.train.precision == "float64" else jnp.float32
        self.zero_sums = jax.jit(
            lambda: Sums(jnp.zeros((), wide), jnp.zeros((), jnp.int32), jnp.zeros((), jnp.int32)),
            out_shardings=self._replicated)
        self.mean_log_probs = jax.jit(lambda of_sum, views: of_sum - math.log(views), static_argnums=1)
        self.count_mistakes = jax.jit(count_mistakes, out_shardings=self._replicated)
        self.initial_signal = jax.jit(exact(self._initial_signal), out_shardings=self._replicated)

    def in_turn(self, result):
        """`result`, waited for where a CPU emulates several devices.

        There, independent programs start concurrently; when their devices wait for one another in collectives, they can
        take all threads and deadlock.
        """
        return jax.block_until_ready(result) if self._emulated else result

    def model(self, params) -> nnx.Module:
        """The NNX module with these parameters (local ones inside `shard_map`)."""
        state = jax.tree.map(lambda leaf: leaf, self._abstract)  # a copy: the replacement is in place
        nnx.replace_by_pure_dict(state, params)
        return nnx.merge(self._graph, state)

    def _init(self, seed) -> State:
        key = jax.random.fold_in(numerics.key(seed), _INIT)
        params = nnx.to_pure_dict(nnx.state(models.build(self.config, key, self.classes)))
        return State(params, self.tx.init(params))

    def _train_step(self, state: State, sums: Sums, batch, consts: augment.Constants, moment: Moment
                    ) -> tuple[State, Sums]:
        """One update. batch: (images uint8 [batch, size, size, 3], labels, index), split over 'data'."""
        images, labels, index = batch
        total = images.shape[0]
        key = numerics.key(moment.seed)

        def local(params, images, labels, index, consts, seed_key, step, noise):
            if self._data:
                # Make the full-precision parameters vary over replicas here, so that gradients are summed in full
                # precision. By default that happens after the cast, and bfloat16 gradients are summed in bfloat16.
                params = jax.tree.map(lambda leaf: lax.pcast(leaf, self._data, to="varying"), params)
            aug_key, drop_key = (jax.random.fold_in(jax.random.fold_in(seed_key, purpose), step)
                                 for purpose in (_AUGMENT, _DROPOUT))
            views = augment.training_views(images, aug_key, index, noise, consts, self.config)
            logits = self.model(params)(views, axis=self._column, dropout=Dropout(drop_key, index))
            losses = -jnp.take_along_axis(jax.nn.log_softmax(logits), labels[:, None], axis=1)[:, 0]
            wrong = jnp.argmax(logits, axis=1).astype(labels.dtype) != labels
            # One reduction for all scalars.
            scalars = jnp.stack([losses.sum(), wrong.sum().astype(losses.dtype)])
            return lax.psum(scalars, self._data) if self._data else scalars

        def loss(params):
            out = jax.shard_map(
                local, mesh=self.mesh,
                in_specs=(self.param_specs, P(self._data), P(self._data), P(self._data), P(), P(), P(), P()),
                out_specs=P(),
            )(params, images, labels, index, consts, key, moment.step, moment.noise)
            return out[0] / total, out

        grads, scalars = jax.grad(loss, has_aux=True)(state.params)
        updates, velocity = self.tx.update(grads, state.velocity, state.params, rates=moment.rates)
        params = optax.apply_updates(state.params, updates)
        # The count stops once the loss is not finite, which shows at which step that was.
        sums = Sums(sums.loss + scalars[0].astype(sums.loss.dtype), sums.wrong + scalars[1].astype(jnp.int32),
                    sums.images + jnp.where(jnp.isfinite(sums.loss), total, 0))
        return State(params, velocity), sums

    def _gather(self, batches: Batches) -> tuple[jax.Array, jax.Array]:
        """Images and labels of the first of `batches`, split over 'data'.

        Each device takes its rows from its own copy.
        """
        batch = batches.rows.shape[0]

        def local(device_images, order, rows, place):
            chosen = jnp.take(order, place * batch + rows, mode="clip")
            return tuple(jnp.take(x, chosen, axis=0, mode="clip") for x in device_images)

        return jax.shard_map(local, mesh=self.mesh, in_specs=(P(), P(), P(self._data), P()),
                             out_specs=P(self._data))(*batches)

    def _train_steps(self, state: State, sums: Sums, batches: Batches, steps, consts, moment: Moment
                     ) -> tuple[State, Sums]:
        """`steps` updates in one call, on as many `batches`; `moment` is that of the first, later ones differ in step.

        `steps` is an argument, so one compiled program serves any number: a run doesn't depend on how it is split into
        calls. Stops after a step whose loss is not finite.
        """

        def unfinished(carry):
            done, _, sums = carry
            return (done < steps) & jnp.isfinite(sums.loss)

        def body(carry):
            done, state, sums = carry
            # The barrier keeps the gather from being fused with the step.
            images, labels = lax.optimization_barrier(self._gather(batches._replace(place=batches.place + done)))
            return done + 1, *self._train_step(state, sums, (images, labels, batches.rows), consts,
                                               moment._replace(step=moment.step + done))

        _, state, sums = lax.while_loop(unfinished, body, (jnp.zeros_like(steps), state, sums))
        return state, sums

    def _initial_signal(self, params, images, consts: augment.Constants):
        """`initial_signal.measure` of the centre crops. Outside `shard_map`: XLA moves the columns as needed."""
        views = augment.test_view(images, augment.centre_view(self.config)[0], consts, self.config)
        return initial_signal.measure(self.model(params), views)

    def _view_log_probs(self, params, images, view, consts: augment.Constants) -> jax.Array:
        """log softmax [batch, classes] of one view (y, x, mirrored) of each image uint8 [batch, size, size, 3]."""

        def local(params, images, view, consts):
            x = augment.test_view(images, view, consts, self.config)
            return jax.nn.log_softmax(self.model(params)(x, axis=self._column))

        return jax.shard_map(local, mesh=self.mesh, in_specs=(self.param_specs, P(self._data), P(), P()),
                             out_specs=P(self._data))(params, images, view, consts)

    def _count_batches(self, params, batches: Batches, many, total, views, consts) -> Counts:
        """`Counts` [SLOTS, …] of the first `many` of `batches`; the other slots count nothing.

        Args:
          total: positions of the order from `total` on are padding. views: int32 [views, 3], averaged as probabilities.
        """

        def log_probs(images):
            def add(number, so_far):
                return jnp.logaddexp(so_far, self._view_log_probs(params, images, views[number], consts))

            first = self._view_log_probs(params, images, views[0], consts)
            if len(views) == 1:
                return first
            return lax.fori_loop(1, len(views), add, first) - math.log(len(views))

        def body(done, counts):
            here = batches._replace(place=batches.place + done)
            images, labels = lax.optimization_barrier(self._gather(here))
            weight = here.place * here.rows.shape[0] + here.rows < total
            new = count_mistakes(log_probs(images), labels, weight.astype(jnp.float32))
            return jax.tree.map(lambda all_, one: all_.at[done].set(one.astype(all_.dtype)), counts, new)

        wide = jnp.float64 if self.config.train.precision == "float64" else jnp.float32
        none = jnp.zeros(SLOTS, jnp.int32)
        nothing = Counts(none, none, none, jnp.zeros(SLOTS, wide), jnp.full((SLOTS, len(batches.rows)), -1, jnp.int8))
        return lax.fori_loop(0, many, body, nothing)
