"""ILSVRC-2012 to the paper's letter: 90 epochs, the rate ÷ 10 when the error on images kept back stops falling.

    python -m alexnet_jax.data.prepare --config=configs/imagenet_paper.py --config.data.dir=/path/to/datasets
    python -m alexnet_jax.main --config=configs/imagenet_paper.py --config.data.dir=/path/to/datasets \
        --workdir=runs/imagenet-paper

The last 50,000 training images, in the store's mixed order, are those kept back. Archives, packed store and disk are
those of configs/imagenet_released.py. Initial weights of N(0, 0.01) in all layers, taken literally, may never leave
chance; a run that doesn't is reported as such.

Time: 865,620 steps of 128 images (9,618 an epoch); five to six days on two GTX 580 in the paper. Not measured here.
"""

from configs import imagenet


def get_config():
    return imagenet.get_config("paper")
