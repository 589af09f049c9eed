"""Makes the references for part "right" on a CPU: benchmarks/accelerator/references/*.json.

    python -m benchmarks.accelerator.reference [--only NAME …]

Networks (`compared.NETWORKS`, full and small) are computed by PyTorch in float64 (benchmarks/peer.py, which shares no
arithmetic with this project), from the weights and images of `exact`. Each file also has PyTorch's distances from that
in other arithmetic ("errors"), from which tolerances follow:

float32         PyTorch's own
tensorfloat32   float64, with all inputs of products (gradients' too) rounded to 11 bits
bfloat16        float64, with these and all outputs of layers rounded to 8 bits

Training's random draws ("draws") and first losses ("losses-…") are this project's own, in float32 on this CPU.
"""

from __future__ import annotations

import json
import os
from typing import Any

import numpy as np

from alexnet_jax import commands, files
from benchmarks import command
from benchmarks.accelerator import exact
from benchmarks.accelerator.compared import BATCH, FOLDER, LOSSES, NETWORKS, PRECISIONS, config_of, distances, summaries

_SEE_ALL = ("conv1", "conv3", "fc6", "fc7")
_DIGITS = {"tensorfloat32": 11, "bfloat16": 8}  # bits of the significand, including the hidden one
_PLACES = 12  # decimal digits kept in the files


def network(name: str) -> dict[str, Any]:
    """The file of one of `NETWORKS`."""
    import torch

    wanted = _by_torch(name, torch.float64)
    errors = {precision: distances(_by_torch(name, torch.float32 if precision == "float32" else torch.float64,
                                             _DIGITS.get(precision), precision == "bfloat16"), wanted)
              for precision in PRECISIONS}
    return {"network": name, "batch": BATCH, "by": f"PyTorch {torch.__version__}, float64", **wanted,
            "errors": errors}


def _by_torch(name: str, dtype: Any, digits: int | None = None, outputs: bool = False) -> dict[str, Any]:
    import torch
    import torch.nn.functional as F

    from benchmarks import peer

    config, classes = config_of(name)
    weights = exact.weights(config, classes)
    params = {layer: [t.detach().to(dtype).requires_grad_() for t in tensors]
              for layer, tensors in peer.tensors(weights).items()}
    images = np.stack([exact.image(config.data.crop, number) for number in range(BATCH)])
    x = torch.tensor(np.moveaxis(images, -1, 1)).to(dtype)
    with _rounding(digits, outputs):
        logits = peer.logits(config, params, x, _SEE_ALL)
        loss = F.cross_entropy(logits, torch.tensor(exact.labels(BATCH, classes).astype(np.int64)))
        loss.backward()
    gradients = {layer: peer.gradients(layer, params[layer], weights[layer]) for layer in params}
    return summaries(logits.detach().numpy(), loss.item(), gradients)


def _rounding(digits: int | None, outputs: bool) -> Any:
    """A context in which PyTorch rounds the inputs of products, forward and backward, to `digits` bits.

    Args:
      digits: None: no rounding. outputs: also round the outputs of products and norms.
    """
    import contextlib

    import torch
    import torch.nn.functional as F
    from torch.overrides import TorchFunctionMode

    if digits is None:
        return contextlib.nullcontext()

    def rounded(x):
        significand, exponent = torch.frexp(x)
        return torch.ldexp(torch.round(torch.ldexp(significand, torch.tensor(digits))), exponent - digits)

    class Round(torch.autograd.Function):
        """Rounds values in the forward pass, gradients in the backward pass, or both."""

        @staticmethod
        def forward(ctx, x, forward, back):
            ctx.back = back
            return rounded(x) if forward else x.clone()

        @staticmethod
        def backward(ctx, g):
            return (rounded(g) if ctx.back else g), None, None

    class Rounding(TorchFunctionMode):
        def __torch_function__(self, function, types, args=(), kwargs=None):
            if function in (F.conv2d, F.linear, torch.conv2d):
                x, w, *rest = args
                both = (Round.apply(x, True, outputs), Round.apply(w, True, outputs))
                return Round.apply(function(*both, *rest, **(kwargs or {})), outputs, True)
            y = function(*args, **(kwargs or {}))
            return Round.apply(y, True, True) if outputs and function is F.local_response_norm else y

    return Rounding()


def made(name: str) -> dict[str, Any]:
    """The content of the named file."""
    if name in NETWORKS:
        return network(name)
    from benchmarks.accelerator import checks

    if name == "draws":
        return checks.draws()
    return checks.losses(name.removeprefix("losses-"))


NAMES = (*NETWORKS, "draws", *(f"losses-{name}" for name in LOSSES))


def _shortened(tree: Any) -> Any:
    if isinstance(tree, dict):
        return {key: _shortened(value) for key, value in tree.items()}
    if isinstance(tree, list):
        return [_shortened(value) for value in tree]
    return float(f"{tree:.{_PLACES}g}") if isinstance(tree, float) else tree


def write(name: str, tree: dict[str, Any]) -> None:
    FOLDER.mkdir(exist_ok=True)
    lines = ",\n".join(f"{json.dumps(key)}: {json.dumps(value)}" for key, value in _shortened(tree).items())
    files.write_text(FOLDER / f"{name}.json", f"{{\n{lines}\n}}\n")


def main() -> None:
    parser = commands.Parser("benchmarks.accelerator.reference", __doc__)
    parser.add_argument("--only", nargs="+", choices=NAMES, default=NAMES, metavar="NAME",
                        help=f"some of {', '.join(NAMES)}")
    for name in parser.parse_args().only:
        command.say(f"{name} …")
        write(name, made(name))


if __name__ == "__main__":
    os.environ["JAX_PLATFORMS"] = "cpu"
    from alexnet_jax import environment

    environment.prepare()
    commands.run_main(main)
