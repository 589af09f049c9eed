"""Any folder of images at 64 pixels: <data dir>/<folder>/{train,val}/<class>/* and the other layouts of docs/data.md.

    python -m alexnet_jax.main --config=configs/image_folder.py --config.data.name=image_folder:flowers --workdir=runs/f

The number of classes is the folder's own. Classes are spread evenly over a split, so that a slice of it holds each of
them; a folder without a split for validation gets one by `--config.data.val_fraction=0.2`. Photographs are turned as
their EXIF data says.
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
    c.data.orientation = "exif"  # people see photographs as their cameras say
    return c
