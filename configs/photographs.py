"""The full network on a few photographs: what a recipe does in its first steps, on a machine without an accelerator.

    python -m alexnet_jax.main --config=configs/photographs.py:paper --workdir=runs/photographs-paper

4 × 10 steps of 128 images from a hundred classes of Tiny-ImageNet, enlarged to 256 pixels: nothing that a network could
generalise from; the question is whether the training loss leaves ln(100) = 4.605. The packed store is of the whole
split, some 8 GB.
"""

from alexnet_jax import config
from configs import recipes


def get_config(recipe: str = "released"):
    c = config.default()  # the full network is the declared default
    c.data.size, c.data.crop = 256, 224
    recipes.apply(c, recipe)
    c.data.name = "image_folder:tiny-imagenet-100"
    c.data.train_split, c.data.tune_split, c.data.eval_split = "train[:1280]", "train[1280:1408]", "val[:256]"
    c.train.batch_size, c.train.epochs = 128, 4
    return c
