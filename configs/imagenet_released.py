"""ILSVRC-2012 as run 145 of the released source trained it: 91 epochs, learning rates by the clock.

    python -m alexnet_jax.data.prepare --config=configs/imagenet_released.py --config.data.dir=/path/to/datasets
    python -m alexnet_jax.main --config=configs/imagenet_released.py --config.data.dir=/path/to/datasets \
        --workdir=runs/imagenet-released

Reads the official archives in /path/to/datasets/imagenet/ (data/readers/imagenet.py names them). Both may be killed
and started again.

Cost. Disk: 251,887,681,536 bytes for the packed train (1,281,167 images), 9,830,400,000 for val, and the archives.
Time: 910,819 steps of 128 images (10,009 an epoch); the paper's 90 epochs took five to six days on two GTX 580. Not
measured here: a run prints its own rate and the time that is left.
"""

from configs import imagenet


def get_config():
    return imagenet.get_config("released")
