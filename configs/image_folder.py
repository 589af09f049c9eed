"""Any folder of images, <data dir>/<folder>/{train,val}/<class>/*, as folders or as tar archives, at 64 pixels.

    python -m alexnet_jax.main --config=configs/image_folder.py --config.data.name=image_folder:flowers --workdir=runs/f

The number of classes is the folder's own. Classes are spread evenly over a split, so that a slice of it holds each of
them; a folder without a split for validation gets one by `--config.data.val_fraction=0.2`.
"""

from alexnet_jax import config
from configs import networks, recipes


def get_config(recipe: str = "released"):
    c = config.default()
    networks.alexnet64(c)
    recipes.apply(c, recipe)
    recipes.short(c, epochs=20)
    c.data.name = "image_folder"
    c.data.train_split = "train"
    c.data.eval_split = "val"
    c.data.order = "spread"
    return c
