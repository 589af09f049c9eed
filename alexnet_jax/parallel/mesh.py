"""The ('data', 'column') mesh and how arrays lie on it. Knows nothing of the network's layers."""

from __future__ import annotations

import os

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from ml_collections import ConfigDict

from alexnet_jax.errors import ConfigError
from alexnet_jax.parallel import column_costs

DATA, COLUMN = "data", "column"


def make_mesh(config: ConfigDict, devices: list[jax.Device] | None = None) -> Mesh:
    """The mesh of `config.mesh` over the first data × column devices: `column_costs.mesh_shape`.

    Raises:
      ConfigError: as that; or it would leave out some of several processes.
    """
    devices = devices or present()
    data, column = column_costs.mesh_shape(config, len(devices), f"{devices[0].platform} device")
    if jax.process_count() > 1 and data * column != len(devices):
        raise ConfigError(f"config.mesh: {data} × {column} devices leave some of the {len(devices)} out, and with them "
                          "whole processes; choose data × column = all of them")
    return Mesh(np.asarray(devices[: data * column]).reshape(data, column), (DATA, COLUMN))


def present() -> list[jax.Device]:
    """`jax.devices()`. Raises ConfigError: there are no devices of the requested kind, JAX_PLATFORMS's first."""
    asked = os.environ.get("JAX_PLATFORMS", "")
    try:
        found = jax.devices()
    except (RuntimeError, AssertionError) as error:
        what = (f"JAX_PLATFORMS={asked}: no such devices here; unset it, set it to cpu" if asked else
                "JAX finds no devices here; set JAX_PLATFORMS=cpu")
        message = " ".join(str(error).split())[:160]
        raise ConfigError(f"{what}, or install JAX for them{f' ({message})' if message else ''}") from error
    # JAX leaves cuda out, even where it is asked for, if the machine shows no card.
    if asked.split(",")[0] not in ("", "cpu") and found[0].platform == "cpu":
        raise ConfigError(f"JAX_PLATFORMS={asked}: JAX sees no such device here and would compute on the CPU; see why "
                          "(nvidia-smi), or set JAX_PLATFORMS=cpu")
    return found


def shardings(mesh: Mesh, specs):
    """A tree of partition specs as a tree of shardings on `mesh`."""
    return jax.tree.map(lambda spec: NamedSharding(mesh, spec), specs,
                        is_leaf=lambda leaf: isinstance(leaf, PartitionSpec))


def local_rows(mesh: Mesh, batch: int) -> slice:
    """The rows of a global batch on this process's devices: all of them for a single process."""
    places = NamedSharding(mesh, PartitionSpec(DATA)).addressable_devices_indices_map((batch,)).values()
    bounds = [place[0].indices(batch) for place in places if place is not None]
    return slice(min(first for first, _, _ in bounds), max(last for _, last, _ in bounds))


def put_whole(mesh: Mesh, arrays):
    """Puts a tree of host arrays on the mesh, replicated; every process passes the same."""
    sharding = NamedSharding(mesh, PartitionSpec())
    if sharding.is_fully_addressable:
        return jax.device_put(arrays, sharding)
    with jax.transfer_guard("allow"):  # these transfers count as implicit
        return jax.tree.map(lambda array: jax.make_array_from_callback(
            np.shape(array), sharding, lambda index: np.asarray(array[index])), arrays)


def put_batch(mesh: Mesh, arrays, batch: int | None = None):
    """Puts host arrays with the rows `local_rows(mesh, batch)` on the mesh, as [batch, …] split over 'data'.

    `batch` may be left out for a single process.
    """
    sharding = NamedSharding(mesh, PartitionSpec(DATA))
    if sharding.is_fully_addressable:
        return jax.device_put(arrays, sharding)
    assert batch is not None
    first = local_rows(mesh, batch).start

    def put(array):
        def part(index):
            start, stop, _ = index[0].indices(batch)
            return array[start - first:stop - first]

        return jax.make_array_from_callback((batch, *array.shape[1:]), sharding, part)

    with jax.transfer_guard("allow"):
        return jax.tree.map(put, arrays)
