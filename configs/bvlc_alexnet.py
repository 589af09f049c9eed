"""Caffe's bvlc_alexnet (models/bvlc_alexnet): the recipe `caffe` on ImageNet, 227-pixel crops.

    python -m alexnet_jax.weights import --from=bvlc_alexnet.caffemodel --mean=imagenet_mean.binaryproto \
        --config=configs/bvlc_alexnet.py --workdir=runs/bvlc_alexnet

Caffe's images are blue, green, red: kernels and mean are turned round when they are read. It rescales an image to
256 × 256 whatever its shape was (`data.resize=warp`), by plain bilinear interpolation; here shrinking is antialiased.
"""

from configs import imagenet


def get_config():
    c = imagenet.get_config("caffe")
    c.data.resize = "warp"
    c.augment.pca.statistics = "train"  # there is no colour noise
    return c
