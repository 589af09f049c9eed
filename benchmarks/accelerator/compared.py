"""What is compared with the references (made by `reference`): networks, weights, and distances.

Imports neither JAX nor PyTorch.
"""

from __future__ import annotations

import pathlib
from typing import Any

from ml_collections import ConfigDict

from alexnet_jax import run_files
from alexnet_jax.errors import ConfigError
from benchmarks import networks
from benchmarks.accelerator import exact

FOLDER = pathlib.Path(__file__).resolve().parent / "references"
BATCH = 4
PRECISIONS = ("float32", "tensorfloat32", "bfloat16")
SMALL = "-small"
NETWORKS = tuple(f"{recipe}{size}" for size in ("", SMALL) for recipe in networks.RECIPES)
LOSSES = ("released", "alexnet32", "tiny")


def config_of(name: str, precision: str = "float32") -> tuple[ConfigDict, int]:
    """(config of one of `NETWORKS` on one device, number of classes)."""
    recipe, small, _ = name.partition(SMALL)
    changes: dict[str, Any] = {"mesh.data": "1", "mesh.column": "1"}
    if small:  # alexnet32's sizes, but few units
        changes |= {"data.size": 32, "data.crop": 24, "model.conv1.kernel": 5, "model.conv1.stride": 1,
                    "model.conv1.padding": 2, "model.classes": 10,
                    "augment.crop_offsets": 8 if recipe == "paper" else 0,
                    **{f"model.conv{i}.features": 8 for i in range(1, 6)},
                    "model.fc6.features": 16, "model.fc7.features": 16}
    c = networks.config_of(recipe, BATCH, precision, changes=changes)
    return c, c.model.classes


def read(name: str) -> dict[str, Any]:
    """Reads a reference file. Raises ConfigError if it is missing."""
    found = run_files.read_json(FOLDER / f"{name}.json")
    if found is None:
        raise ConfigError(f"{FOLDER / name}.json: missing; python -m benchmarks.accelerator.reference --only {name}")
    return found


def summaries(logits: Any, loss: float, gradients: Any) -> dict[str, Any]:
    """{'loss', 'tensors': {'logits', 'conv1.kernel', …: `exact.summary`}}."""
    arrays = {"logits": logits, **{f"{layer}.{leaf}": array for layer, leaves in gradients.items()
                                   for leaf, array in leaves.items()}}
    return {"loss": float(loss), "tensors": {name: exact.summary(name, array) for name, array in arrays.items()}}


def distances(found: dict[str, Any], wanted: dict[str, Any]) -> dict[str, float]:
    """{'loss', 'logits', 'conv1.kernel', …: relative distance} of two `summaries`."""
    return {"loss": abs(found["loss"] - wanted["loss"]) / abs(wanted["loss"]),
            **{name: exact.distance(found["tensors"][name], tensor) for name, tensor in wanted["tensors"].items()}}
