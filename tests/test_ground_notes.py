"""Notes about config values that may be unintended, none of which applies to the project's own configs."""

import numpy as np
import pytest
from data_files import encoded, write_tree
from test_ground_config import CONFIGS, VARIANTS

from alexnet_jax import cli, config, data, describe, notes
from alexnet_jax.errors import ConfigError, DataError
from configs import recipes


def _notes(path, given=None, classes=0):
    given = given or {}
    return notes.of(config.resolve(config.override(cli.load_config(f"configs/{path}"), given)), given, classes)


@pytest.mark.parametrize(("path", "given", "words"), [
    ("tiny_imagenet.py", {"data.size": 128}, "config.data.crop: 56 of config.data.size = 128, so that the network "
     "sees 19% of an image's area at a time; where the size was changed, change the crop with it, "
     "e.g. to 112 (224 of 256)"),
    ("imagenet_released.py", {"train.epochs": 60}, "config.optim.table.at: 79 is never reached, as "
     "config.train.epochs is 60"),
    ("imagenet_released.py", {"train.epochs": 60}, "config.augment.pca.off_at: 67 is never reached, as "
     "config.train.epochs is 60"),
    ("imagenet_released.py", {"optim.learning_rate": 0.02}, "config.optim.learning_rate: of the weights alone; the "
     "biases keep config.optim.bias_learning_rate = 0.02 (0: the weights' own)"),
    ("conv_local.py:11", {"optim.weight_decay": 0.002}, "a decay of their own (config.optim.layer_decay; -1: the one "
     "for all)"),
    ("cifar10.py", {"optim.plateau.patience": 2}, "config.optim.plateau.patience: has no effect, as "
     "config.optim.schedule isn't plateau"),
    ("cifar10.py", {"augment.pca.amount": 0.0, "augment.pca.by": "eigenvalue", "augment.pca.off_at": 0.5},
     "config.augment.pca.off_at: has no effect, as config.augment.pca.amount is 0"),
    ("four_layer.py", {"model.lrn.alpha": 1e-3}, "config.model.lrn.alpha: has no effect, as config.model.lrn.layers is "
     "empty"),
    ("four_layer.py", {"model.fc7.bias": 0.5}, "config.model.fc7.bias: has no effect, as config.model.fc7.features is "
     "0, which leaves the layer out"),
    ("cifar10.py", {"model.columns": 1, "model.exchange": ("conv2",)}, "config.model.exchange: has no effect, as "
     "there is one column (config.model.columns)"),
    ("cifar10.py", {"train.eval_every": 40}, "config.train.eval_every: 40 epochs, so there is one evaluation, "
     "after the last of 12"),
    ("imagenet_paper.py", {"data.name": "image_folder:flowers"}, "config.augment.pca.statistics: the colour noise goes "
     "along the components of ILSVRC-2012's colours, not of image_folder:flowers's; 'train' takes those of the "
     "training images"),
])
def test_what_stays_behind_or_has_no_effect(path, given, words):
    assert any(words in line for line in _notes(path, given))
    assert not any(words in line for line in _notes(path))


def test_outputs_without_a_class():
    assert _notes("imagenet_released.py", classes=101) == [
        "config.model.classes: 1,000 outputs for 101 classes, so 899 never have an image; set it to 0 for one output "
        "per class"]
    assert _notes("imagenet_released.py", classes=1000) == _notes("imagenet_released.py") == []


@pytest.mark.parametrize("path", [":".join((file, *variant)) for file in CONFIGS if file != "photographs.py"
                                  for variant in ((), *((v,) for v in VARIANTS.get(file, recipes.RECIPES)))])
def test_the_project_s_configs_mean_what_they_say(path):
    assert _notes(path) == []


def test_a_first_part_of_a_long_schedule_is_noted():
    assert all("never reached" in line for line in _notes("photographs.py"))


@pytest.fixture
def flowers(tmp_path):
    """(a config, the folder of its images): three classes, of which none is packed."""
    root = tmp_path / "flowers"
    write_tree(root, {f"{split}/{key}/{n}.png": encoded(np.full((9, 9, 3), n, np.uint8))
                      for split, count in (("train", 4), ("val", 2)) for key in ("aster", "lily", "rose")
                      for n in range(count)})
    return config.resolve(config.override(cli.load_config("configs/image_folder.py"), {
        "data.name": "image_folder:flowers", "data.dir": str(tmp_path), "data.store": str(tmp_path / "store"),
        "data.train_split": "train", "data.eval_split": "val", "data.tune_split": "", "data.fit_split": "",
        "data.val_fraction": 0.0})), root


def test_the_number_of_outputs_is_that_of_the_images(flowers):
    c, root = flowers
    assert "\n3 outputs, as many as the images of image_folder:flowers have classes (config.model.classes)" in (
        describe.describe(c))
    split = data.open_split(c.data, "train", report=lambda line: None)
    for folder in root.rglob("*.png"):
        folder.unlink()  # packed images will do
    assert f"\n3 outputs, as many as the packed images in {split.store.folder} have classes" in describe.describe(
        config.override(c, {"data.size": 70, "data.dir": ""}))
    assert "note: config.model.classes: 12 outputs for 3 classes" in describe.describe(
        config.override(c, {"model.classes": 12}))


@pytest.mark.parametrize(("given", "message"), [
    ({"data.name": "image_folder:nowhere"}, "nowhere: no such folder"),
    ({"data.eval_split": "vel"}, r"config\.data\.eval_split: 'vel': no such split \(did you mean val\?\)"),
    ({"data.eval_split": "val[:0]"}, r"config\.data\.eval_split: 'val\[:0\]' is empty"),
    ({"data.fit_split": "val"}, r"config\.data\.fit_split: 6 images of 'val' are not in config\.data\.train_split"),
    ({"data.train_split": "train[:6]", "data.fit_split": "train[4:8]"}, r"config\.data\.fit_split: 2 images of"),
    ({"data.tune_split": "train[:2]"}, r"config\.data\.tune_split: 2 images of 'train\[:2\]' are in config\.data\.tra"),
    ({"data.tune_split": "val"}, r"config\.data\.tune_split: 6 images of 'val' are in config\.data\.eval_split"),
    ({"data.train_split": "train[:99]"}, r"config\.data\.train_split: 'train\[:99\]' reaches beyond train"),
    ({"data.names": "nowhere.txt"}, r"config\.data\.names: "),
])
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("order", ["stored", "spread"])
def test_what_the_start_would_refuse_is_refused_before(flowers, given, message, packed, order):
    c, root = flowers
    if packed:
        data.open_splits(c.data, report=lambda line: None)
    before = sorted(root.parent.rglob("*"))
    c = config.override(c, {"data.order": order, **given})
    with pytest.raises((ConfigError, DataError), match=message) as early:
        data.check_splits(c.data)
    assert sorted(root.parent.rglob("*")) == before
    with pytest.raises(type(early.value), match=message):
        data.open_splits(c.data, report=lambda line: None)
