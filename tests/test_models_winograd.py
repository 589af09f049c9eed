"""Winograd's algorithm for convolutions on CPUs: its matrices, values, gradients and rounding."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from oracle import needs_torch, torch

from alexnet_jax.models import fast, winograd


@pytest.mark.parametrize("m", range(1, winograd.MOST + 1))
@pytest.mark.parametrize("r", range(1, winograd.LONGEST + 1))
def test_transforms_make_a_filter(m, r):
    a, g, b = winograd.transforms(m, r)
    assert (a.shape, g.shape, b.shape) == ((m + r - 1, m), (m + r - 1, r), (m + r - 1, m + r - 1))
    rng = np.random.default_rng(0)
    inputs, taps = rng.standard_normal(m + r - 1), rng.standard_normal(r)
    np.testing.assert_allclose(a.T @ ((g @ taps) * (b.T @ inputs)), np.correlate(inputs, taps, "valid"), rtol=0,
                               atol=1e-12)


@pytest.mark.parametrize(("rows", "r", "m"), [
    (27, 5, 4),  # conv2: 7 tiles of 8 multiplications, 56 for 135; m = 3: 9 of 7, 63
    (13, 3, 4),  # conv3 to conv5: 4 tiles of 6 for 39; m = 3: 5 of 5
    (6, 3, 3),  # 2 tiles of 5; m = 4: 2 of 6
    (8, 3, 4), (1, 3, 1), (2, 3, 2), (5, 1, 1)])
def test_as_few_multiplications_as_possible(rows, r, m):
    assert winograd.outputs_at_a_time(rows, r) == m


SHAPES = [
    # rows, columns, in, out, kernel, padding
    (27, 27, 16, 24, 5, (2, 2)), (13, 13, 20, 17, 3, (1, 1)), (12, 9, 16, 16, 5, (0, 0)), (7, 8, 16, 16, 4, (1, 2)),
    (6, 5, 16, 18, 3, (3, 4))]


def _case(rows, columns, channels, features, kernel, padding):
    rng = np.random.default_rng(1)
    x, w = rng.standard_normal((2, rows, columns, channels)), rng.standard_normal((kernel, kernel, channels, features))
    more = sum(padding) - kernel + 1
    return x, w, rng.standard_normal((2, rows + more, columns + more, features))


def _ours(x, w, g, padding):
    """(outputs, gradients of both arguments), and that they came by Winograd's algorithm."""
    def convolve(x, w):
        return fast.convolve(x, w, 1, padding)

    @jax.jit
    def with_gradients(x, w, g):
        y, pullback = jax.vjp(convolve, x, w)
        return y, *pullback(g)

    assert "winograd" in str(jax.make_jaxpr(convolve)(x, w))
    return with_gradients(x, w, g)


@needs_torch
@pytest.mark.parametrize("shape", SHAPES)
def test_against_torch(shape):
    padding = shape[-1]
    x, w, g = _case(*shape)
    tx = torch.tensor(np.moveaxis(x, -1, 1), requires_grad=True)
    tw = torch.tensor(w.transpose(3, 2, 0, 1), requires_grad=True)
    ty = torch.nn.functional.conv2d(torch.nn.functional.pad(tx, padding * 2), tw)
    ty.backward(torch.tensor(np.moveaxis(g, -1, 1)))
    with jax.enable_x64(True):
        found = _ours(jnp.asarray(x), jnp.asarray(w), jnp.asarray(g), padding)
    for mine, theirs in zip(found, (np.moveaxis(ty.detach().numpy(), 1, -1), np.moveaxis(tx.grad.numpy(), 1, -1),
                                    tw.grad.numpy().transpose(2, 3, 1, 0)), strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=0, atol=1e-12 * np.abs(theirs).max())


@pytest.mark.parametrize("shape", SHAPES[:2])
def test_rounding_in_single_precision(shape):
    padding = shape[-1]
    case = _case(*shape)
    with jax.enable_x64(True):
        exact = _ours(*map(jnp.asarray, case), padding)
    for mine, right in zip(_ours(*(jnp.asarray(a, jnp.float32) for a in case), padding), exact, strict=True):
        assert mine.dtype == jnp.float32
        np.testing.assert_allclose(mine, right, rtol=0, atol=5e-6 * np.abs(right).max())


@pytest.mark.parametrize(("dtype", "channels", "stride"), [
    (jnp.bfloat16, 16, 1),  # has no digits to spare
    (jnp.float32, 8, 1), (jnp.float32, 16, 2)])
def test_all_else_is_a_plain_convolution(dtype, channels, stride):
    x, w, _ = _case(9, 9, channels, 16, 3, (1, 1))
    jaxpr = str(jax.make_jaxpr(lambda x, w: fast.convolve(x, w, stride, (1, 1)))(x.astype(dtype), w.astype(dtype)))
    assert "winograd" not in jaxpr
    assert jaxpr.count("conv_general_dilated") == 1


@pytest.mark.parametrize("platform", ["cuda", "tpu"])
def test_accelerators_get_plain_convolutions(platform):
    """Lowered, not compiled: one for each of the two gradients, which is all that is asked for."""
    x, w, g = (jax.ShapeDtypeStruct(a.shape, jnp.float32) for a in _case(*SHAPES[0]))
    text = jax.jit(lambda x, w, g: jax.vjp(lambda x, w: fast.convolve(x, w, 1, (2, 2)), x, w)[1](g)).trace(
        x, w, g).lower(lowering_platforms=(platform,)).as_text()
    assert text.count("stablehlo.convolution(") == 2
