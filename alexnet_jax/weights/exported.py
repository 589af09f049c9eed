"""What an export in any format writes of a run's network: parameters, config, classes, mean."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from alexnet_jax import config as config_lib
from alexnet_jax.models import geometry
from alexnet_jax.weight_files import fitting
from alexnet_jax.weight_files.state_dict import FORMAT


@dataclasses.dataclass(frozen=True)
class Exported:
    """What is exported of a network.

    Attributes:
      config: resolved. params: nested dict of arrays. mean, colour: `augment.Constants`.
      classes: {'keys', 'names'}. about: 'revision', 'run' and 'step', as texts.
    """

    config: ConfigDict
    params: Mapping[str, Any]
    mean: np.ndarray
    colour: np.ndarray
    classes: Mapping[str, Sequence[str]]
    about: Mapping[str, str]

    @property
    def layers(self) -> list[geometry.Layer]:
        return geometry.layers(self.config, len(np.asarray(self.params["fc8"]["bias"])))

    @property
    def metadata(self) -> dict[str, str]:
        """What the network is, as texts, for formats with metadata."""
        c = self.config
        return {"format": FORMAT, "config": json.dumps(config_lib.to_json(_without_places(c))),
                "classes": json.dumps({key: list(self.classes[key]) for key in ("keys", "names")}, ensure_ascii=False),
                "normalisation": json.dumps({
                    "size": c.data.size, "crop": c.data.crop, "mean": c.augment.mean, "grey": c.augment.grey,
                    "divide": list(c.augment.divide), "colours": "red, green, blue, 0 to 255"}), **self.about}

    def crop_mean(self) -> np.ndarray:
        """What is subtracted from a centre crop: [crop or 1, same, channels]."""
        first = (self.mean.shape[0] - self.config.data.crop) // 2
        return self.mean if first <= 0 else self.mean[first:first + self.config.data.crop,
                                                      first:first + self.config.data.crop]

    def channels_first(self) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """{layer: (kernel, bias)} in PyTorch's layout. Raises ConfigError for unshared weights."""
        orders = fitting.orders(self.layers, self.config.data.crop)
        return {name: (order.to_theirs(np.asarray(self.params[name]["kernel"])),
                       np.asarray(self.params[name]["bias"]).reshape(-1)) for name, order in orders.items()}


def _without_places(config: ConfigDict) -> ConfigDict:
    """The config without paths of this machine."""
    return config_lib.override(config, {"data.dir": "", "data.store": "", "data.names": "", "init.weights": ""})
