"""A hundred classes of Tiny-ImageNet at 64 pixels: <data dir>/tiny-imagenet-100/{train,val}.tar.gz or folders.

    python -m alexnet_jax.main --config=configs/tiny_imagenet.py --workdir=runs/tiny

The recorded results are of this part of Tiny-ImageNet-200: of its classes every other one, sorted by WordNet id, from
the first (n01443537) on; for training 400 images of each, with few exceptions the files numbered 0 to 399 (six that are
another image again were replaced); for `val` the official validation images of these classes, 50 of each. labels.txt
gives the classes their names.
"""

from configs import image_folder


def get_config(recipe: str = "released"):
    c = image_folder.get_config(recipe)
    c.data.name = "image_folder:tiny-imagenet-100"
    c.data.order, c.data.orientation = "stored", "stored"  # as the recorded runs have it
    return c
