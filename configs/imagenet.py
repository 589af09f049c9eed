"""ILSVRC-2012, the full network: 256-pixel images, 224-pixel crops, 60,965,224 parameters.

    python -m alexnet_jax.main --config=configs/imagenet.py --workdir=runs/imagenet
    python -m alexnet_jax.main --config=configs/imagenet.py:paper --workdir=runs/imagenet-paper

Reads <data dir>/imagenet/{train,val}/<class>/*, as folders or as tar archives of such folders. The last 50,000 training
images are kept back for the plateau rule of `:paper`, which must not look at the images that are reported.
"""

from alexnet_jax import config
from configs import recipes


def get_config(recipe: str = "released"):
    c = config.default()  # the full network is the declared default
    c.data.size, c.data.crop = 256, 224
    recipes.apply(c, recipe)
    c.model.classes = 1000
    c.data.name = "image_folder:imagenet"
    c.data.train_split = "train"
    c.data.eval_split = "val"
    if recipe == "paper":
        c.data.train_split, c.data.tune_split = "train[:-50000]", "train[-50000:]"
    # The author's own principal components, measured on all of ILSVRC-2012.
    c.augment.pca.statistics = "ilsvrc2012"
    return c
