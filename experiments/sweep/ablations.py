"""The catalogue of ablations: what is changed from the base config, as named arms of dotted overrides.

An ablation is a generator that is given the resolved base config and yields its arms; its docstring's first
line is what `python -m experiments.run --list` shows. One of your own needs no change here: write it in a
file,

    from experiments.ablations import Arm

    def width(config):
        "Half and twice the units of fc6."
        for factor in (0.5, 2):
            yield Arm(f"fc6_x{factor:g}", {"model.fc6.features": int(config.model.fc6.features * factor)})

and name it on the command line: `--ablations=lrn,my_ablations.py:width`. `lrn.no_lrn` stands for one arm.
"""

from __future__ import annotations

import dataclasses
import inspect
import pathlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from types import ModuleType
from typing import Any

from ml_collections import ConfigDict

from alexnet_jax import cli, recipes
from alexnet_jax import config as config_lib
from alexnet_jax.data import splits
from alexnet_jax.errors import ConfigError
from alexnet_jax.models import geometry
from alexnet_jax.text import did_you_mean
from experiments.sweep.arms import BASELINE, Arm, Search, check_arms

__all__ = ["BASELINE", "CATALOGUE", "Arm", "Search", "arms_of", "check_arms", "describe", "same_sizes"]

Generator = Callable[[ConfigDict], Iterator[Arm]]
CATALOGUE: dict[str, Generator] = {}


def ablation(generator: Generator) -> Generator:
    """Registers a generator under its name."""
    CATALOGUE[generator.__name__] = generator
    return generator


@ablation
def lrn(config: ConfigDict) -> Iterator[Arm]:
    """Response normalisation: none (148), in conv1 or conv2 alone (167), before and after ReLU (166, paper)."""
    # The same-map norm of the released recipe goes with the response norm that it follows, as in runs 148 and 167.
    present = config.model.lrn.layers
    yield Arm("no_lrn", {"model.lrn.layers": ()})
    if set(present) == {1, 2}:
        yield Arm("lrn_first", {"model.lrn.layers": (1,)})
        yield Arm("lrn_second", {"model.lrn.layers": (2,)})
    if present:
        # Where max pooling stands makes no difference to ReLU, so these are the two orders of each layer.
        yield from _unlike(config, (
            Arm("lrn_before_relu", {"model.lrn.order": ("lrn-pool-relu", "lrn-relu-pool")}),
            Arm("lrn_after_relu", {"model.lrn.order": ("relu-lrn-pool", "relu-lrn-pool")})))


@ablation
def pooling(config: ConfigDict) -> Iterator[Arm]:
    """Non-overlapping 2/2 pooling in place of 3/2, map sizes kept equal from pool2 on (147); average pooling."""
    yield Arm("nonoverlapping", same_sizes(config, {"model.pool.window": 2, "model.pool.stride": 2}))
    kinds = {"model.pool.kinds": ("avg",) * len(config.model.pool.kinds)} if config.model.pool.kinds else {}
    yield from _unlike(config, [Arm("average_pooling", {"model.pool.kind": "avg", **kinds})])


@ablation
def activation(config: ConfigDict) -> Iterator[Arm]:
    """Tanh in place of ReLU, each at a learning rate of its own (searched); tanh with biases of 0."""
    # Biases of 1 are there "to provide the ReLUs with positive inputs" (paper, section 5); they push tanh units
    # towards saturation.
    yield Arm("relu", {"model.activation": "relu"}, search=Search())
    yield Arm("tanh", {"model.activation": "tanh", **_biases(config, 0.0)}, search=Search(), against="relu")


def _biases(config: ConfigDict, value: float) -> dict[str, float]:
    """`value` for every initial bias of `config` that is not 0; for those of the paper where all are."""
    layers = [layer for layer in (*geometry.CONVS, *geometry.DENSE) if config.model[layer].bias]
    return {f"model.{layer}.bias": value for layer in layers or recipes.BIASED}


@ablation
def columns(config: ConfigDict) -> Iterator[Arm]:
    """Columns, by the author's runs: half (145-half), no exchange (150), not at conv3 (132, 127); everywhere."""
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
    # No run of the paper's: there a column of conv1 means nothing, so that what experiments.kernels finds in it is
    # what it finds where there are no columns.
    after = [name for name in (*geometry.CONVS, *geometry.DENSE) if config.model[name].features][1:]
    yield Arm("exchange_everywhere", {"model.exchange": tuple(after)})


@ablation
def dropout(config: ConfigDict) -> Iterator[Arm]:
    """Without dropout in the dense layers."""
    yield from _unlike(config, [Arm("no_dropout", {"model.dropout": 0.0})])


@ablation
def dropout_by_images(config: ConfigDict) -> Iterator[Arm]:
    """With and without dropout on 3,000 to 40,000 training images, each against its own; for bases on train[:12000]."""
    # Up to 10,000 of the images learnt from say what overfitting is, as in the base.
    split = splits.parse(config.data.train_split)
    if split.start is not None or split.stop != "12000":
        return
    for count in (3_000, 6_000, 24_000, 40_000):
        images = {"data.train_split": f"{split.name}[:{count}]"}
        if config.data.fit_split:
            images["data.fit_split"] = f"{split.name}[:{min(count, 10_000)}]"
        yield Arm(f"images_{count}", images)
        yield Arm(f"images_{count}_no_dropout", {**images, "model.dropout": 0.0}, against=f"images_{count}")


@ablation
def pca(config: ConfigDict) -> Iterator[Arm]:
    """Without colour noise along the principal components."""
    yield from _unlike(config, [Arm("no_pca", {"augment.pca.amount": 0.0})])


@ablation
def augmentation(config: ConfigDict) -> Iterator[Arm]:
    """Training images without crops and mirrors, without crops, without mirrors."""
    crops, mirrors = {"augment.crop_offsets": 1}, {"augment.mirror": False}
    yield from _unlike(config, (Arm("no_augmentation", {**crops, **mirrors}), Arm("no_crops", crops),
                                Arm("no_mirrors", mirrors)))


@ablation
def depth(config: ConfigDict) -> Iterator[Arm]:
    """Without conv3, conv4, conv5, each; pooling and exchange move to the layer that takes its place."""
    # Without pool5, fc6 would see 13×13 positions of the full network and have six times the weights: no question of
    # depth any more. geometry.layers moves the exchange.
    present = [i for i in range(1, 6) if config.model[f"conv{i}"].features]
    for number in (3, 4, 5):
        if number not in present or len(present) < 2:
            continue
        overrides: dict[str, Any] = {f"model.conv{number}.features": 0}
        below = max(i for i in present if i < number)
        pools = config.model.pool.layers
        if number in pools and below not in pools:
            overrides["model.pool.layers"] = tuple(below if i == number else i for i in pools)
        yield Arm(f"no_conv{number}", overrides)


@ablation
def init(config: ConfigDict) -> Iterator[Arm]:
    """Initial deviations of conv3, conv4 and conv5: 0.01 as everywhere (paper), 0.03 (released)."""
    middle = ("conv3", "conv4", "conv5")
    yield from _unlike(config, (Arm(f"init_{std:g}", {f"model.{layer}.init_std": std for layer in middle})
                                for std in (0.01, 0.03)))


@ablation
def init_from(config: ConfigDict) -> Iterator[Arm]:
    """For bases with init.weights: from scratch in place of fine-tuned, and only the output layer trained."""
    if not config.init.weights:
        return
    yield Arm("from_scratch", {"init.weights": "", "init.sha256": "", "init.skip": (), "optim.freeze": ()})
    below = tuple(layer for layer in (*geometry.CONVS, *geometry.DENSE) if config.model[layer].features)
    yield from _unlike(config, [Arm("only_fc8", {"optim.freeze": below})])


@ablation
def bias_init(config: ConfigDict) -> Iterator[Arm]:
    """Initial biases of 0 in place of 1, or of 1 where they are not."""
    yield from _unlike(config, (Arm("zero_bias", _biases(config, 0.0)), Arm("one_bias", _biases(config, 1.0))))


@ablation
def decay(config: ConfigDict) -> Iterator[Arm]:
    """Without weight decay, or with the paper's 5e-4 where there is none."""
    layers = {f"optim.layer_decay.{name}": 0.0 for name, own in config.optim.layer_decay.items() if own > 0}
    has_decay = config.optim.weight_decay or layers
    yield Arm("no_decay", {"optim.weight_decay": 0.0, **layers}) if has_decay else Arm(
        "decay_5e-4", {"optim.weight_decay": 5e-4})


# Training length and what depends on it: the base's, for every recipe.
_LENGTH = ("optim.schedule", "optim.plateau.", "optim.table.", "optim.conv1.", "augment.pca.off_at", "train.")


@ablation
def recipe(config: ConfigDict) -> Iterator[Arm]:
    """The other recipes (paper, released, caffe: recipes.py), with the base's batches, epochs and schedule."""
    base = config_lib.flatten(config)
    for name in recipes.RECIPES:
        other = config_lib.copy(config)
        recipes.apply(other, name)
        changes = {key: value for key, value in config_lib.flatten(config_lib.override(config, {
            key: value for key, value in config_lib.flatten(other).items() if not key.startswith(_LENGTH)})).items()
            if value != base[key]}
        yield from _unlike(config, [Arm(name, changes)])


@ablation
def views(config: ConfigDict) -> Iterator[Arm]:
    """The same runs by their centre crops in place of ten views (five without mirrors): an evaluation, no run more."""
    yield Arm("centre", {}, views="centre")


def _unlike(config: ConfigDict, arms: Iterable[Arm]) -> Iterator[Arm]:
    """The arms that differ from `config`."""
    base = config_lib.flatten(config)
    for arm in arms:
        if config_lib.flatten(config_lib.override(config, arm.overrides)) != base:
            yield arm


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


def describe(specs: Sequence[str] = (), field: str = "--ablations", beside: pathlib.Path | None = None) -> str:
    """The catalogue, a line each, and below it what the files named in `specs` have (FILE.py or FILE.py:generator).

    Raises:
      ConfigError: a file that cannot be run.
    """
    lines: dict[str, Callable[..., Any]] = dict(CATALOGUE)
    for file in dict.fromkeys(spec.rpartition(":")[0] or spec for spec in specs if ":" in spec or spec.endswith(".py")):
        lines |= {f"{file}:{name}": function
                  for name, function in functions_of(cli.load_module(file, field, beside)).items()}
    width = max(map(len, lines))
    return "\n".join(f"{name:<{width}}  {next(iter((inspect.getdoc(function) or '').splitlines()), '')}".rstrip()
                     for name, function in lines.items())


def arms_of(specs: Sequence[str], config: ConfigDict, field: str = "--ablations",
            beside: pathlib.Path | None = None) -> list[Arm]:
    """The arms of ablations by name or as 'FILE.py:generator'.

    Args:
      specs: e.g. `("lrn", "pooling.nonoverlapping", "my_ablations.py:width")`.
      config: the resolved base config.
      field: what to call the argument in a message. beside: the folder where a FILE.py is looked for first.

    Raises:
      ConfigError: an unknown name, a file that cannot be run, something that is not an arm.
    """
    arms = []
    for spec in specs:
        name, generator = _find(spec, field, beside)
        wanted = spec.partition(".")[2] if spec not in CATALOGUE and name in CATALOGUE else ""
        try:
            found = list(_made(generator, config, f"{field}={spec}"))
        except ConfigError as error:
            if str(error).startswith(f"{field}={spec}: "):
                raise
            raise ConfigError(f"{field}={spec}: {error}") from error
        except Exception as error:
            what = " ".join(str(error).split())
            raise ConfigError(f"{field}={spec}: {type(error).__name__}: {what}") from error
        if not found:
            does = (inspect.getdoc(generator) or "").partition("\n")[0].rstrip(".")
            raise ConfigError(f"{field}={spec}: yields no arm for this config"
                              + (f"; what it does: {does}" if does else ""))
        if wanted:
            found = _only(wanted, found, f"{field}={spec}")
        for arm in found:
            if not isinstance(arm, Arm) or not isinstance(arm.overrides, Mapping):
                raise ConfigError(f"{field}={spec}: yields {arm!r}; each must be "
                                  "Arm('name', {'a.field': value})")
            values = {key: config_lib.plain(value) for key, value in arm.overrides.items()}
            arms.append(dataclasses.replace(arm, ablation=name, overrides=values))
    return arms


def _only(wanted: str, arms: Sequence[Arm], where: str) -> list[Arm]:
    """That arm, with the arm that it is compared with."""
    chosen = next((arm for arm in arms if arm.name == wanted), None)
    if chosen is None:
        raise ConfigError(f"{where}: no such arm for this config; there are {', '.join(arm.name for arm in arms)}")
    return [arm for arm in arms if arm.name in (wanted, chosen.against)]


def _made(generator: Callable[..., Any], config: ConfigDict, where: str) -> Iterable[Any]:
    """What a generator yields or a function returns. Raises ConfigError where it can't be called with a config."""
    try:
        inspect.signature(generator).bind(config)
    except TypeError as error:
        raise ConfigError(f"{where}: is called with the base config and nothing else: {error}") from None
    except ValueError:  # a built-in's, which can't be looked at
        pass
    found = generator(config)
    if isinstance(found, Arm):
        raise ConfigError(f"{where}: returns one arm; yield it, or return [it]")
    if not isinstance(found, Iterable) or isinstance(found, str | Mapping):
        raise ConfigError(f"{where}: returns {type(found).__name__}; it should yield arms or return a list of them")
    return found


def functions_of(module: ModuleType) -> dict[str, Callable[..., Any]]:
    """The public functions that a file defines and that can be called with a config: its ablations."""
    return {name: function for name, function in vars(module).items() if inspect.isfunction(function)
            and function.__module__ == module.__name__ and not name.startswith("_")
            and sum(p.default is p.empty for p in inspect.signature(function).parameters.values()) == 1}


def _find(spec: str, field: str, beside: pathlib.Path | None) -> tuple[str, Callable[..., Any]]:
    """(the ablation's name in plan and report, its generator)."""
    path, colon, function = spec.rpartition(":")
    if colon or spec.endswith(".py"):
        module = cli.load_module(path or spec, field, beside)
        if not colon or not callable(getattr(module, function, None)):
            own = functions_of(module)
            here = f"it has {', '.join(own)}" if own else "it has none"
            raise ConfigError(f"{field}={spec}: name a generator of the file, as in "
                              f"{path or spec}:{next(iter(own), 'width')}; {here}")
        return f"{pathlib.Path(path).stem}:{function}", getattr(module, function)
    if spec.partition(".")[0] in CATALOGUE:
        spec = spec.partition(".")[0]
    if spec not in CATALOGUE:
        raise ConfigError(f"{field}={spec}: no such ablation{did_you_mean(spec, CATALOGUE, 0.5)}; there are "
                          f"{', '.join(CATALOGUE)}, and your own as FILE.py:generator")
    return spec, CATALOGUE[spec]
