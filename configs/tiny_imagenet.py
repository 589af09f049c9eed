"""A hundred classes of Tiny-ImageNet at 64 pixels: <data dir>/tiny-imagenet-100/{train,val}.tar.gz or folders.

    python -m alexnet_jax.main --config=configs/tiny_imagenet.py --workdir=runs/tiny
"""

from configs import image_folder


def get_config(recipe: str = "released"):
    c = image_folder.get_config(recipe)
    c.data.name = "image_folder:tiny-imagenet-100"
    return c
