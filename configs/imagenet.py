"""ILSVRC-2012: the full network, 60,965,224 parameters, 256-pixel images and 224-pixel crops.

configs/imagenet_paper.py and configs/imagenet_released.py are this with their recipe, and say how to run it and what it
costs.
"""

from alexnet_jax import config
from configs import recipes


def get_config(recipe: str = "released"):
    c = config.default()  # the full network is the declared default
    c.data.size, c.data.crop = 256, 224
    recipes.apply(c, recipe)
    c.model.classes = 1000
    c.data.name = "imagenet"
    c.data.train_split = "train"
    c.data.eval_split = "val"
    if c.optim.schedule == "plateau":
        # The plateau rule must not look at the images that are reported.
        c.data.train_split, c.data.tune_split = "train[:-50000]", "train[-50000:]"
    # The author's own principal components, measured on all of ILSVRC-2012.
    c.augment.pca.statistics = "ilsvrc2012"
    return c
