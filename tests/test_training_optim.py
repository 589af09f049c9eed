"""The update rule against its transcription in NumPy, and the schedules against run 145's log."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alexnet_jax import config as config_lib
from alexnet_jax.training import optim
from configs import recipes


def _config(recipe, **overrides):
    c = config_lib.default()
    recipes.apply(c, recipe)
    c.data.tune_split = "train[36000:40000]"
    return config_lib.resolve(config_lib.override(c, {k.replace("__", "."): v for k, v in overrides.items()}))


SHAPES = {"conv1": {"kernel": (2, 3, 4), "bias": (2, 4)}, "conv2": {"kernel": (2, 5), "bias": (5,)},
          "fc8": {"kernel": (2, 3, 6), "bias": (6,)}}


def _tree(rng):
    return {layer: {name: rng.standard_normal(shape) for name, shape in leaves.items()}
            for layer, leaves in SHAPES.items()}


def _rates_at(step):
    """A fall of the rate at step 3, conv1 with a rate of its own from 4, frozen in 5–7, then thawed; biases apart."""
    weights = 0.01 if step < 3 else 0.001
    conv1 = weights if step < 4 else 1e-4
    bias = 0.02 if step < 8 else 0.002
    frozen = 5 <= step < 8
    return {"weights": weights, "biases": bias, "conv1_weights": 0.0 if frozen else conv1,
            "conv1_biases": 0.0 if frozen else bias}


@pytest.mark.parametrize("decay_biases", [True, False])
def test_ten_steps_are_the_papers_rule(decay_biases):
    rng = np.random.default_rng(0)
    start = _tree(rng)
    gradients = [_tree(rng) for _ in range(10)]
    momentum, decay = 0.9, 0.0005

    w = {layer: {n: a.copy() for n, a in leaves.items()} for layer, leaves in start.items()}
    v = {layer: {n: np.zeros_like(a) for n, a in leaves.items()} for layer, leaves in start.items()}
    frozen_at_5 = None
    for step, g in enumerate(gradients):
        rates = _rates_at(step)
        if step == 5:
            frozen_at_5 = {n: a.copy() for n, a in w["conv1"].items()}
        for layer in w:
            for name in w[layer]:
                kind = "biases" if name == "bias" else "weights"
                e = rates["conv1_" + kind if layer == "conv1" else kind]
                if e == 0:
                    continue  # the whole update is skipped: decay, gradient, velocity
                d = decay if name == "kernel" or decay_biases else 0
                v[layer][name] = momentum * v[layer][name] - d * e * w[layer][name] - e * g[layer][name]
                w[layer][name] = w[layer][name] + v[layer][name]

    with jax.enable_x64(True):
        tx = optim.paper_sgd(momentum, decay, decay_biases)
        compiled = []

        @jax.jit
        def update(params, state, g, rates):
            compiled.append(1)
            updates, state = tx.update(g, state, params, rates=rates)
            return jax.tree.map(jnp.add, params, updates), state

        params = jax.tree.map(jnp.asarray, start)
        state = tx.init(params)
        for step, g in enumerate(gradients):
            params, state = update(params, state, jax.tree.map(jnp.asarray, g), _rates_at(step))
            if 5 <= step < 8:
                for name, before in frozen_at_5.items():
                    np.testing.assert_allclose(params["conv1"][name], before, rtol=1e-12)
        assert len(compiled) == 1, "a change of rate must not compile again"
    for layer in w:
        for name in w[layer]:
            np.testing.assert_allclose(params[layer][name], w[layer][name], rtol=1e-12, atol=1e-14)
            np.testing.assert_allclose(state[layer][name], v[layer][name], rtol=1e-12, atol=1e-15)
            assert params[layer][name].dtype == np.float64


def test_decay_of_a_layer_s_own():
    # cuda-convnet's conv-local networks: none on the convolutions, 0.004 on local layers, another on the last.
    tx = optim.paper_sgd(0.9, 0.1, False, {"conv1": 0.0, "conv2": 0.004, "fc8": -1.0})
    params = {name: {"kernel": jnp.full(2, 3.0), "bias": jnp.full(2, 5.0)} for name in ("conv1", "conv2", "fc8")}
    rates = dict.fromkeys(optim.GROUPS, 0.5)
    updates, _ = tx.update(jax.tree.map(jnp.zeros_like, params), tx.init(params), params, rates=rates)
    for name, decay in (("conv1", 0.0), ("conv2", 0.004), ("fc8", 0.1)):
        np.testing.assert_allclose(updates[name]["kernel"], -decay * 0.5 * 3.0, rtol=1e-6)
        np.testing.assert_array_equal(updates[name]["bias"], 0.0)
    every = optim.paper_sgd(0.9, 0.1, True, {"conv2": 0.004})
    updates, _ = every.update(jax.tree.map(jnp.zeros_like, params), tx.init(params), params, rates=rates)
    np.testing.assert_allclose([updates["conv2"]["bias"][0], updates["fc8"]["bias"][0]],
                               [-0.004 * 0.5 * 5, -0.1 * 0.5 * 5], rtol=1e-6)


def test_a_rate_of_zero_stands_still_even_with_velocity_and_decay():
    tx = optim.paper_sgd(0.9, 0.1, True)
    params = {"conv1": {"kernel": jnp.ones(3), "bias": jnp.ones(2)}}
    state = {"conv1": {"kernel": jnp.full(3, 0.7), "bias": jnp.full(2, 0.7)}}
    zero = dict.fromkeys(optim.GROUPS, 0.0)
    updates, after = tx.update(jax.tree.map(jnp.ones_like, params), state, params, rates=zero)
    assert all((leaf == 0).all() for leaf in jax.tree.leaves(updates))
    jax.tree.map(np.testing.assert_array_equal, after, state)


def test_groups():
    path = jax.tree_util.tree_flatten_with_path(SHAPES, is_leaf=lambda x: isinstance(x, tuple))[0]
    groups = {"/".join(str(e.key) for e in p): optim.group_of(p) for p, _ in path}
    assert groups == {"conv1/kernel": "conv1_weights", "conv1/bias": "conv1_biases", "conv2/kernel": "weights",
                      "conv2/bias": "biases", "fc8/kernel": "weights", "fc8/bias": "biases"}


@pytest.mark.parametrize(("epoch", "weights", "conv1_weights", "conv1_biases", "noise"), [
    (0.0, 1e-2, 1e-2, 0.02, 0.1),
    (24.9, 1e-2, 1e-2, 0.02, 0.1),
    (25.0, 1e-3, 1e-3, 0.02, 0.1),
    (51.0, 1e-4, 1e-4, 0.02, 0.1),
    (66.99, 1e-4, 1e-4, 0.02, 0.1),
    (67.0, 1e-4, 1e-5, 0.02, 0.0),
    (72.0, 1e-4, 0.0, 0.0, 0.0),
    (79.0, 1e-5, 0.0, 0.0, 0.0),
    (90.9, 1e-5, 0.0, 0.0, 0.0),
])
def test_run_145s_table(epoch, weights, conv1_weights, conv1_biases, noise):
    c = _config("released")
    rates = optim.rates(c, epoch, optim.Plateau())
    assert rates == pytest.approx({"weights": weights, "biases": 0.02, "conv1_weights": conv1_weights,
                                   "conv1_biases": conv1_biases}, rel=1e-12, abs=0)
    assert set(rates) == set(optim.GROUPS)
    assert optim.noise_amount(c, epoch) == noise
    assert c.train.epochs == 91


def test_papers_rates_are_the_same_for_all_layers_and_fall_with_the_plateau():
    c = _config("paper")
    for drops in range(4):
        rates = optim.rates(c, 40.0, optim.Plateau(drops=drops))
        assert rates == pytest.approx(dict.fromkeys(optim.GROUPS, 0.01 / 10**drops), rel=1e-12)
    assert optim.noise_amount(c, 89.9) == 0.1  # all training


def test_the_schedule_in_parts_of_the_run():
    c = _config("released")
    recipes.short(c, epochs=8)
    c = config_lib.resolve(c)
    assert optim.position(c, 6.0) == 0.75
    got = [optim.rates(c, at, optim.Plateau())["weights"] for at in (0.0, 5.99, 6.0, 7.59, 7.6)]
    assert got == pytest.approx([1e-2, 1e-2, 1e-3, 1e-3, 1e-4], rel=1e-12)


def test_bias_rates_follow_or_stay():
    same = _config("released", optim__bias_schedule="same")
    assert optim.rates(same, 51.0, optim.Plateau())["biases"] == pytest.approx(2e-4)
    assert optim.rates(same, 67.0, optim.Plateau())["conv1_biases"] == pytest.approx(2e-5)
    constant = _config("paper", optim__bias_schedule="constant")
    assert optim.rates(constant, 51.0, optim.Plateau(drops=2))["biases"] == 0.01


def test_plateau_waits_restarts_and_falls_three_times_at_most():
    c = _config("paper", optim__plateau__patience=2, optim__plateau__min_delta=0.01)
    plateau = optim.Plateau()
    #       first  better  too little  no → ÷10
    said = [plateau.observe(e, c) for e in (0.9, 0.8, 0.795, 0.8)]
    assert said == [False, False, False, True]
    assert plateau.factor(c) == pytest.approx(0.1)
    # `best` starts anew: the first error under the new rate is an improvement, whatever it is.
    assert [plateau.observe(e, c) for e in (0.85, 0.85, 0.7, 0.7, 0.7)] == [False, False, False, False, True]
    fell = [plateau.observe(0.7, c) for _ in range(30)]
    assert sum(fell) == 1
    assert plateau.drops == 3
    assert optim.rates(c, 89.0, plateau)["weights"] == pytest.approx(1e-5)


def test_an_error_that_is_not_a_number_is_no_improvement():
    c = _config("paper", optim__plateau__patience=1)
    plateau = optim.Plateau(best=0.5)
    assert plateau.observe(float("nan"), c)


def test_noise_that_never_ends_and_noise_in_parts_of_the_run():
    assert optim.noise_amount(_config("released", augment__pca__off_at=0.0), 90.0) == 0.1
    c = _config("paper", train__schedule_unit="run", augment__pca__off_at=0.5, train__epochs=10)
    assert [optim.noise_amount(c, e) for e in (0.0, 4.9, 5.0, 9.0)] == [0.1, 0.1, 0.0, 0.0]
