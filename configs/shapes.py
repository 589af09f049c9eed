"""The embedded dataset of textured shapes, which needs no files: the demo of `make ablations`.

    python -m alexnet_jax.main --config=configs/shapes.py --workdir=runs/one

About a minute on one core.
"""

from alexnet_jax import config
from configs import networks, recipes


def get_config(recipe: str = "released"):
    c = config.default()
    networks.alexnet32(c)
    recipes.apply(c, recipe)
    recipes.short(c, epochs=3)
    c.train.batch_size = 64  # twice the updates of the recipes' 128 for the same minute
    c.data.name = "shapes"
    c.data.train_split = "train"
    c.data.eval_split = "test"
    return c
