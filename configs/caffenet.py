"""Caffe's CaffeNet (models/bvlc_reference_caffenet), the network of its tutorials: pooling before the norms.

    python -m alexnet_jax.weights import --from=bvlc_reference_caffenet.caffemodel --mean=imagenet_mean.binaryproto \
        --config=configs/caffenet.py --workdir=runs/caffenet

--mean=123,117,104 is the mean pixel that many use in place of the mean image. The rest is as in
configs/bvlc_alexnet.py; its biases began at 1, not 0.1.
"""

from configs import bvlc_alexnet, networks


def get_config():
    c = bvlc_alexnet.get_config()
    networks.caffenet(c)
    return c
