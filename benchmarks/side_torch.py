"""PyTorch's side of a comparison, in a child process: the same networks, trained in its fastest way.

Channels last, the fused optimiser, denormals flushed; on a GPU bfloat16 autocast and `torch.compile`. A step is
forward, backward, dropout, loss and update on float32 crops already on the device: unlike this project's, it has no
cropping, mirroring and colour noise.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from alexnet_jax.models import geometry
from benchmarks import networks, peer

_GPU = torch.cuda.is_available() and os.environ.get("JAX_PLATFORMS", "") != "cpu"
_DEVICE = torch.device("cuda" if _GPU else "cpu")
if not _GPU:
    torch.set_num_threads(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
    torch.set_flush_denormal(True)  # as XLA does


def about() -> dict[str, Any]:
    """{'platform', 'kind', 'threads', 'versions'}."""
    kind = torch.cuda.get_device_name() if _GPU else torch.backends.cpu.get_cpu_capability()
    return {"platform": _DEVICE.type, "kind": kind, "threads": torch.get_num_threads(),
            "versions": {"torch": torch.__version__}}


def initial(config) -> dict[str, Any]:
    """float32 initial weights with the config's deviations and biases, in this project's layout."""
    rng = np.random.default_rng(0)
    params = {}
    kernel: tuple[int, ...]
    bias: tuple[int, ...]
    for x in geometry.layers(config, config.model.classes):
        if x.unshared:
            kernel, bias = (x.columns, x.size, x.size, x.fan_in, x.features), (x.columns, x.size, x.size, x.features)
        elif x.is_conv:
            kernel, bias = (x.columns, x.kernel, x.kernel, x.in_features, x.features), (x.columns, x.features)
        else:
            kernel, bias = (x.columns, x.in_features, x.features), (x.columns, x.features)
        params[x.name] = {"kernel": rng.standard_normal(kernel, np.float32) * np.float32(x.init_std),
                          "bias": np.full(bias[-1:] if x.is_output else bias, x.bias, np.float32)}
    return params


class Step:
    """Training steps of a config on one synthetic batch."""

    def __init__(self, config, norm: str, compiled: bool):
        self.half = config.train.precision == "bfloat16"
        model = peer.Peer(config, initial(config), norm).to(_DEVICE)
        rule = config.optim
        biases = [p for name, p in model.named_parameters() if name.endswith("bias")]
        weights = [p for name, p in model.named_parameters() if not name.endswith("bias")]
        self.optimiser = torch.optim.SGD(
            [{"params": weights, "lr": rule.learning_rate, "weight_decay": rule.weight_decay},
             {"params": biases, "lr": rule.bias_learning_rate or rule.learning_rate,
              "weight_decay": rule.weight_decay if rule.decay_biases else 0.0}],
            lr=rule.learning_rate, momentum=rule.momentum, fused=True)
        batch, crop = config.train.batch_size, config.data.crop
        generator = torch.Generator().manual_seed(0)
        images = torch.randint(0, 256, (batch, 3, crop, crop), generator=generator).float() - 127.5
        self.images = images.to(_DEVICE).contiguous(memory_format=torch.channels_last)
        self.labels = torch.randint(0, config.model.classes, (batch,), generator=generator).to(_DEVICE)
        self.model = torch.compile(model, fullgraph=True) if compiled else model
        self.last = torch.zeros(())

    def run(self, steps: int) -> float:
        """Seconds of `steps` steps, with synchronisation before and after."""
        _wait()
        begin = time.perf_counter()
        for _ in range(steps):
            self.optimiser.zero_grad(set_to_none=True)
            half = torch.autocast(_DEVICE.type, torch.bfloat16) if self.half else contextlib.nullcontext()
            with half:
                loss = F.cross_entropy(self.model(self.images), self.labels)
            loss.backward()
            self.optimiser.step()
        _wait()
        self.last = loss.detach()
        return time.perf_counter() - begin


def _wait() -> None:
    if _GPU:
        torch.cuda.synchronize()


_STEPS: dict[str, Step] = {}


def setup(key: str, network: str, batch: int, precision: str, shrink: bool = False, norm: str = "stock",
          compiled: bool = False) -> float:
    """Builds `key` and runs two steps; returns the total seconds."""
    begin = time.perf_counter()
    _products(precision)
    # cuDNN chooses its algorithms by timing them: in the first step after this one, when no other process compiles.
    torch.backends.cudnn.benchmark = False
    _STEPS[key] = Step(networks.config_of(network, batch, precision, shrink), norm, compiled)
    _STEPS[key].run(2)
    torch.backends.cudnn.benchmark = _GPU
    return time.perf_counter() - begin


def _products(precision: str) -> None:
    """Sets whether float32 products use float32 or TensorFloat-32."""
    torch.set_float32_matmul_precision("highest" if precision == "float32" else "high")
    torch.backends.cudnn.allow_tf32 = precision != "float32"


def run(key: str, steps: int) -> float:
    return _STEPS[key].run(steps)


def loss(key: str) -> float:
    return float(_STEPS[key].last)


def forget() -> None:
    """Frees all setups."""
    _STEPS.clear()
    torch.compiler.reset()
    if _GPU:
        torch.cuda.empty_cache()


def matmul(size: int, repeats: int, precision: str, calls: int = 1) -> float:
    """The best rate of a square matrix product, in floating-point operations per second.

    Args:
      calls: products per timing.
    """
    _products(precision)
    dtype = torch.bfloat16 if precision == "bfloat16" else torch.float32
    a = torch.ones((size, size), dtype=dtype, device=_DEVICE)
    return 2.0 * size**3 / _quickest(lambda: a @ a, repeats, calls)


def copy(megabytes: int, repeats: int, calls: int = 1) -> float:
    """The best rate of copying memory, in bytes read plus written per second."""
    a = torch.ones((megabytes << 18,), device=_DEVICE)
    b = torch.empty_like(a)
    return 2.0 * a.numel() * a.element_size() / _quickest(lambda: b.copy_(a), repeats, calls)


def _quickest(call: Callable[[], object], repeats: int, calls: int) -> float:
    """The minimal seconds per call, timing `calls` together, after a warm-up round."""
    times = []
    for _ in range(repeats + 1):
        _wait()
        begin = time.perf_counter()
        for _ in range(calls):
            call()
        _wait()
        times.append((time.perf_counter() - begin) / calls)
    return min(times[1:])
