"""The images of one run: its splits, opened and compared with those that the run started with."""

from __future__ import annotations

import pathlib
from collections.abc import Callable

from ml_collections import ConfigDict

from alexnet_jax import config_rules, data
from alexnet_jax.data import loader
from alexnet_jax.data.classes import check_outputs
from alexnet_jax.data.comparing import about_data, about_data_words
from alexnet_jax.parallel import distributed
from alexnet_jax.training import checks
from alexnet_jax.training import workdir as workdir_lib


class RunImages:
    """The splits of a run by purpose: `train`, `eval`, and where the config has them `tune`, `fold` and `fit`.

    Args:
      workdir: the run's. say: called with notes.

    Attributes:
      recorded: for run.json. about: how training and reported images relate (`data.comparing`).

    Raises:
      DataError, ConfigError, WorkdirError: they are missing, don't fit the config, or differ from the run's start.
    """

    def __init__(self, config: ConfigDict, workdir: pathlib.Path, say: Callable[[str], None]):
        splits = data.open_splits(config.data, report=say, dataset=checks.images(config))
        self.train, self.eval = splits["train_split"], splits["eval_split"]
        self.tune, self.fold, self.fit = map(splits.get, ("tune_split", "fold_split", "fit_split"))
        if distributed.several():
            distributed.meet_over("images", workdir_lib.fingerprints(splits))
        self.recorded = workdir_lib.images_of(splits)
        for note in workdir_lib.check_images(workdir, self.recorded, self.train.known):
            say(note)
        self.about = about_data([s for s in (self.train, self.fold) if s], self.eval)
        for line in about_data_words(self.about):
            say(f"note: {line}")
        self.classes = len(self.train.classes)
        check_outputs(config.model.classes, self.classes, config.data.name)

    def course(self, config: ConfigDict) -> loader.Course:
        """What each step trains on. Raises ConfigError: a split is smaller than a batch."""
        return loader.Course(self.train, config.train.batch_size, config.train.epochs, self.fold,
                             config_rules.fold_epoch(config))
