"""What a config's network is, without compiling it: `python -m alexnet_jax.describe --config=configs/cifar10.py`.

A table of layers (shapes, parameters, multiply-adds, activations, what each sees), the totals beside the paper's, and
every field in which the config departs from the recipes `paper` and `released`.

With `--all`, instead of these: every field with its value and where that was set: in a config file, a recipe, a sweep's
overrides or on the command line. "Why 0.01 here?" is answered by

    python -m alexnet_jax.describe --config=configs/cifar10.py --all | grep learning_rate

With `--target=h100:1x2` (kind of accelerator, devices along 'data' × devices along 'column') it compiles the config's
programs for such devices, which need not be present, and prints their communication and memory.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from absl import app, flags
from ml_collections import ConfigDict

from alexnet_jax import cli, commands, data, names, notes, paths, recipes, schema, text
from alexnet_jax import config as config_lib
from alexnet_jax.inspect import drawing, origins, targets
from alexnet_jax.models import geometry
from alexnet_jax.parallel import column_costs

# Fields about the images and their storage, not about the network and its training.
_NOT_THE_RECIPES = ("seed", "mesh.", "checkpoint.", *(
    f"data.{name}" for name in schema.SCHEMA["data"] if name not in ("crop", "resize", "fold_split", "fold_at")))


def classes_of(config: ConfigDict) -> int:
    """Output units: `model.classes`, or as many as the dataset is known to have; 0 where its images have to be read."""
    return config.model.classes or known_classes(config)[0]


def known_classes(config: ConfigDict) -> tuple[int, str]:
    """(the number of the dataset's classes, where it is known from); 0 where the images have to be read for it."""
    return data.classes_of(config.data) or (0, "")


def table(config: ConfigDict, classes: int = 0) -> list[dict[str, Any]]:
    """A dict for each layer: name, sees, filter, per column (shapes), parameters, multiply_adds, units, bytes, then.

    `multiply_adds`, `units` and `bytes` are of one image over all columns; `bytes` of what the backward pass needs
    again: the layer's outputs before and after its pooling, at the config's precision. `per column` gives
    height × width × channels after the convolution → after the pooling.

    Raises:
      ConfigError: impossible shapes.
    """
    rows = []
    for layer in geometry.layers(config, classes):
        shape = f"{layer.features}"
        if layer.is_conv:
            shape = f"{layer.size}×{layer.size}×{layer.features}"
            if layer.pool:
                shape += f" → {layer.out_size}×{layer.out_size}×{layer.features}"
        rows.append({
            "name": layer.name, "filter": _filter(layer),
            "sees": "layer below" if layer.columns == 1 and layer.sees != "image" else layer.sees,
            "in": f"{layer.in_features:,}",
            "per column": shape if not layer.is_output else f"{layer.features} in all",
            "parameters": layer.parameters, "multiply_adds": layer.multiply_adds, "units": layer.units,
            "bytes": column_costs.activation_values(layer) * column_costs.BYTES[config.train.precision],
            "then": _then(config, layer)})
    return rows


def _filter(layer: geometry.Layer) -> str:
    if not layer.is_conv:
        return "dense"
    near, far = layer.padding
    padding = f" pad {near}" if near == far else f" pad {near},{far}"
    return (f"{layer.kernel}×{layer.kernel}" + (f" stride {layer.stride}" if layer.stride > 1 else "")
            + (padding if near or far else "") + (" unshared" if layer.unshared else ""))


def _then(config: ConfigDict, layer: geometry.Layer) -> str:
    model = config.model
    words = {"relu": {"relu": "ReLU"}.get(model.activation, model.activation)}
    if layer.lrn:
        words["lrn"] = "LRN, same-map norm" if layer.same_map else "LRN"
    if layer.pool:
        words["pool"] = f"{layer.pool} pool {model.pool.window}/{model.pool.stride}"
    steps = [words[step] for step in layer.order if step in words]
    return ", ".join([*steps, f"dropout {model.dropout:g}"] if layer.dropout else steps)


def departures(config: ConfigDict, recipe: str) -> list[tuple[str, Any, Any]]:
    """(field, value here, value of the recipe's full network) wherever the two differ, in the schema's order."""
    reference = config_lib.default()
    recipes.apply(reference, recipe)
    own, theirs = config_lib.flatten(config), config_lib.flatten(reference)
    # Of a layer that is left out only that is worth a line.
    absent = tuple(f"model.{name}." for name in (*geometry.CONVS, *geometry.DENSE) if not own[f"model.{name}.features"])
    return [(name, own[name], theirs[name]) for name, field in config_lib.FIELDS.items()
            if field.identity and own[name] != theirs[name] and not name.startswith(_NOT_THE_RECIPES)
            and (name.endswith(".features") or not name.startswith(absent))]


def describe(config: ConfigDict, given: Mapping[str, Any] | None = None) -> str:
    """The whole text.

    Args:
      given: what was set beside the config file, for `notes.of`.

    Raises:
      ConfigError: impossible shapes.
    """
    known, where = known_classes(config)
    classes = config.model.classes or known
    rows = table(config, classes)
    head = ("layer", "sees", "filter", "in", "per column", "parameters", "multiply-adds", "units", "bytes", "then")
    cells = [head] + [(r["name"], r["sees"], r["filter"], r["in"], r["per column"], f"{r['parameters']:,}",
                       f"{r['multiply_adds']:,}", f"{r['units']:,}", f"{r['bytes']:,}", r["then"]) for r in rows]
    totals = {key: sum(r[key] for r in rows) for key in ("parameters", "multiply_adds", "units", "bytes")}
    cells.append(("total", "", "", "", "", *(f"{totals[key]:,}" for key in totals), ""))
    channels = 1 if config.augment.grey else 3
    side = config.data.crop
    columns = config.model.columns
    lines = [f"{text.count(columns, 'column')} on {side}×{side}×{channels} images; multiply-adds, units "
             f"and bytes ({config.train.precision}) are of one image, all columns", "",
             *text.table(cells, [False] * 3 + [True, False] + [True] * 4 + [False]), ""]
    lines += [f"{totals['parameters']:,} parameters (the paper's network: 60 million, to the digit 60,965,224)",
              f"{totals['units']:,} neurons (the paper's: 650,000; 659,272 with 55·55·96 in conv1)"]
    lines += _fine_tuned(config, rows)
    if not config.model.classes and known and where != config.data.name:
        lines.append(f"{known:,} outputs, as many as {names.plain(where)} have classes (config.model.classes)")
    if not classes:
        lines.append(f"the classes of {names.plain(config.data.name)} are known once its images are read; 10 are "
                     "assumed here (config.model.classes)")
    placed = column_costs.lines(config, classes)
    lines += ["", *placed] if placed else []
    found = notes.of(config, given or {}, known)
    lines += ["", *(f"note: {names.plain(line)}" for line in found)] if found else []
    for recipe in ("paper", "released"):
        changed = departures(config, recipe)
        if not changed:
            lines += ["", f"no departure from the recipe {recipe}"]
            continue
        lines += ["", f"departures from the recipe {recipe}, full network ({len(changed)} fields):",
                  *("  " + line for line in text.table(
                      [(f"config.{name}", _show(own), f"({recipe}: {_show(theirs)})") for name, own, theirs in changed],
                      [False] * 3))]
    return "\n".join(lines)


def _fine_tuned(config: ConfigDict, rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Where training begins and what of the network it leaves as it is, unless that is as usual."""
    init, frozen = config.init, config.optim.freeze
    found = []
    if init.weights:
        left = f"; {', '.join(init.skip)} as initialised" if init.skip else ""
        left += "" if "fc8" in init.skip else "; fc8 as initialised if the classes differ"
        found.append(f"training begins from the weights of {names.plain(init.weights)}{left}")
    if frozen:
        still = sum(row["parameters"] for row in rows if row["name"] in frozen)
        found.append(f"{still:,} parameters are not updated: {', '.join(frozen)} (config.optim.freeze)")
    return found


def fields(config: ConfigDict, places: Mapping[str, str]) -> str:
    """A line for each field: its value and where it was set (`origins.load`)."""
    values = config_lib.flatten(config)
    return "\n".join(text.table([(f"config.{name}", names.plain(repr(values[name])), names.plain(place))
                                for name, place in places.items()]))


def _show(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else repr(value)


def main(_argv: Sequence[str]) -> None:
    given = cli.given()
    places: dict[str, str] = {}
    if flags.FLAGS.all:
        config, places = origins.load(cli.config_file(), given)
    else:
        config, given = cli.parsed_config()
    picture = paths.output(flags.FLAGS.draw) if flags.FLAGS.draw is not None else None
    if flags.FLAGS.target is not None:
        target = targets.parse(flags.FLAGS.target)
        targets.prepare(target)
        from alexnet_jax.inspect.targets import report  # imports JAX

        print(report.report(config, classes_of(config), target, flags.FLAGS.largest_batch))
        return
    print(fields(config, places) if flags.FLAGS.all else describe(config, given))
    if picture is not None:
        drawing.draw(config, classes_of(config), picture)
        print(f"\ndrawn: {picture}")


if __name__ == "__main__":
    cli.define_config_flag()
    flags.DEFINE_bool("all", False, "print every field, its value and where that was set")
    flags.DEFINE_string("draw", None, "draw the network into this .svg, .png or .pdf")
    flags.DEFINE_string("target", None, "accelerators to compile for, e.g. h100:1x2 or v5e:128x2")
    flags.DEFINE_bool("largest_batch", True, "with --target: look for the largest batch that fits")
    commands.run_main(lambda: app.run(main, flags_parser=cli.parse_flags))
