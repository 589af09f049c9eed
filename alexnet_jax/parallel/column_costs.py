"""What each device holds, computes and receives when the columns are spread over several: from the config alone.

`tests/test_parallel_mesh_costs.py` holds the bytes of the exchanges against those of compiled programs.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from ml_collections import ConfigDict

from alexnet_jax.errors import ConfigError
from alexnet_jax.models import geometry

BYTES = {"float32": 4, "bfloat16": 2, "float64": 8}


class Exchange(NamedTuple):
    """Where columns meet: before `layer`, or in the sum of the output layer. Bytes are of one image.

    `handed_in`, `received`: a device's input and output of the forward collective; the backward pass of a gather is its
    transpose. `forward`, `backward`: bytes received from other devices.
    """

    layer: str
    collective: str
    handed_in: int
    received: int
    forward: int
    backward: int


def device_columns(config: ConfigDict) -> int:
    """Devices over which to split the columns, if available: `mesh.column`, or for 'auto' two, as in the paper (section
    3.2), if the columns and their norms allow it.

    Raises:
      ConfigError: the columns do not divide over them, or the norms need them together.
    """
    columns, lrn = config.model.columns, config.model.lrn
    if config.mesh.column == "auto":
        return 2 if columns % 2 == 0 and lrn.window == "column" else 1
    devices = int(config.mesh.column)
    if columns % devices:
        divisors = [d for d in range(1, columns + 1) if columns % d == 0]
        raise ConfigError(f"config.mesh.column: {columns} columns do not divide over {devices} devices; valid: "
                          f"{', '.join(map(str, divisors))}")
    if devices > 1 and lrn.window == "layer" and lrn.layers:
        raise ConfigError("config.model.lrn.window: 'layer' needs all columns on one device; choose 'column' or "
                          "config.mesh.column=1")
    return devices


def mesh_shape(config: ConfigDict, count: int | None, kind: str = "device") -> tuple[int, int]:
    """(data, column): the shape of `config.mesh` on `count` devices; None: on as many as it needs.

    'auto' for `column` takes two devices a replica where there are two and the columns allow it, as the paper
    did; 'auto' for `data` takes as many replicas as there are devices left and the batch divides into.

    Raises:
      ConfigError: the columns or the batch don't divide, the norms need the columns together, or there are too few
        devices.
    """
    batch, asked, column = config.train.batch_size, config.mesh.data, device_columns(config)
    if config.mesh.column == "auto" and (count or 1) < column * (1 if asked == "auto" else int(asked)):
        column = 1
    if asked == "auto":
        data = max((d for d in range(1, (count or 1) // column + 1) if batch % d == 0), default=1)
    else:
        data = int(asked)
    if count is not None and data * column > count:
        raise ConfigError(f"config.mesh: {data} × {column} devices are needed and {count} {kind}"
                          f"{' is' if count == 1 else 's are'} present (on a CPU, JAX_NUM_CPU_DEVICES=N emulates N)")
    if batch % data:
        raise ConfigError(f"config.mesh.data: a batch of {batch} does not divide over {data} devices; the nearest "
                          f"batch that does is {batch - batch % data or data}")
    return data, column


def exchanges(config: ConfigDict, classes: int, devices: int) -> list[Exchange]:
    """The exchanges of a network whose columns lie on `devices` devices, in order; none on a single one.

    Raises:
      ConfigError: impossible shapes.
    """
    if devices == 1:
        return []
    each, found = BYTES[config.train.precision], []
    for layer in geometry.layers(config, classes):
        if layer.is_output:
            logits = layer.features * max(each, 4)  # summed in float32 at least; its gradient is whole everywhere
            found.append(Exchange(layer.name, "all-reduce", logits, logits, logits * (devices - 1), 0))
        elif layer.sees == "all columns":
            whole = layer.in_features * (layer.in_size**2 if layer.is_conv else 1) * each
            other = whole - whole // devices
            found.append(Exchange(layer.name, "all-gather", whole // devices, whole, other, other))
    return found


def per_device(config: ConfigDict, classes: int, devices: int) -> dict[str, int]:
    """Of one device: parameters, and for one image multiply-adds, activation bytes and bytes received.

    Activations are what the backward pass needs again (`describe.table`), and what was gathered.
    """
    layers = geometry.layers(config, classes)
    each = BYTES[config.train.precision]
    own = sum(activation_values(x) // (1 if x.is_output else devices) for x in layers) * each
    met = exchanges(config, classes, devices)
    return {
        "parameters": sum((x.parameters - x.features) // devices + x.features if x.is_output else
                          x.parameters // devices for x in layers),
        "multiply_adds": sum(x.multiply_adds for x in layers) // devices,
        "activation_bytes": own + sum(x.received for x in met if x.collective == "all-gather"),
        "received_forward": sum(x.forward for x in met), "received_backward": sum(x.backward for x in met)}


def activation_values(layer: geometry.Layer) -> int:
    """Values that a layer keeps of one image, all columns: before its pooling and after it."""
    return layer.units + (layer.columns * layer.features * layer.out_size**2 if layer.pool else 0)


def lines(config: ConfigDict, classes: int) -> list[str]:
    """The part of `describe`'s text on what each device holds and receives; [] for a network of one column."""
    devices, columns = device_columns(config), config.model.columns
    if columns == 1:
        return []
    if devices == 1:
        return ["all columns on one device (config.mesh.column): nothing is exchanged between devices"]
    numbers = per_device(config, classes, devices)
    what = "a column each" if devices == columns else f"{columns // devices} columns each"
    out = [f"on {devices} devices, {what} (config.mesh.column), a device holds {numbers['parameters']:,} parameters, "
           f"and for one image computes {numbers['multiply_adds']:,} multiply-adds and keeps "
           f"{numbers['activation_bytes']:,} bytes", "",
           f"  {'before':8}{'exchange':12}{'received forward':>18}{'backward':>12}   bytes an image"]
    rows: list[tuple[Any, ...]] = [(x.layer, x.collective, x.forward, x.backward)
                                   for x in exchanges(config, classes, devices)]
    rows.append(("total", "", numbers["received_forward"], numbers["received_backward"]))
    return out + [f"  {layer:8}{kind:12}{forward:>18,}{backward:>12,}" for layer, kind, forward, backward in rows]
