"""The compiled programs of a run: initialisation, the training step, the forward pass of one view.

Each is one jitted function over the ('data', 'column') mesh. Inside `jax.shard_map` the network runs on the
local columns; gradients are taken outside it, which is the form that is right on every mesh. Seeds, rates,
data statistics and the step are arguments, so that one compiled program serves a whole sweep.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
from ml_collections import ConfigDict

from alexnet_jax import health, models, optim
from alexnet_jax.data import augment
from alexnet_jax.mesh import COLUMN, DATA, shardings
from alexnet_jax.models import geometry
from alexnet_jax.models.alexnet import Dropout

# Purposes of randomness, folded into the seed's key.
_INIT, _AUGMENT, _DROPOUT = range(3)


class State(NamedTuple):
    """What training changes: `params` and `velocity`, nested dicts of arrays by layer."""

    params: Any
    velocity: Any


class Sums(NamedTuple):
    """Running sums over training images since the last evaluation: loss, top-1 mistakes, images."""

    loss: Any
    wrong: Any
    images: Any


class Counts(NamedTuple):
    """Sums over evaluated images: mistakes at one and at five guesses, images, loss."""

    top1_wrong: Any
    top5_wrong: Any
    total: Any
    loss: Any


def count(log_probs: jax.Array, labels: jax.Array, weight: jax.Array) -> Counts:
    """Mistakes among the images of weight 1; a tie goes to the lower class, NaN counts as a mistake.

    Args:
      log_probs: [batch, classes]. labels: int32 [batch]. weight: [batch], 0 for padding.
    """
    own = jnp.take_along_axis(log_probs, labels[:, None], axis=1)
    earlier = jnp.arange(log_probs.shape[1])[None, :] < labels[:, None]
    rank = jnp.sum((log_probs > own) | (earlier & (log_probs == own)), axis=1)
    bad = ~jnp.isfinite(own[:, 0])
    counted = weight > 0
    return Counts(jnp.sum(counted & (bad | (rank >= 1))), jnp.sum(counted & (bad | (rank >= 5))), jnp.sum(counted),
                  jnp.sum(jnp.where(counted, -own[:, 0], 0.0)))


def _is_spec(leaf) -> bool:
    return isinstance(leaf, P)


class Program:
    """The programs of one config on one mesh.

    Args:
      config: a resolved config. classes: output units where `model.classes` is 0. mesh: of `mesh.make_mesh`.

    Raises:
      ConfigError: impossible shapes.
    """

    def __init__(self, config: ConfigDict, classes: int, mesh: Mesh):
        self.config, self.classes, self.mesh = config, classes, mesh
        abstract = nnx.eval_shape(lambda: models.build(config, jax.random.key(0), classes))
        self.layers = geometry.layers(config, classes)
        self._graph, self._abstract = nnx.split(abstract)
        specs = nnx.to_pure_dict(nnx.get_partition_spec(self._abstract))
        # An axis of one device is left out altogether: XLA for CPUs keeps collectives of a single participant.
        self._column = COLUMN if mesh.shape[COLUMN] > 1 else None
        self._data = DATA if mesh.shape[DATA] > 1 else None
        self.param_specs = specs if self._column else jax.tree.map(lambda _: P(), specs, is_leaf=_is_spec)
        rule = config.optim
        self.tx = optim.paper_sgd(rule.momentum, rule.weight_decay, rule.decay_biases, dict(rule.layer_decay))
        self._replicated = NamedSharding(mesh, P())
        self.state_shardings = State(*[shardings(mesh, self.param_specs)] * 2)
        self.init = jax.jit(self._init, out_shardings=self.state_shardings)
        self.train_step = jax.jit(self._train_step, donate_argnums=(0,),
                                  out_shardings=(self.state_shardings, self._replicated))
        self.view_log_probs = jax.jit(self._view_log_probs)
        wide = jnp.float64 if config.train.precision == "float64" else jnp.float32
        self.zero_sums = jax.jit(
            lambda: Sums(jnp.zeros((), wide), jnp.zeros((), jnp.int32), jnp.zeros((), jnp.int32)),
            out_shardings=self._replicated)
        self.count = jax.jit(count, out_shardings=self._replicated)
        self.signals = jax.jit(self._signals, out_shardings=self._replicated)

    def model(self, params) -> nnx.Module:
        """The NNX module with these parameters (local ones inside `shard_map`)."""
        state = jax.tree.map(lambda leaf: leaf, self._abstract)  # a copy: the replacement is in place
        nnx.replace_by_pure_dict(state, params)
        return nnx.merge(self._graph, state)

    def _init(self, seed) -> State:
        key = jax.random.fold_in(jax.random.key(seed), _INIT)
        params = nnx.to_pure_dict(nnx.state(models.build(self.config, key, self.classes)))
        return State(params, jax.tree.map(jnp.zeros_like, params))

    def _train_step(self, state: State, sums: Sums, batch, consts: augment.Constants, seed, step, rates, noise
                    ) -> tuple[State, Sums]:
        """One update. batch: (images uint8 [batch, size, size, 3], labels, index), split over 'data'."""
        images, labels, index = batch
        total = images.shape[0]
        key = jax.random.key(seed)

        def local(params, images, labels, index, consts, seed_key, step, noise):
            if self._data:
                # Replicas part here, at parameters of full precision, so that their gradients are summed in it. Left
                # to JAX they part after the cast to `train.precision`, and bfloat16 gradients are added in bfloat16.
                params = jax.tree.map(lambda leaf: lax.pcast(leaf, self._data, to="varying"), params)
            aug_key, drop_key = (jax.random.fold_in(jax.random.fold_in(seed_key, purpose), step)
                                 for purpose in (_AUGMENT, _DROPOUT))
            views = augment.training_views(images, aug_key, index, noise, consts, self.config)
            logits = self.model(params)(views, axis=self._column, dropout=Dropout(drop_key, index))
            losses = -jnp.take_along_axis(jax.nn.log_softmax(logits), labels[:, None], axis=1)[:, 0]
            wrong = jnp.argmax(logits, axis=1) != labels
            # One reduction for all scalars.
            scalars = jnp.stack([losses.sum(), wrong.sum().astype(losses.dtype)])
            return lax.psum(scalars, self._data) if self._data else scalars

        def loss(params):
            out = jax.shard_map(
                local, mesh=self.mesh,
                in_specs=(self.param_specs, P(self._data), P(self._data), P(self._data), P(), P(), P(), P()),
                out_specs=P(),
            )(params, images, labels, index, consts, key, step, noise)
            return out[0] / total, out

        grads, scalars = jax.grad(loss, has_aux=True)(state.params)
        updates, new = self.tx.update(grads, optim.VelocityState(state.velocity), state.params, rates=rates)
        params = jax.tree.map(jnp.add, state.params, updates)
        sums = Sums(sums.loss + scalars[0].astype(sums.loss.dtype), sums.wrong + scalars[1].astype(jnp.int32),
                    sums.images + total)
        return State(params, new.velocity), sums

    def _signals(self, params, images, consts: augment.Constants):
        """`health.measure` of the centre crops. Outside `shard_map`: XLA moves the columns as it needs them."""
        views = augment.test_view(images, augment.centre_view(self.config)[0], consts, self.config)
        return health.measure(self.model(params), views)

    def _view_log_probs(self, params, images, view, consts: augment.Constants) -> jax.Array:
        """log softmax [batch, classes] of one view (y, x, mirrored) of each image uint8 [batch, size, size, 3]."""

        def local(params, images, view, consts):
            x = augment.test_view(images, view, consts, self.config)
            return jax.nn.log_softmax(self.model(params)(x, axis=self._column))

        return jax.shard_map(local, mesh=self.mesh, in_specs=(self.param_specs, P(self._data), P(), P()),
                             out_specs=P(self._data))(params, images, view, consts)
