"""`shapes`: an embedded, procedural dataset of textured shapes in clutter. Ten classes, any size.

Image `index` of a split is a pure function of (GENERATOR, split, index) and the parameters below: a shape with random
position, scale, rotation, stretch, colour and texture, on a textured background, with strokes and blobs behind and in
front of it, then lighting and noise. The labels cycle: `index % 10`.
Lengths are in half image sides, colours in [0, 1]. Changing a parameter changes the data's version.

The parameters are chosen so that a run of a minute learns something, but not everything (configs/shapes.py): colour
alone doesn't identify a class, and clutter, noise and texture hide the outline. 12,000 images of 32 pixels take 4 to 8
seconds on one core.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Generator

import numpy as np

from alexnet_jax.data.dataset import Block, Dataset, Reading, Report

# --- what is drawn, and how hard it is to see --------------------------------------------------------------
GENERATOR = 2  # increase it when the drawing code changes the images
COUNTS = {"train": 10000, "test": 2000}
RADIUS = (0.50, 0.75)  # of the shape
ROTATION = 30.0  # largest rotation in either direction, degrees
POSITION = 0.12  # the centre's largest offset along each axis
STRETCH = 0.20  # standard deviation of the log aspect ratio
CONTRAST = (0.50, 0.90)  # distance of the shape's colour from the background's in RGB
TYPICAL = 0.6  # fraction of shapes with their class's typical colour
JITTER = 0.15  # of that colour, per channel, in either direction
TEXTURE = (0.03, 0.18)  # amplitude of the textures, as a distance in RGB
FREQUENCY = (1.0, 3.5)  # of stripes and checks, periods per half side
STROKES_BEHIND, BLOBS_BEHIND = 1, 1
STROKES_BEFORE, BLOBS_BEFORE = 1, 0
STROKE_WIDTH = (0.03, 0.08)
BLOB_RADIUS = (0.08, 0.20)
LIGHT = 0.15  # amplitude of a linear change of brightness across the image
NOISE = (0.02, 0.06)  # standard deviation of the pixel noise

_KNOBS = ("GENERATOR", "COUNTS", "RADIUS", "ROTATION", "POSITION", "STRETCH", "CONTRAST", "TYPICAL", "JITTER",
          "TEXTURE", "FREQUENCY", "STROKES_BEHIND", "BLOBS_BEHIND", "STROKES_BEFORE", "BLOBS_BEFORE", "STROKE_WIDTH",
          "BLOB_RADIUS", "LIGHT", "NOISE")
_GRID = 6  # side of the coarse grid of noise textures
_PIXELS = 1 << 19  # pixels drawn at a time
_SPLITS = {name: number for number, name in enumerate(COUNTS)}


def version() -> str:
    """Changes with any parameter."""
    knobs = repr([(name, globals()[name]) for name in _KNOBS])
    return f"{GENERATOR}-{hashlib.sha256(knobs.encode()).hexdigest()[:8]}"


class Shapes(Dataset):
    name = key = "shapes"
    embedded = True
    class_count = 10

    def split_sizes(self) -> dict[str, int | None]:
        return dict(COUNTS)

    def version(self, split: str) -> str | None:
        return version()

    def class_keys(self, split: str) -> tuple[str, ...]:
        return CLASSES

    def read(self, split: str, size: int, report: Report) -> Reading:
        count, step = COUNTS[split], max(1, _PIXELS // size**2)

        def blocks(done: np.ndarray) -> Generator[Block, None, None]:
            for first in range(0, count, step):
                index = np.arange(first, min(first + step, count))
                if not done[index].all():
                    yield Block(first, *draw(split, index, size))

        return Reading(count, CLASSES, CLASSES, blocks, "shapes", f"numpy {np.__version__}")


# --- the shapes: about the distance to the outline, in radii, positive inside; v points down ---------------
Field = Callable[[np.ndarray, np.ndarray], np.ndarray]


def _disc(u, v):
    return 0.82 - np.hypot(u, v)


def _ring(u, v):
    return 0.19 - np.abs(np.hypot(u, v) - 0.72)


def _square(u, v):
    return 0.74 - np.maximum(np.abs(u), np.abs(v))


def _triangle(u, v):
    half = np.sqrt(0.75, dtype=np.float32)
    return 0.50 - np.maximum(half * np.abs(u) - 0.5 * v, v)


def _star(u, v):
    # Five tips at radius 1, notches at 0.42, folded onto one edge.
    fold = np.float32(np.pi / 5)
    angle = np.abs(np.mod(np.arctan2(u, -v) + fold, 2 * fold) - fold)
    r = np.hypot(u, v)
    notch = (0.42 * np.cos(fold), 0.42 * np.sin(fold))
    length = np.hypot(1.0 - notch[0], notch[1])
    return ((1.0 - r * np.cos(angle)) * notch[1] - r * np.sin(angle) * (1.0 - notch[0])) / length


def _cross(u, v):
    u, v = np.abs(u), np.abs(v)
    return np.maximum(np.minimum(0.26 - u, 0.90 - v), np.minimum(0.26 - v, 0.90 - u))


def _crescent(u, v):
    return np.minimum(0.90 - np.hypot(u, v), np.hypot(u - 0.45, v) - 0.68)


def _heart(u, v):
    side = np.abs(u)
    lobe = 0.44 - np.hypot(side - 0.31, v + 0.31)
    return np.maximum((0.62 - side - np.abs(v)) * np.sqrt(0.5, dtype=np.float32), lobe)


def _arrow(u, v):
    v = np.abs(v)
    head = np.minimum(u - 0.0, (0.95 - u) * 0.62 - v * 0.78)
    return np.maximum(head, np.minimum(np.minimum(u + 0.9, 0.1 - u), 0.20 - v))


def _bars(u, v):
    return np.minimum(0.85 - np.abs(u), 0.22 - np.abs(np.abs(v) - 0.48))


_FIELDS: dict[str, Field] = {
    "disc": _disc, "ring": _ring, "square": _square, "triangle": _triangle, "star": _star, "cross": _cross,
    "crescent": _crescent, "heart": _heart, "arrow": _arrow, "bars": _bars,
}
CLASSES = tuple(_FIELDS)
# Typical colours, RGB, in the order of the classes.
_COLOURS = np.array([
    (0.85, 0.15, 0.15), (0.95, 0.55, 0.10), (0.90, 0.90, 0.15), (0.15, 0.70, 0.20), (0.10, 0.75, 0.80),
    (0.15, 0.25, 0.85), (0.55, 0.15, 0.75), (0.95, 0.45, 0.75), (0.95, 0.95, 0.95), (0.08, 0.08, 0.08),
], np.float32)


# --- drawing -----------------------------------------------------------------------------------------------
class _Numbers:
    """Uniform random numbers for each image, consumed in order: arrays [n] or [n, k]."""

    def __init__(self, table: np.ndarray):
        self._table, self._used = table, 0

    def unit(self, k: int = 1) -> np.ndarray:
        self._used += k
        return self._table[:, self._used - k : self._used]

    def between(self, low: float, high: float, k: int = 1) -> np.ndarray:
        return low + (high - low) * self.unit(k)

    def direction(self) -> np.ndarray:
        """[n, 3]: a unit vector in RGB."""
        v = self.between(-1.0, 1.0, 3) + 1e-3
        return v / np.linalg.norm(v, axis=1, keepdims=True)


_NUMBERS = 256  # random numbers per image, more than are used


def draw(split: str, index: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """uint8 [n, size, size, 3] and int32 [n]: the images `index` of `split`."""
    count = len(index)
    table = np.empty((count, _NUMBERS), np.float32)
    noise = np.empty((count, size, size, 3), np.float32)
    for row, i in enumerate(index):
        rng = np.random.Generator(np.random.PCG64((GENERATOR, _SPLITS[split], int(i))))
        rng.random(out=table[row], dtype=np.float32)
        rng.standard_normal(out=noise[row], dtype=np.float32)
    numbers = _Numbers(table)
    labels = (index % len(CLASSES)).astype(np.int32)

    axis = ((2 * np.arange(size) + 1) / size - 1).astype(np.float32)
    x, y = axis[None, None, :], axis[None, :, None]
    background = numbers.between(0.2, 0.8, 3)
    image = _textured(numbers, background, x, y)
    for _ in range(BLOBS_BEHIND):
        _blob(image, numbers, x, y)
    for _ in range(STROKES_BEHIND):
        _stroke(image, numbers, x, y)
    mask = _shape(numbers, labels, x, y)
    colour = _apart(background, numbers.direction() * numbers.between(*CONTRAST))
    # As in photographs, colour is a cue for the class, but not a certain one: without it a network spends most of a
    # short run at chance.
    own = np.clip(_COLOURS[labels] + numbers.between(-JITTER, JITTER, 3), 0.0, 1.0)
    colour = np.where(numbers.unit() < TYPICAL, own, colour)
    _paint(image, mask, _textured(numbers, colour, x, y))
    for _ in range(BLOBS_BEFORE):
        _blob(image, numbers, x, y)
    for _ in range(STROKES_BEFORE):
        _stroke(image, numbers, x, y)
    slope = numbers.between(-LIGHT, LIGHT, 2)
    image += (_column(slope[:, 0]) * x + _column(slope[:, 1]) * y)[..., None]
    image += noise * numbers.between(*NOISE)[:, :, None, None]
    return np.clip(image * 255.0 + 0.5, 0.0, 255.0).astype(np.uint8), labels


def _column(values: np.ndarray) -> np.ndarray:
    """[n] or [n, 1] → [n, 1, 1], for broadcasting with images."""
    return values.reshape(-1, 1, 1)


def _apart(colour: np.ndarray, offset: np.ndarray) -> np.ndarray:
    """`colour` + `offset`, with a channel's offset negated if it would leave [0, 1]."""
    moved = colour + offset
    return np.where((moved < 0) | (moved > 1), colour - offset, moved)


def _paint(image: np.ndarray, mask: np.ndarray, colour: np.ndarray) -> None:
    """Blends `colour` over `image` with the opacity `mask` [n, size, size]."""
    image += mask[..., None] * (colour - image)


def _edge(distance: np.ndarray, size: int) -> np.ndarray:
    """A pixel's coverage, 0 … 1, from its distance to the outline in half sides, positive inside."""
    return np.clip(distance * (size / 2) + 0.5, 0.0, 1.0)


def _textured(numbers: _Numbers, colour: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """[n, size, size, 3]: plain, stripes, checks or smooth noise around `colour` [n, 3]."""
    kind = np.floor(numbers.unit()[:, 0] * 4)
    angle, phase = numbers.between(0, 2 * np.pi), numbers.between(0, 2 * np.pi, 2)
    frequency = numbers.between(*FREQUENCY) * 2 * np.pi
    tint = numbers.direction() * numbers.between(*TEXTURE)
    grid = numbers.between(-1.5, 1.5, _GRID**2).reshape(-1, _GRID, _GRID)
    size = x.shape[-1]
    wave = np.zeros((len(colour), size, size), np.float32)
    waves = (kind == 1) | (kind == 2)
    cos, sin = (_column(f(angle)[waves]) for f in (np.cos, np.sin))
    along = np.sin(_column(frequency[waves]) * (cos * x + sin * y) + _column(phase[waves, 0]))
    across = np.sin(_column(frequency[waves]) * (cos * y - sin * x) + _column(phase[waves, 1]))
    wave[waves] = np.tanh(3.0 * np.where(_column(kind[waves] == 2), along * across * 2, along))
    place = (np.arange(size) + 0.5) / size * (_GRID - 1)
    weights = np.maximum(0, 1 - np.abs(place[:, None] - np.arange(_GRID))).astype(np.float32)
    wave[kind == 3] = weights @ grid[kind == 3] @ weights.T
    return colour[:, None, None, :] + wave[..., None] * tint[:, None, None, :]


def _shape(numbers: _Numbers, labels: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """[n, size, size]: coverage of each pixel by the label's shape."""
    centre = numbers.between(-POSITION, POSITION, 2)
    radius = numbers.between(*RADIUS)
    angle = numbers.between(-ROTATION, ROTATION) * (np.pi / 180)
    # A sum of four uniform numbers is close to normal, with deviation √(1/3).
    stretch = np.exp(STRETCH * np.sqrt(3.0) * (numbers.unit(4).sum(axis=1, keepdims=True) - 2.0) / 2)
    dx, dy = x - _column(centre[:, 0]), y - _column(centre[:, 1])
    cos, sin = _column(np.cos(angle)), _column(np.sin(angle))
    u = (cos * dx + sin * dy) / _column(radius * stretch)
    v = (cos * dy - sin * dx) / _column(radius / stretch)
    mask = np.empty(u.shape, np.float32)
    for label, field in enumerate(_FIELDS.values()):
        rows = labels == label
        mask[rows] = _edge(field(u[rows], v[rows]) * _column(radius[rows]), x.shape[-1])
    return mask


def _stroke(image: np.ndarray, numbers: _Numbers, x: np.ndarray, y: np.ndarray) -> None:
    """A straight stroke of one colour."""
    ends = numbers.between(-1.1, 1.1, 4)
    x0, y0, x1, y1 = (_column(ends[:, i]) for i in range(4))
    # At most 0.9 along each axis, so that it is clutter rather than a horizon.
    x1, y1 = x0 + 0.4 * (x1 - x0), y0 + 0.4 * (y1 - y0)
    dx, dy = x1 - x0, y1 - y0
    t = np.clip(((x - x0) * dx + (y - y0) * dy) / (dx**2 + dy**2 + 1e-6), 0.0, 1.0)
    distance = _column(numbers.between(*STROKE_WIDTH)) - np.hypot(x - x0 - t * dx, y - y0 - t * dy)
    _paint(image, _edge(distance, x.shape[-1]), numbers.between(0.05, 0.95, 3)[:, None, None, :])


def _blob(image: np.ndarray, numbers: _Numbers, x: np.ndarray, y: np.ndarray) -> None:
    """A small disc or square of one colour."""
    place = numbers.between(-1.0, 1.0, 2)
    radius = _column(numbers.between(*BLOB_RADIUS))
    dx, dy = np.abs(x - _column(place[:, 0])), np.abs(y - _column(place[:, 1]))
    round_ = _column(numbers.unit() < 0.5)
    distance = radius - np.where(round_, np.hypot(dx, dy), np.maximum(dx, dy))
    _paint(image, _edge(distance, x.shape[-1]), numbers.between(0.05, 0.95, 3)[:, None, None, :])
