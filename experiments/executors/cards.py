"""Several runs on one card: how many suit a small network, and what of the card's memory is each one's.

By NVIDIA's own listing (`nvidia-smi`) and the config alone, before JAX starts.
"""

from __future__ import annotations

import dataclasses
import json
import subprocess
from collections.abc import Mapping, Sequence
from typing import Any

from alexnet_jax import config as config_lib
from alexnet_jax import data
from alexnet_jax.errors import UserError
from alexnet_jax.parallel import column_costs
from experiments.executors import devices

# Arithmetic of a training step, in floating-point operations, up to which a run leaves most of a card idle. The full
# network takes 560e9 with batches of 128, alexnet64 19e9, alexnet32 5e9.
SMALL = 50e9
CLIENTS = 48  # processes that the multi-process service takes on a card
CONTEXT = 768 << 20  # bytes that a process takes of a card beside the memory that XLA shares out
HOST = 3 << 30  # bytes of main memory of a process that uses a card, rather too many
_ROOM = 1 << 30  # for what convolutions and the compiler's trials use for a moment
_COPIES = 6  # of the weights: themselves, their velocity and gradient, and the next ones
_PASSES = 4  # of the activations: those that are kept, their gradients, and what lies between
_IMAGES = 0.3  # of a run's memory that images may take (alexnet_jax.training.feed.SHARE)
_KEPT = 0.95  # of what is free


@dataclasses.dataclass(frozen=True)
class Card:
    """One of this machine's cards. `uuid` doesn't depend on how cards are numbered; `free`, `total`: bytes."""

    index: str
    uuid: str
    kind: str
    free: int
    total: int


def look(names: Sequence[str]) -> list[Card]:
    """The cards of these names (as for CUDA_VISIBLE_DEVICES), in their order.

    [] where one of them isn't known, or is divided into instances (MIG), of whose memory the listing says nothing.
    """
    try:
        rows = [[cell.strip() for cell in line.split(",")] for line in devices.nvidia_smi(
            "--query-gpu=index,uuid,name,memory.free,memory.total,mig.mode.current", "--format=csv,noheader,nounits")]
        cards = [Card(index, uuid, kind, int(free) << 20, int(total) << 20)
                 for index, uuid, kind, free, total, divided in rows if divided != "Enabled"]
    except (OSError, subprocess.SubprocessError, ValueError):
        return []
    found = [next((card for card in cards if name in (card.index, card.uuid) or (
        name.startswith("GPU-") and card.uuid.startswith(name))), None) for name in names]
    return [card for card in found if card is not None] if None not in found else []


def operations(config: Mapping[str, Any]) -> float:
    """Floating-point operations of a training step: forward, and twice as many backward."""
    resolved = config_lib.from_json(config)
    return 6.0 * column_costs.per_device(resolved, 0, 1)["multiply_adds"] * resolved.train.batch_size


def need(config: Mapping[str, Any]) -> int:
    """Bytes that a run of this config surely gets by with, its images on the card included where they are known."""
    resolved = config_lib.from_json(config)
    costs, each = column_costs.per_device(resolved, 0, 1), max(4, column_costs.BYTES[resolved.train.precision])
    step = costs["parameters"] * each * _COPIES + costs["activation_bytes"] * resolved.train.batch_size * _PASSES
    return CONTEXT + _ROOM + max(2 * step, step + int(_images(resolved) / _IMAGES))


def _images(config: Any) -> int:
    """Bytes of all images of the dataset; 0 where that isn't known before they are read."""
    try:
        counts = data.find(config.data).split_sizes().values()
    except (UserError, OSError):
        return 0
    return sum(filter(None, counts)) * (config.data.size**2 * 3 + 4)


def jobs(found: Sequence[Card], cores: int, configs: Sequence[Mapping[str, Any]], each: int = 0,
         host: int | None = None) -> int:
    """How many runs at a time suit one of these cards; 1 for a large network, or where its memory isn't known.

    Args:
      cores: of this machine. configs: of the runs. each: cores that a run asks for; 0: one. host: this machine's free
        main memory, in bytes, if known.
    """
    alike = {json.dumps([config.get(part) for part in ("data", "model", "augment")]
                        + [config["train"].get(name) for name in ("batch_size", "precision")]): config
             for config in configs}.values()
    if not found or not alike or max(map(operations, alike)) > SMALL:
        return 1
    mine = cores // len(found)
    mine = (mine - mine // 8) // max(1, each)  # some are left for the sweep itself and for compiling
    most = max(map(need, alike))
    if host is not None:
        mine = min(mine, host // HOST // len(found))
    return max(1, min(CLIENTS, mine, *(int(card.free * _KEPT) // most for card in found)))


def share(card: Card, runs: int) -> float:
    """The part of a card's whole memory that each of so many runs may use of it, for XLA."""
    return max(0.0, card.free * _KEPT / runs - CONTEXT) / card.total
