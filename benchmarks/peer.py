"""The same networks in PyTorch, for the parity tests and the benchmarks.

Written from the specification in PyTorch's layout: columns are channel groups, images [batch, channel, height, width].
It shares no arithmetic with this project. Imports PyTorch (extra: parity).
"""

from __future__ import annotations

import math
import types
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from ml_collections import ConfigDict
from torch import nn

Observe = Callable[[str, torch.Tensor], None]
NORMS = ("stock", "banded")


def tensors(params: Mapping[str, Any]) -> dict[str, list[torch.Tensor]]:
    """{layer: [weight, bias]} in PyTorch's layout, requiring gradients, from {layer: {kernel, bias}} arrays of ours."""
    out = {}
    for name, p in params.items():
        k, b = p["kernel"], p["bias"].reshape(-1)
        if k.ndim == 5 and p["bias"].ndim == 4:  # unshared: one column, same layout
            w, b = k[0], p["bias"][0]
        elif name.startswith("conv"):  # [column, h, w, in, out] → [column · out, in, h, w]
            w = k.transpose(0, 4, 3, 1, 2).reshape(-1, k.shape[3], *k.shape[1:3])
        elif name == "fc8":  # [column, in, classes] → [classes, column · in]
            w = k.reshape(-1, k.shape[2]).T
        else:  # [column, in, out] → [column · out, in]
            w = k.transpose(0, 2, 1).reshape(-1, k.shape[1])
        out[name] = [torch.tensor(np.ascontiguousarray(a), requires_grad=True) for a in (w, b)]
    return out


def gradients(name: str, tensors: list[torch.Tensor], like: Mapping[str, Any]) -> dict[str, Any]:
    """The gradients of a layer's `tensors` [weight, bias], as arrays with the shapes of `like`, {kernel, bias}."""
    (w, bias), k = (tensor.grad.numpy() for tensor in tensors if tensor.grad is not None), like["kernel"]
    if k.ndim == 5 and like["bias"].ndim == 4:
        kernel = w[None]
    elif name.startswith("conv"):
        columns, h, kw, i, o = k.shape
        kernel = w.reshape(columns, o, i, h, kw).transpose(0, 3, 4, 2, 1)
    elif name == "fc8":
        kernel = w.T.reshape(k.shape)
    else:
        kernel = w.reshape(k.shape[0], k.shape[2], k.shape[1]).transpose(0, 2, 1)
    return {"kernel": kernel, "bias": bias.reshape(like["bias"].shape)}


def local_response_norm(m: Any, x: torch.Tensor, how: str = "stock") -> torch.Tensor:
    """The response norm of the config's `model` group.

    Args:
      how: 'stock', PyTorch's function; or 'banded', a 1×1 convolution of the squares with a banded matrix, and roots
        instead of the general power.
    """
    alpha = m.lrn.alpha if m.lrn.alpha_over_n else m.lrn.alpha * m.lrn.n  # PyTorch divides α by n
    columns = m.columns if m.lrn.window == "column" else 1  # the window stays within its column
    if how == "stock":
        parts = [F.local_response_norm(part, m.lrn.n, alpha, m.lrn.beta, m.lrn.k) for part in x.chunk(columns, 1)]
        return torch.cat(parts, 1) if columns > 1 else parts[0]
    channels = x.shape[1]
    at = torch.arange(channels, device=x.device)
    offset = at[None, :] - at[:, None]  # source − target
    own = at // (channels // columns)
    band = (offset >= -(m.lrn.n // 2)) & (offset <= (m.lrn.n - 1) // 2) & (own[None, :] == own[:, None])
    total = F.conv2d(x * x, (band.to(x.dtype) * (alpha / m.lrn.n))[:, :, None, None])
    return x * _inverse_power(total + m.lrn.k, m.lrn.beta)


def _inverse_power(s: torch.Tensor, beta: float) -> torch.Tensor:
    if beta == 0.75:
        root = torch.rsqrt(s)
        return root * torch.sqrt(root)
    return s**-beta


def _same_map(m: Any, x: torch.Tensor, how: str) -> torch.Tensor:
    size = m.same_map.size
    # The mean includes the padding, so this is the window's sum / size².
    s = 1 + m.same_map.alpha * F.avg_pool2d(x * x, size, 1, padding=size // 2)
    return x / s**m.same_map.beta if how == "stock" else x * _inverse_power(s, m.same_map.beta)


def _activate(m: Any, x: torch.Tensor) -> torch.Tensor:
    if m.activation == "relu":
        return F.relu(x)
    return torch.tanh(x) if m.activation == "tanh" else 1.7159 * torch.tanh(x * 2 / 3)


def _pool(m: Any, number: int, x: torch.Tensor) -> torch.Tensor:
    kind = m.pool.kinds[m.pool.layers.index(number)] if m.pool.kinds else m.pool.kind
    ceil = m.pool.rounding == "ceil"
    if kind == "max":
        return F.max_pool2d(x, m.pool.window, m.pool.stride, ceil_mode=ceil)
    return F.avg_pool2d(x, m.pool.window, m.pool.stride, ceil_mode=ceil, count_include_pad=False)


def _conv(m: Any, conv: Any, x: torch.Tensor, w: torch.Tensor, b: torch.Tensor, groups: int
          ) -> torch.Tensor:
    near = far = conv.padding
    if m.rounding == "ceil":  # zeros where the last filter extends beyond the edge
        positions = 1 + math.ceil((2 * conv.padding + x.shape[-1] - conv.kernel) / conv.stride)
        far = (positions - 1) * conv.stride + conv.kernel - x.shape[-1] - near
    if far == near:
        return F.conv2d(x, w, b, conv.stride, near, groups=groups)
    return F.conv2d(F.pad(x, (near, far, near, far)), w, b, conv.stride, groups=groups)


def _local(conv: Any, x: torch.Tensor, w: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """w [h', w', kh · kw · in, out], b [h', w', out]: a separate product at each position."""
    rows, cols, _, out = w.shape
    patches = F.unfold(x, conv.kernel, padding=conv.padding, stride=conv.stride)  # [batch, in · kh · kw, positions]
    patches = patches.reshape(x.shape[0], x.shape[1], conv.kernel**2, rows * cols).permute(3, 0, 2, 1).flatten(2)
    y = torch.bmm(patches, w.reshape(rows * cols, -1, out)) + b.reshape(rows * cols, 1, out)
    return y.permute(1, 2, 0).reshape(x.shape[0], out, rows, cols)


def _linear(m: Any, x: torch.Tensor, w: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """A dense layer over all columns' values, or column by column if its weights have one column's inputs."""
    groups = 1 if x[0].numel() == w.shape[1] else m.columns
    parts = list(x.chunk(groups, 1))
    if x.dim() > 2:  # flattened as height, width, channel
        parts = [part.permute(0, 2, 3, 1).flatten(1) for part in parts]
    return torch.cat([F.linear(*each) for each in zip(parts, w.chunk(groups), b.chunk(groups), strict=True)], 1)


def logits(config: Any, params: Mapping[str, Any], x: torch.Tensor, sees_all, *, train: bool = False,
           norm: str = "stock", observe: Observe | None = None) -> torch.Tensor:
    """Logits [batch, classes] of centred images [batch, channel, crop, crop].

    Args:
      params: from `tensors`. sees_all: names of the convolutions that see all columns, including conv1.
      train: with dropout. norm: one of `NORMS`.
      observe: called with the input of each activation ('relu') and each pooling ('pool').
    """
    m = config.model
    for name, (w, b) in params.items():
        if name.startswith("conv"):
            if getattr(m, name).unshared:
                x = _local(getattr(m, name), x, w, b)
            else:
                x = _conv(m, getattr(m, name), x, w, b, 1 if name in sees_all else m.columns)
            number = int(name[-1])
            order = m.lrn.order[number - 1].split("-") if number < 3 else ["relu", "pool"]
            for what in order:
                if what == "relu":
                    if observe:
                        observe("relu", x)
                    x = _activate(m, x)
                elif what == "lrn" and number in m.lrn.layers:
                    x = local_response_norm(m, x, norm)
                    x = _same_map(m, x, norm) if number in m.same_map.layers else x
                elif what == "pool" and number in m.pool.layers:
                    if observe:
                        observe("pool", x)
                    x = _pool(m, number, x)
        else:
            x = _linear(m, x, w, b)
            if name == "fc8":
                return x
            if observe:
                observe("relu", x)
            x = _activate(m, x)
        if name in m.dropout_layers and m.dropout:
            x = _dropout(m, x, train)
    raise AssertionError


def _dropout(m: Any, x: torch.Tensor, train: bool) -> torch.Tensor:
    keep = 1 - m.dropout
    if train:  # PyTorch scales kept units by 1 / keep
        x = F.dropout(x, m.dropout)
        return x * keep if m.dropout_scale == "test" else x
    return x * keep if m.dropout_scale == "test" else x


def _plain(tree: Any) -> Any:
    return types.SimpleNamespace(**{k: _plain(v) for k, v in tree.items()}) if isinstance(tree, ConfigDict) else tree


class Peer(nn.Module):
    """A network with its parameters, channels last; in training mode unless `.eval()`."""

    def __init__(self, config: ConfigDict, params: Mapping[str, Any], norm: str = "stock"):
        super().__init__()
        self.config, self.norm = _plain(config), norm  # torch.compile can't handle a ConfigDict
        self.sees_all = ("conv1", *config.model.exchange)
        self.names = list(params)
        made = tensors(params)
        for name, (w, b) in made.items():
            shared = name.startswith("conv") and not getattr(self.config.model, name).unshared
            w = w.detach().contiguous(memory_format=torch.channels_last) if shared else w.detach()
            setattr(self, f"{name}_weight", nn.Parameter(w))
            setattr(self, f"{name}_bias", nn.Parameter(b.detach()))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        params = {name: (getattr(self, f"{name}_weight"), getattr(self, f"{name}_bias")) for name in self.names}
        return logits(self.config, params, images, self.sees_all, train=self.training, norm=self.norm)
