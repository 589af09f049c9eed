"""The catalogue of ablations: what is changed from the base config, as named arms of dotted overrides.

An ablation is a generator that is given the resolved base config and yields its arms; its docstring's first
line is what `python -m experiments.run --list` shows. One of your own needs no change here: write it in a
file,

    from experiments.ablations import Arm

    def width(config):
        "Half and twice the units of fc6."
        for factor in (0.5, 2):
            yield Arm(f"fc6_x{factor:g}", {"model.fc6.features": int(config.model.fc6.features * factor)})

and name it on the command line: `--ablations=lrn,my_ablations.py:width`.
"""

from __future__ import annotations

import dataclasses
import difflib
import inspect
import pathlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from ml_collections import ConfigDict

from alexnet_jax import cli
from alexnet_jax import config as config_lib
from alexnet_jax.errors import ConfigError
from alexnet_jax.models import geometry

BASELINE = "baseline"


@dataclasses.dataclass(frozen=True)
class Arm:
    """One arm of a sweep: the base config with `overrides`, e.g. `{"model.lrn.layers": ()}`."""

    name: str
    overrides: Mapping[str, Any]
    ablation: str = ""  # filled in by `arms_of`; '' for the baseline and for arms written out in a sweep file


Generator = Callable[[ConfigDict], Iterator[Arm]]
CATALOGUE: dict[str, Generator] = {}


def ablation(generator: Generator) -> Generator:
    """Registers a generator under its name."""
    CATALOGUE[generator.__name__] = generator
    return generator


@ablation
def lrn(config: ConfigDict) -> Iterator[Arm]:
    """Without response normalisation (and without the same-map norm that follows it, as runs 148 and 167)."""
    yield Arm("no_lrn", {"model.lrn.layers": ()})


@ablation
def pooling(config: ConfigDict) -> Iterator[Arm]:
    """Non-overlapping 2/2 pooling in place of 3/2, map sizes kept equal from pool2 on, as in run 147."""
    yield Arm("nonoverlapping", same_sizes(config, {"model.pool.window": 2, "model.pool.stride": 2}))


@ablation
def activation(config: ConfigDict) -> Iterator[Arm]:
    """Tanh in place of ReLU with biases of 0, at the same learning rate."""
    # Biases of 1 are there "to provide the ReLUs with positive inputs" (paper, section 5); they push tanh units
    # towards saturation.
    biased = [layer for layer in (*geometry.CONVS, *geometry.DENSE) if config.model[layer].bias]
    yield Arm("tanh", {"model.activation": "tanh", **{f"model.{layer}.bias": 0.0 for layer in biased}})


@ablation
def columns(config: ConfigDict) -> Iterator[Arm]:
    """Columns, by the author's runs: half a network (145-half), no exchange (150), none at conv3 (132, 127)."""
    # Features relative to run 145's, from layers/layers-{145-half,150,132,127}.cfg of the released source. 132 and 127
    # were variants of run 120, which had a third, blurred path; here they are variants of the base config.
    def times(name: str, factor: float) -> dict[str, int]:
        each = max(1, round(config.model[name].features * factor / config.model.columns))
        return {f"model.{name}.features": each * config.model.columns}

    # "One column": half the kernels, but conv5 and the dense layers as wide as two columns' (paper, section 3.2).
    half = {f"model.{name}.features": max(1, config.model[name].features // 2)
            for name in ("conv1", "conv2", "conv3", "conv4") if config.model[name].features}
    yield Arm("one_column", {"model.columns": 1, **half})
    yield Arm("no_exchange", {"model.exchange": (), **times("conv2", 160 / 128), **times("fc6", 2)})
    yield Arm("exchange_conv4", {"model.exchange": ("conv4", "fc6", "fc7")})
    yield Arm("no_exchange_conv3", {"model.exchange": ("fc6", "fc7"), **times("conv3", 256 / 192)})


def same_sizes(config: ConfigDict, overrides: Mapping[str, Any]) -> dict[str, Any]:
    """`overrides`, with conv2's and conv5's padding less by one where that keeps the map sizes of `config`.

    Sizes are compared after every convolutional block but the first, whose pooling is what is being changed.
    With the ceil rule of `geometry` and 2/2 pooling this gives run 147's conv2 pad 1 and conv5 pad 0 for the
    full network, conv2 pad 1 for alexnet64 and nothing for alexnet32.

    Raises:
      ConfigError: no combination of the two does it.
    """

    def sizes(candidate: ConfigDict) -> list[int]:
        return [x.out_size for x in geometry.layers(candidate) if x.is_conv and x.name != "conv1"]

    wanted = sizes(config)
    for less2, less5 in ((0, 0), (1, 0), (0, 1), (1, 1)):
        padding = {f"model.{name}.padding": config.model[name].padding - less
                   for name, less in (("conv2", less2), ("conv5", less5)) if less}
        if min(padding.values(), default=0) < 0:
            continue
        candidate = {**overrides, **padding}
        try:
            if sizes(config_lib.override(config, candidate)) == wanted:
                return candidate
        except ConfigError:
            continue  # a pooling that leaves nothing: not this one
    changes = ", ".join(f"config.{name} = {value!r}" for name, value in overrides.items())
    raise ConfigError(f"{changes}: the baseline's map sizes from conv2 on ({', '.join(map(str, wanted))}) "
                      "cannot be kept by taking one from the padding of conv2 or conv5; write the arm out in "
                      "a sweep file, with paddings of your choice")


def describe() -> str:
    """The catalogue, a line each."""
    width = max(map(len, CATALOGUE))
    return "\n".join(f"{name:<{width}}  {(inspect.getdoc(generator) or '').splitlines()[0]}"
                     for name, generator in CATALOGUE.items())


def arms_of(specs: Sequence[str], config: ConfigDict, field: str = "--ablations") -> list[Arm]:
    """The arms of ablations by name or as 'FILE.py:generator'.

    Args:
      specs: e.g. `("lrn", "my_ablations.py:width")`.
      config: the resolved base config.
      field: what to call the argument in a message.

    Raises:
      ConfigError: an unknown name, a file that cannot be run, something that is not an arm.
    """
    arms = []
    for spec in specs:
        name, generator = _find(spec, field)
        try:
            found = list(generator(config))
        except ConfigError as error:
            raise ConfigError(f"{field}={spec}: {error}") from error
        except Exception as error:
            what = " ".join(str(error).split())
            raise ConfigError(f"{field}={spec}: {type(error).__name__}: {what}") from error
        if not found:
            raise ConfigError(f"{field}={spec}: yields no arm")
        for arm in found:
            if not isinstance(arm, Arm) or not isinstance(arm.overrides, Mapping):
                raise ConfigError(f"{field}={spec}: yields {arm!r}; each must be "
                                  "Arm('name', {'a.field': value})")
            arms.append(dataclasses.replace(arm, ablation=name))
    return arms


def _find(spec: str, field: str) -> tuple[str, Generator]:
    """(the ablation's name in plan and report, its generator)."""
    path, colon, function = spec.rpartition(":")
    if colon or spec.endswith(".py"):
        module = cli.load_module(path or spec, field)
        generators = [n for n, f in vars(module).items() if inspect.isgeneratorfunction(f)]
        if not colon or not callable(getattr(module, function, None)):
            here = f"it has {', '.join(generators)}" if generators else "it has none"
            raise ConfigError(f"{field}={spec}: name a generator of the file, as in {path or spec}:width; "
                              f"{here}")
        return f"{pathlib.Path(path).stem}:{function}", getattr(module, function)
    if spec not in CATALOGUE:
        near = difflib.get_close_matches(spec, CATALOGUE, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]}? " if near else ""
        raise ConfigError(f"{field}={spec}: no such ablation; {hint}There are {', '.join(CATALOGUE)}, and "
                          "your own as FILE.py:generator")
    return spec, CATALOGUE[spec]


def check_arms(arms: Sequence[Arm]) -> list[Arm]:
    """The arms, the baseline first, repeated ones dropped. Raises ConfigError for a bad or ambiguous name."""
    out = {BASELINE: Arm(BASELINE, {})}
    for arm in arms:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.+-]{0,63}", str(arm.name)):
            raise ConfigError(f"arm {arm.name!r}: a name is a folder's too: letters, digits, '_', '-', '+' "
                              "and '.', at most 64")
        other = out.setdefault(arm.name, arm)
        if dict(other.overrides) != dict(arm.overrides):
            hint = "the base config without overrides" if arm.name == BASELINE else "two different arms"
            raise ConfigError(f"arm {arm.name!r}: this name stands for {hint}; choose another name")
    return list(out.values())
