"""Weights, images and labels from integers, bit-identical on any machine; and short summaries of large arrays.

Both keep reference files small: their reader recreates the same weights and compares norms, random projections and
sampled entries of the results. Imports only NumPy.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from alexnet_jax.models import geometry

PROJECTIONS = ENTRIES = 32
_CHUNK = 1 << 18  # words at a time, which fit in a core's cache


def words(purpose: str, count: int) -> np.ndarray:
    """uint64 [count]: splitmix64 (Steele, Lea, Flood 2014), seeded by a hash of `purpose`."""
    out = np.empty(count, np.uint64)
    seed = np.uint64(zlib.crc32(purpose.encode()) << 32)
    for first in range(0, count, _CHUNK):
        part = out[first:first + _CHUNK]
        z = seed + np.arange(first + 1, first + 1 + len(part), dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        part[:] = z ^ (z >> np.uint64(31))
    return out


def whole(purpose: str, shape: Sequence[int], most: int) -> np.ndarray:
    """int32 of this shape, uniform in −most … most − 1; `most` is at most 2^15."""
    count = math.prod(shape)
    short = words(purpose, -(-count // 4)).astype("<u8", copy=False).view("<i2")[:count]
    return ((short.astype(np.int32) * most) >> 15).reshape(shape)


def scattered(purpose: str, shape: Sequence[int], deviation: float) -> np.ndarray:
    """float32 with about this standard deviation: 13-bit integers times a power of two."""
    edge = deviation * math.sqrt(3.0)
    power = 12 - math.frexp(edge)[1]  # edge · 2^power is in [2^11, 2^12)
    most = round(math.ldexp(edge, power))
    return whole(purpose, shape, most).astype(np.float32) * np.float32(math.ldexp(1.0, -power))


def weights(config: ConfigDict, classes: int) -> dict[str, dict[str, np.ndarray]]:
    """{layer: {kernel, bias}}, float32, with kernels that preserve the signal's scale through ReLUs."""
    out = {}
    for x in geometry.layers(config, classes):
        kernel: tuple[int, ...] = (x.columns, x.in_features, x.features)
        if x.is_conv:
            kernel = (x.columns, x.kernel, x.kernel, x.in_features, x.features)
        # Logits of about 1, so that the softmax has a gradient for every class.
        deviation = math.sqrt(2.0 / x.fan_in) / (32.0 if x.is_output else 1.0)
        bias = kernel[-1:] if x.is_output else (x.columns, x.features)
        out[x.name] = {"kernel": scattered(f"{x.name}.kernel", kernel, deviation),
                       "bias": scattered(f"{x.name}.bias", bias, 0.3)}
    return out


def image(crop: int, number: int) -> np.ndarray:
    """float32 [crop, crop, 3]: image `number`, centred: integers in −127 … 127, smooth patches plus noise."""
    side = -(-crop // 4)
    coarse = whole(f"patches {number}", (4, 4, 3), 96).repeat(side, 0).repeat(side, 1)[:crop, :crop]
    return (coarse + whole(f"noise {number}", (crop, crop, 3), 32)).clip(-127, 127).astype(np.float32)


def pictures(size: int, count: int) -> np.ndarray:
    """uint8 [count, size, size, 3], like a store's images."""
    return np.stack([image(size, number).astype(np.int32) + 128 for number in range(count)]).astype(np.uint8)


def labels(count: int, classes: int) -> np.ndarray:
    """int32 [count]."""
    return (words("labels", count) % np.uint64(classes)).astype(np.int32)


def relative(a: np.ndarray, b: np.ndarray) -> float:
    """The norm of a − b divided by that of b, or by 1 if b is 0."""
    wide = b.astype(np.float64)
    return float(np.linalg.norm(a.astype(np.float64) - wide) / (np.linalg.norm(wide) or 1.0))


# Summaries of arrays.


def _signs(purpose: str, count: int) -> np.ndarray:
    """float64 [count, PROJECTIONS] of ±1."""
    bits = (words(purpose, count)[:, None] >> np.arange(PROJECTIONS, dtype=np.uint64)) & np.uint64(1)
    return 1.0 - 2.0 * bits.astype(np.float64)


def summary(name: str, array: Any) -> dict[str, Any]:
    """{'shape', 'norm', 'projections', 'entries'} of an array, from float64 sums.

    A projection is Σ r_i a_ij c_j with random signs r and c. The mean square of several projections estimates the
    array's squared norm; that of the differences of two arrays' projections estimates the squared norm of their
    difference.
    """
    a = np.asarray(array)
    flat = a.reshape(-1, a.shape[-1]).astype(np.float64)
    projections = ((flat.T @ _signs(f"{name} rows", flat.shape[0])) * _signs(f"{name} columns", flat.shape[1])).sum(0)
    where = words(f"{name} entries", ENTRIES) % np.uint64(a.size)
    return {"shape": list(a.shape), "norm": float(np.sqrt(np.vdot(flat, flat))), "projections": projections.tolist(),
            "entries": flat.reshape(-1)[where].tolist()}


def distance(found: dict[str, Any], wanted: dict[str, Any]) -> float:
    """The estimated distance of an array from the wanted one, relative to the latter's norm; infinite for NaN.

    The largest of the differences of norms, projections and entries. The last two estimate the difference's norm from
    32 numbers each.
    """
    if found["shape"] != wanted["shape"]:
        return math.inf
    norm = wanted["norm"]

    def apart(key: str) -> float:
        return float(np.sqrt(np.mean(np.square(np.subtract(found[key], wanted[key])))))

    entries = apart("entries") * math.sqrt(math.prod(wanted["shape"]))
    largest = max(abs(found["norm"] - norm), apart("projections"), entries) / norm
    return largest if math.isfinite(largest) else math.inf
