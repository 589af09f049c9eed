"""The protocol that accompanies every number: dataset, resolution, network, schedule, device, cost.

If a sweep's runs differ in an item (an arm with more epochs, say), every value is listed.
"""

from __future__ import annotations

import pathlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from alexnet_jax import cli, names, provenance, text
from alexnet_jax.training.views import NAMES
from experiments.analysis.workdirs import Run, Sweep, field


def protocol(sweep: Sweep, views: str) -> dict[str, Any]:
    """Each item's values over the sweep's runs, the baseline's first; JSON-ready, no machine paths."""
    baseline = sweep.arm(sweep.baseline)
    runs = list({**{r.id: r for r in baseline.runs.values()}, **sweep.runs}.values())

    stretches = [about for run in runs for about in provenance.stretches(run.about)]

    def over(get: Callable[[Any], Any], of: Iterable[Any] = runs) -> list[Any]:
        values: list[Any] = []
        for run in of:
            value = get(run)
            if value not in (None, "", [], {}) and value not in values:
                values.append(value)
        return values

    def data(key: str, config_name: str) -> list[Any]:
        # The data that was read, else (without a result) the data that was requested.
        return over(lambda r: _data(r).get(key)) or over(
            lambda r: field(r.config, config_name))

    return {
        "dataset": [_dataset(name) for name in data("name", "data.name")],
        "version": over(lambda r: _data(r).get("version")),
        "train_split": data("train_split", "data.train_split"),
        "train_images": over(lambda r: _data(r).get("train_images")),
        "folded": over(lambda r: _folded(r.config)),
        "eval_split": data("eval_split", "data.eval_split"),
        "eval_images": over(lambda r: _data(r).get("eval_images")),
        "size": data("size", "data.size"),
        "crop": data("crop", "data.crop"),
        "network": over(lambda r: _network(r.config)),
        "views": NAMES[views],
        "epochs": over(lambda r: _epochs(r.config)),
        "batch_size": over(lambda r: field(r.config, "train.batch_size")),
        "seeds": sorted({seed for arm in sweep.arms for seed in arm.runs}),
        "config": _file(sweep.config),
        "device": devices(runs),
        "jax": over(lambda about: (about.get("versions") or {}).get("jax"), stretches),
        "revision": over(revision, stretches),
        "run_seconds": round(sum(r.seconds for r in runs), 1),
        "unit": "core" if all(p == "cpu" for p in over(lambda r: platform(r.about))) else "device",
        "unit_seconds": round(sum(r.seconds * units(r.about) for r in runs), 1),
        "timed_runs": sum(r.seconds > 0 for r in runs),
        "ten_views_timed": all(r.timed_to_end for r in runs if r.seconds > 0 and r.state == "finished"),
    }


def sentence(p: Mapping[str, Any]) -> str:
    """The protocol in one paragraph."""
    def listed(key: str) -> str:
        return names.markdown(" or ".join(str(v) for v in p[key]) or "unknown")

    def code(key: str) -> str:
        return names.code(" or ".join(p[key]) or "unknown")

    def images(key: str) -> str:
        return " or ".join(f"{v:,}" for v in p[key]) or "an unknown number of"

    size = f"stored at {listed('size')}×{listed('size')} pixels, crops of {listed('crop')}×{listed('crop')}"
    cost = ""
    if p["timed_runs"]:
        cost = f" {text.cost(p['run_seconds'])} of run time over {p['timed_runs']} runs"
        cost += f" ({text.cost(p['unit_seconds'], p['unit'] + '-')})"
        cost += "." if p["ten_views_timed"] else ", the ten-view evaluations not counted."
    version = f" {listed('version')}" if p["version"] else ""
    return (f"{listed('dataset')}{version}: trained on {code('train_split')} ({images('train_images')} "
            f"images){''.join(p['folded'])}, errors on {code('eval_split')} ({images('eval_images')} images), "
            f"{p['views']}; {size}. Network: {listed('network')}. {many_epochs(p)}, batches of "
            f"{listed('batch_size')}, seeds {seeds_in_short(p['seeds'])}; base config {names.code(p['config'])}. "
            f"Device: {listed('device')}; jax {listed('jax')}; git {listed('revision')}.{cost}")


def caption(p: Mapping[str, Any]) -> str:
    """The protocol, shortened for a figure's caption."""
    dataset = names.short(" or ".join(p["dataset"]) or "unknown data", 100, 30)
    images = f", {p['train_images'][0]:,} training images" if p["train_images"] else ""
    crop = f", {p['crop'][0]}-pixel crops" if p["crop"] else ""
    return f"{dataset}{images}{crop}, {many_epochs(p)}"


def many_epochs(p: Mapping[str, Any]) -> str:
    """'1 epoch', '5 or up to 90 epochs'."""
    return f"{' or '.join(map(str, p['epochs'])) or '?'} epoch{'' if p['epochs'] == [1] else 's'}"


def is_imagenet(p: Mapping[str, Any]) -> bool:
    """Is it ILSVRC itself, not a subset? By name and number of training images (1.2 million)."""
    names = " ".join(p["dataset"]).lower()
    return ("imagenet" in names or "ilsvrc" in names) and min(p["train_images"], default=0) > 1_000_000


def seeds_in_short(seeds: Sequence[int]) -> str:
    """'0 to 4', or each one if they aren't consecutive."""
    row = len(seeds) > 2 and list(seeds) == list(range(seeds[0], seeds[-1] + 1))
    return f"{seeds[0]} to {seeds[-1]}" if row else ", ".join(map(str, seeds))


def _file(config: str) -> str:
    """A config file's name (and recipe); of an absolute path only the last part, to omit the machine's folders."""
    path, recipe = cli.file_and_recipe(config)
    named = pathlib.PurePath(path)
    return (named.name if named.is_absolute() or path.startswith("~") else path) + (recipe and f":{recipe}")


def _data(run: Run) -> Mapping[str, Any]:
    return (run.result or {}).get("data") or {}


def _dataset(name: str) -> str:
    """`image_folder:/somewhere/cats` → `image_folder:cats`: reports omit the machine's folders."""
    kind, colon, rest = str(name).partition(":")
    return kind + colon + (pathlib.PurePath(rest).name if kind == "image_folder" else rest)


def _network(config: Mapping[str, Any]) -> str | None:
    model = config.get("model")
    if not isinstance(model, Mapping):
        return None

    def features(layers: Iterable[str]) -> str:
        """'32-48-64', without omitted layers, unshared ones marked; 'none' if all are omitted."""
        present = [model.get(layer, {}) for layer in layers]
        return "-".join(f"{x.get('features', '?')}{' unshared' if x.get('unshared') else ''}"
                        for x in present if x.get("features") != 0) or "none"

    columns = model.get("columns", 1)
    meet = ", ".join(model.get("exchange") or ()) or "the output layer alone"
    exchange = f"{columns} columns that meet before {meet}" if columns != 1 else "one column"
    return (f"conv {features(f'conv{i}' for i in range(1, 6))}, fc {features(('fc6', 'fc7'))}, {exchange}")


def _epochs(config: Mapping[str, Any]) -> int | str | None:
    """The epochs of a run; 'up to N' if it can stop early."""
    most = field(config, "train.epochs")
    return f"up to {most}" if field(config, "optim.plateau.stop") else most


def _folded(config: Mapping[str, Any]) -> str | None:
    """The training data once validation images are folded in; None if they aren't."""
    split, at = field(config, "data.fold_split"), field(config, "data.fold_at")
    if not split:
        return None
    epochs = field(config, "train.epochs")
    first = round(at * (epochs if field(config, "train.schedule_unit") == "run" else 1))
    return f", from epoch {first + 1} on on {names.code(split)}"


def devices(runs: Iterable[Run]) -> list[str]:
    """What the runs were made on, each once, e.g. 'AMD EPYC, 1 core a run'."""
    found = (_device(about) for run in runs for about in provenance.stretches(run.about))
    return list(dict.fromkeys(device for device in found if device))


def _device(about: Mapping[str, Any]) -> str | None:
    device = about.get("device") or {}
    if not device.get("platform"):
        return None
    text = str(device.get("kind") or device["platform"])
    if device["platform"] == "cpu" and device.get("cores"):
        text += f", {device['cores']} core{'s' if device['cores'] != 1 else ''} a run"
    if (device.get("count") or 1) > 1:
        mesh = " × ".join(f"{axis} {size}" for axis, size in (device.get("mesh") or {}).items())
        text += f", {device['count']} devices ({mesh})"
    settings = environment(about)
    return f"{text}, with {settings}" if settings else text


def environment(about: Mapping[str, Any]) -> str:
    """The non-default settings of JAX and XLA in a run.json's environment; usually ''."""
    recorded = about.get("environment")
    settings = recorded if isinstance(recorded, Mapping) else {}
    return ", ".join(f"{name}={_file(str(text))}" for name, text in settings.items())


def platform(about: Mapping[str, Any]) -> str:
    return (about.get("device") or {}).get("platform", "")


def units(about: Mapping[str, Any]) -> float:
    """The units that a run occupies: cores on a CPU, else devices."""
    device = about.get("device") or {}
    return float(device.get("cores" if device.get("platform") == "cpu" else "count") or 1)


def revisions(about: Mapping[str, Any]) -> list[str]:
    """The `revision`s in a run.json, in the order of the run's stretches."""
    return list(dict.fromkeys(filter(None, map(revision, provenance.stretches(about)))))


def revision(about: Mapping[str, Any]) -> str | None:
    """The revision in a run.json, and whether there were uncommitted changes, or why it is unknown."""
    git = about.get("git") or {}
    if not git.get("revision"):
        return f"unknown ({git['unknown']})" if git.get("unknown") else None
    return git["revision"][:10] + (" with uncommitted changes" if git.get("dirty") else "")
