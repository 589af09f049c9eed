"""The correctness checks: functions that compute on the device that JAX sees and compare with references.

A check returns {"right": …} and its measurements. Every nonzero tolerance has its reason beside it.
"""

from __future__ import annotations

import functools
import hashlib
import itertools
import pathlib
from collections.abc import Generator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from alexnet_jax import config as config_lib
from alexnet_jax import data, numerics
from alexnet_jax.data import loader
from alexnet_jax.data.statistics import Statistics
from alexnet_jax.models import arithmetic
from alexnet_jax.parallel.mesh import make_mesh, put_batch, put_whole
from alexnet_jax.training import augment, optim
from alexnet_jax.training.feed import Feed
from alexnet_jax.training.program import Moment, Program
from benchmarks import networks, synthetic
from benchmarks.accelerator import compared, exact

Result = dict[str, Any]

# Networks: outputs and gradients.

# Allowed distances from a network's float64 reference. Outputs and loss: four times the distance of PyTorch on a CPU in
# the same arithmetic (`reference`, "errors"), as sums have another order and rounding; and at least LEAST's first, as
# cuDNN may choose Winograd or FFT algorithms, whose float32 errors are some ten times larger.
#
# Gradients: twice the largest distance there, and at least LEAST's second. A ReLU or a pooling window whose inputs are
# within rounding of its switching point may go either way. Of the full networks' million, this concerns none or a few
# in float32, thousands in TF32, and most in bfloat16, where maxima are tied. A single one moved the gradients below it
# by 5e-3 of their norm (released.json, float32, conv3 and below); many add up as the root of their number.
# At most MOST, as the gradients of a different network are more than 1 apart.
TIMES_OUTPUT, TIMES_GRADIENT, MOST = 4.0, 2.0, 0.8
LEAST = {"float32": (1e-5, 2e-2), "tensorfloat32": (2e-3, 0.1), "bfloat16": (1e-2, 0.2)}


def tolerances(wanted: Result, precision: str) -> dict[str, float]:
    """{'loss', 'logits', 'conv1.kernel', …: the largest allowed relative distance}, the same for all gradients."""
    errors, (output, gradient) = wanted["errors"][precision], LEAST[precision]
    worst = max(error for name, error in errors.items() if "." in name)
    return {name: min(MOST, max(TIMES_GRADIENT * worst, gradient)) if "." in name else
            max(TIMES_OUTPUT * error, output) for name, error in errors.items()}


class Network:
    """One of `compared.NETWORKS` in one of `compared.PRECISIONS`, through training's code.

    It is traced on creation; `compile` may be called in any thread.
    """

    def __init__(self, name: str, precision: str):
        self.name, self.precision = name, precision
        config, classes = compared.config_of(name, "bfloat16" if precision == "bfloat16" else "float32")
        self._config, self._classes = config, classes
        # Like JAX_DEFAULT_MATMUL_PRECISION=tensorfloat32.
        with jax.default_matmul_precision(precision if precision == "tensorfloat32" else None):
            program = Program(config, classes, make_mesh(config))

        def loss(params, images, labels):
            logits = program.model(params)(images)
            return -jnp.take_along_axis(jax.nn.log_softmax(logits), labels[:, None], axis=1).mean(), logits

        self.products = program.products
        params = jax.eval_shape(program.init, jax.ShapeDtypeStruct((), "uint32")).params
        crop = config.data.crop
        self._lowered = jax.jit(program.exact(jax.value_and_grad(loss, has_aux=True))).lower(
            params, jax.ShapeDtypeStruct((compared.BATCH, crop, crop, 3), "float32"),
            jax.ShapeDtypeStruct((compared.BATCH,), "int32"))

    def compile(self) -> Any:
        return self._lowered.compile()

    def check(self, compiled: Any) -> Result:
        """Compares outputs and gradients with the reference."""
        wanted = compared.read(self.name)
        images = np.stack([exact.image(self._config.data.crop, number) for number in range(compared.BATCH)])
        (loss, logits), gradients = jax.device_get(compiled(
            exact.weights(self._config, self._classes), images, exact.labels(compared.BATCH, self._classes)))
        return judged(compared.summaries(logits, loss, gradients), wanted, self.precision) | {
            "products": self.products or "the numbers' own"}


def judged(found: Result, wanted: Result, precision: str) -> Result:
    """Judges the distances of a network's `compared.summaries` from those of its reference file."""
    distance, tolerance = compared.distances(found, wanted), tolerances(wanted, precision)
    share = {name: distance[name] / tolerance[name] for name in tolerance}
    worst = max(share, key=lambda name: share[name])
    return {"right": bool(share[worst] <= 1), "worst": worst, "share_of_tolerance": share[worst],
            "distance": distance, "tolerance": tolerance}


# Single layers, against NumPy formulas in float64.

# Relative to the largest value. float32: a division, two roots and a few sums, an ulp or two each on a GPU.
# bfloat16: outputs are rounded to 8 bits.
_ROUNDING = {"float32": 2e-6, "bfloat16": 2.0**-8}


def _both(function: Any, x: np.ndarray, g: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A function's value and its vector-Jacobian product with `g`, both as float64."""
    def run(x, g):
        with numerics.pinned("float32"):
            y, back = jax.vjp(function, x)
            return y, back(g)[0]

    return tuple(np.asarray(a).astype(np.float64) for a in jax.device_get(jax.jit(run)(x, g)))  # type: ignore[return-value]


def _apart(found: tuple, wanted: tuple, tolerance: float) -> Result:
    distances = [float(np.abs(a - b).max() / np.abs(b).max()) for a, b in zip(found, wanted, strict=True)]
    return {"right": bool(max(distances) <= tolerance), "value": distances[0], "gradient": distances[1],
            "tolerance": tolerance}


def _values(name: str, shape: tuple[int, ...], deviation: float, dtype: str) -> np.ndarray:
    return exact.scattered(name, shape, deviation).astype(jnp.dtype(dtype))


def response_norm(shape: tuple[int, ...], recipe: str, dtype: str) -> Result:
    """Checks a recipe's norm over channels, [column, batch, height, width, channel]."""
    m = networks.config_of(recipe, 4).model.lrn
    x, g = _values("norm", shape, 60.0, dtype), _values("norm's gradient", shape, 1.0, dtype)
    found = _both(lambda x: arithmetic.local_response_norm(x, m.k, m.n, m.alpha, m.beta, m.alpha_over_n), x, g)
    offset = np.arange(shape[-1])[:, None] - np.arange(shape[-1])
    band = ((offset >= -(m.n // 2)) & (offset <= (m.n - 1) // 2)) * (m.alpha / m.n if m.alpha_over_n else m.alpha)
    return _apart(found, _normed(x, g, m.k, m.beta, lambda a: a @ band, lambda a: a @ band.T), _ROUNDING[dtype])


def same_map_norm(shape: tuple[int, ...], dtype: str) -> Result:
    """Checks the released network's norm over a window of the same map."""
    m = networks.config_of("released", 4).model.same_map
    x, g = _values("map", shape, 60.0, dtype), _values("map's gradient", shape, 1.0, dtype)
    found = _both(lambda x: arithmetic.same_map_norm(x, m.size, m.alpha, m.beta), x, g)

    def around(a):
        far = m.size // 2
        a = np.pad(a, [(far, far) if axis in (2, 3) else (0, 0) for axis in range(5)])
        return m.alpha / m.size**2 * sum(a[:, :, i:i + shape[2], j:j + shape[3]]
                                         for i in range(m.size) for j in range(m.size))

    assert m.size % 2  # so that the window is its own transpose
    return _apart(found, _normed(x, g, 1.0, m.beta, around, around), _ROUNDING[dtype])


def _normed(x, g, k, beta, window, transposed):
    """x / (k + window(x²))^β and its gradient."""
    x, g = np.asarray(x, np.float64), np.asarray(g, np.float64)
    s = k + window(x * x)
    return x * s**-beta, g * s**-beta - 2 * beta * x * transposed(g * x * s**(-beta - 1))


def pooling(shape: tuple[int, ...], kind: str) -> Result:
    """Checks overlapping pooling (size 3, stride 2) with a partial last window for even sides. Maxima: bit for bit."""
    # All distinct: an odd multiplier permutes the integers modulo 2^24, which float32 represents exactly.
    count = int(np.prod(shape))
    x = ((np.arange(count, dtype=np.int64) * 0x9E3779B1) % (1 << 24) - (1 << 23)).reshape(shape).astype(np.float32)
    windows = [-(-(side - 3) // 2) + 1 for side in shape[2:4]]
    g = exact.whole("pooling's gradient", (*shape[:2], *windows, shape[-1]), 512).astype(np.float32)
    found = _both(lambda x: arithmetic.pool(x, 3, 2, kind), x, g)
    value, gradient = np.zeros_like(g, np.float64), np.zeros(shape, np.float64)
    for row in range(windows[0]):
        for column in range(windows[1]):
            window = np.s_[:, :, 2 * row:2 * row + 3, 2 * column:2 * column + 3]
            flat = x[window].astype(np.float64).reshape(*shape[:2], -1, shape[-1])
            own = g[:, :, row, column][:, :, None]
            if kind == "max":
                share = (flat == flat.max(axis=2, keepdims=True)).astype(np.float64)
                value[:, :, row, column] = flat.max(axis=2)
            else:
                share = np.full(flat.shape, 1 / flat.shape[2])
                value[:, :, row, column] = flat.mean(axis=2)
            gradient[window] += (own * share).reshape(x[window].shape)
    return _apart(found, (value, gradient), 0.0 if kind == "max" else _ROUNDING["float32"])


# Training's random draws: crops, mirrors, colour noise, dropout.

_DRAWN, _SHIFTS = 64, 16  # images whose crops, and whose colour noise, are in the reference
_STEPS = (0, 7, 100_000)
_MASKS = {"fc6": (2, 128, 2048, 0.5), "other": (4, 128, 100, 0.3)}  # columns, images, units, rate


def draws(recipes: Sequence[str] = networks.RECIPES) -> Result:
    """This device's draws, in the form of draws.json: {'crops', 'shifts', 'masks'}."""
    crops: Result = {}
    shifts: Result = {}
    for recipe in recipes:
        config = networks.config_of(recipe, _DRAWN)
        for step, place, shift in _views(config):
            crops[f"{recipe} {step}"] = place.tolist()
            if config.augment.pca.amount:
                shifts[f"{recipe} {step}"] = shift[:_SHIFTS].astype(np.float64).tolist()
    masks = {}
    for name, (columns, images, units, rate) in _MASKS.items():
        mask = jax.jit(lambda key, columns, rows, units=units, rate=rate: arithmetic.dropout_mask(
            key, columns, rows, units, rate))(numerics.key(np.uint32(5)), np.arange(columns, dtype=np.int32),
                                              np.arange(images, dtype=np.int32))
        bits = np.packbits(np.asarray(mask))
        masks[name] = {"sha256": hashlib.sha256(bits.tobytes()).hexdigest(), "kept": int(np.asarray(mask).sum())}
    return {"crops": crops, "shifts": shifts, "masks": masks}


def _views(config: ConfigDict) -> Generator[tuple[int, np.ndarray, np.ndarray], None, None]:
    """For each of `_STEPS`: the step; int [images, 3] of (y, x, mirrored), read from images whose pixels encode their
    positions; float [images, 3]: the colour that a black image gets."""
    size = config.data.size
    at = np.arange(size, dtype=np.uint8)
    where = np.zeros((_DRAWN, size, size, 3), np.uint8)
    where[..., 0], where[..., 1] = at[:, None], at[None, :]
    consts = augment.constants(config, Statistics(np.zeros((size, size, 3), np.float32),
                                                  np.square(augment.ILSVRC2012_DEVIATIONS),
                                                  np.asarray(augment.ILSVRC2012_VECTORS)))

    @jax.jit
    def corners(images, step, rows, noise, consts):
        with numerics.pinned():
            key = jax.random.fold_in(jax.random.fold_in(numerics.key(jnp.uint32(3)), 1), step)
            views = augment.training_views(images, key, rows, noise, consts, config)
            return views[:, 0, 0], views[:, 0, -1]

    rows, amount = np.arange(_DRAWN, dtype=np.int32), np.float32(config.augment.pca.amount)
    for step in _STEPS:
        left, right = map(np.asarray, corners(where, np.int32(step), rows, np.float32(0.0), consts))
        black = np.asarray(corners(np.zeros_like(where), np.int32(step), rows, amount, consts)[0])
        x, far = left[:, 1], right[:, 1]
        yield step, np.stack([left[:, 0], np.minimum(x, far), x > far], axis=1).astype(np.int64), black


def same_draws(recipes: Sequence[str] = networks.RECIPES) -> Result:
    """Checks that crops, mirrors and dropout masks equal the CPU's exactly, and colour noise to 1e-5 of the largest."""
    found, wanted = draws(recipes), compared.read("draws")
    crops = sum(a != b for name, places in found["crops"].items()
                for a, b in zip(places, wanted["crops"][name], strict=True))
    # From the same bits, through a logarithm and a root with other rounding: some ulps of float32.
    noise = 0.0
    for name, shifts in found["shifts"].items():
        theirs = np.asarray(wanted["shifts"][name])
        noise = max(noise, float(np.abs(np.asarray(shifts) - theirs).max() / np.abs(theirs).max()))
    masks = [name for name in wanted["masks"] if found["masks"][name] != wanted["masks"][name]]
    return {"right": not crops and not masks and noise <= 1e-5, "crops_that_differ": crops,
            "masks_that_differ": masks, "noise": noise, "tolerance": 1e-5}


# Updates.

# Of the recipe's learning rates. At these, updates amplify rounding: on a CPU, after initial weights had been moved by
# one rounding of float32 (6e-8), the eighth loss of the full network was 2e-3 away and alexnet32's velocity after ten
# updates 0.15, as a ReLU or a pooling window that goes the other way moves all later updates. At a hundredth of them no
# loss of alexnet32 was more than 2e-7 away, also after moves of 1e-6, while losses still fall by 3% in eight updates.
_RATE = 0.01
_UPDATES = 8


def _rates(config: ConfigDict) -> dict[str, np.float32]:
    return {group: np.float32(_RATE * rate) for group, rate in optim.rates(config, 0.0, optim.Plateau()).items()}


@functools.lru_cache(maxsize=1)  # two checks share the compiled programs
def _training(name: str) -> tuple[ConfigDict, Program, Any]:
    """Config, program and constants of one of `compared.LOSSES`."""
    batch = {"released": 32, "alexnet32": 128, "tiny": 16}[name]
    c = networks.config_of("alexnet32" if name == "tiny" else name, batch, shrink=name == "tiny",
                           changes={"mesh.data": "1", "mesh.column": "1"})
    size = c.data.size
    consts = augment.constants(c, Statistics(np.full((size, size, 3), 127.5), np.ones(3), np.eye(3)))
    return c, Program(c, c.model.classes, make_mesh(c)), consts


def losses(name: str, turned: bool = False) -> Result:
    """The losses of the first eight updates, and the initial weights.

    Args:
      turned: use the same batches with their images (and their draws) in another order, which reorders sums.
    """
    config, program, consts = _training(name)
    batch, classes = config.train.batch_size, config.model.classes
    images, targets = exact.pictures(config.data.size, 2 * batch), exact.labels(2 * batch, classes)
    rows = np.arange(batch, dtype=np.int32)
    order = rows[::-1] if turned else rows
    state = program.init(np.uint32(1))
    initial = {} if turned else {f"{layer}.kernel": exact.summary(f"{layer}.kernel", leaves["kernel"])
                                 for layer, leaves in jax.device_get(state.params).items()}
    rates, noise, out = _rates(config), np.float32(optim.noise_amount(config, 0.0)), []
    for step in range(_UPDATES):
        own = slice(step % 2 * batch, (step % 2 + 1) * batch)
        fed = put_batch(program.mesh, (images[own][order], targets[own][order], rows[order]), batch)
        state, sums = program.train_step(state, program.zero_sums(), fed, put_whole(program.mesh, consts), put_whole(
            program.mesh, Moment(np.uint32(1), np.int32(step), rates, noise)))
        out.append(float(sums.loss) / batch)
    if turned:
        return {"losses": out}
    again = losses(name, turned=True)["losses"] if jax.devices()[0].platform == "cpu" else out
    return {"network": name, "by": f"this project, float32, jax {jax.__version__} on a CPU", "losses": out,
            "turned": again, "initial": initial}


def same_losses(name: str) -> Result:
    """Compares the first eight losses with a CPU's.

    The tolerance is thirty times the effect of reordering sums on that CPU up to this update, and at least 1e-5:
    differences grow with each update, and an accelerator's sums differ in more than their order.
    """
    found, wanted = losses(name), compared.read(f"losses-{name}")
    theirs = np.asarray(wanted["losses"])
    tolerance = np.maximum(1e-5, 30 * np.maximum.accumulate(np.abs(np.asarray(wanted["turned"]) / theirs - 1)))
    apart = np.abs(np.asarray(found["losses"]) / theirs - 1)
    # From the same bits, through an inverse error function: some ulps of float32.
    start = max(exact.distance(found["initial"][layer], wanted["initial"][layer]) for layer in wanted["initial"])
    return {"right": bool((apart <= tolerance).all() and start <= 1e-5), "losses": found["losses"],
            "on_a_cpu": wanted["losses"], "apart": apart.tolist(), "tolerance": tolerance.tolist(),
            "initial_weights_apart": start}


# One step per call against many, images on the device against streamed ones.


# Allowed between different programs, relative: of the sum of the losses, of the weights, and of their velocity, which
# is a sum of gradients. On a CPU, moving alexnet32's initial weights by 1e-6 made 5e-3 of conv1's velocity, and calls
# of many steps, another program there, 8e-3 once; nothing of the loss. Other draws move a velocity by about its norm.
CALLS = {"loss": 1e-5, "weights": 1e-4, "velocity": 0.1}


def same_calls(folder: pathlib.Path, name: str) -> Result:
    """Checks ten updates of one of `compared.LOSSES` with 32-pixel images, fed in each way.

    The same program on the same numbers must give the same bits, if it does so when repeated. Different programs may be
    `CALLS` apart.
    """
    base, program, _ = _training(name)
    batch = base.train.batch_size
    batches, epochs = (4, 1) if name == "tiny" else (5, 2)
    synthetic.make(folder, "train", batches * batch, 32, classes=10)
    base = config_lib.override(base, synthetic.fields(folder, 32))
    split = data.open_split(base.data, "train", report=lambda line: None)
    consts = put_whole(program.mesh, augment.constants(base, split.statistics()))
    course = loader.Course(split, batch, epochs)
    rates = _rates(base)

    def run(placement: str, many: int) -> tuple[list[np.ndarray], list[np.ndarray], float]:
        config = config_lib.override(base, {"data.placement": placement, "train.steps_per_call": many})
        feed = Feed(config, program, course, [])
        state, sums, step = program.init(np.uint32(2)), program.zero_sums(), 0
        for call in feed.training(2, 0):
            state, sums = feed.train(call, state, sums, consts, Moment(
                np.uint32(2), np.int32(step), rates, np.float32(optim.noise_amount(base, 0.0))))
            step += call.steps
        assert step == course.steps == batches * epochs
        assert int(sums.images) == step * batch
        weights, velocity = ([np.asarray(leaf) for leaf in jax.tree.leaves(part)] for part in jax.device_get(state))
        return weights, velocity, float(sums.loss)

    ways = {"streamed": ("host", 1), "streamed again": ("host", 1), "on the device": ("device", 1),
            "calls of 4": ("device", 4), "calls of 4 again": ("device", 4), "calls of 3": ("device", 3)}
    found = {name: run(*way) for name, way in ways.items()}

    def bits(a: str, b: str) -> bool:
        leaves = (zip(one, other, strict=True) for one, other in zip(found[a][:2], found[b][:2], strict=True))
        return found[a][2] == found[b][2] and all(
            x.tobytes() == y.tobytes() for x, y in itertools.chain.from_iterable(leaves))

    def apart(a: str, b: str) -> dict[str, float]:
        weights, velocity = (max(exact.relative(x, y) for x, y in zip(one, other, strict=True))
                             for one, other in zip(found[a][:2], found[b][:2], strict=True))
        return {"weights": weights, "velocity": velocity, "loss": abs(found[a][2] / found[b][2] - 1)}

    pairs = {"on the device": ("streamed", "streamed again"), "calls of 3": ("calls of 4", "calls of 4 again")}
    out: Result = {"bits": {f"{name} = {first}": bits(name, first) for name, (first, _) in pairs.items()},
                  "repeatable": {first: bits(first, again) for first, again in pairs.values()},
                  "apart": {f"{name}, streamed": apart(name, "streamed") for name in list(ways)[1:]},
                  "tolerance": CALLS}
    same = all(out["bits"][f"{name} = {first}"] or not out["repeatable"][first] for name, (first, _) in pairs.items())
    return {"right": same and all(one[key] <= most for one in out["apart"].values() for key, most in CALLS.items()),
            **out}
