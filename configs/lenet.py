"""LeNet-5, AlexNet's ancestor, on grey 32-pixel images: CIFAR-10 or, with `:shapes`, the embedded shapes.

    python -m alexnet_jax.main --config=configs/lenet.py --workdir=runs/lenet
    python -m alexnet_jax.main --config=configs/lenet.py:shapes --workdir=runs/lenet-shapes

Training never mirrors (digits are not what their mirror images are), so errors are counted without mirrored views.
"""

from alexnet_jax import config
from alexnet_jax.errors import ConfigError
from configs import networks

SPLITS = {"cifar10": ("train[:40000]", "train[40000:]"), "shapes": ("train", "test")}


def get_config(data: str = "cifar10"):
    if data not in SPLITS:
        raise ConfigError(f"data {data!r}: not one of {', '.join(SPLITS)}")
    c = config.default()
    networks.lenet(c)
    c.data.name = data
    c.data.train_split, c.data.eval_split = SPLITS[data]
    # Inputs of mean 0 and variance about 1, as LeNet-5's are. 1998 trained image by image with rates of its own for
    # each weight; this is plain gradient descent with momentum.
    c.augment.mean, c.augment.divide = "channel", (64.0,)
    c.augment.crop_offsets, c.augment.mirror = 1, False
    c.augment.pca.amount = 0.0
    c.optim.learning_rate = 0.05  # at 0.01 it stays at chance on shapes for three epochs
    c.optim.weight_decay = 0.0
    c.optim.schedule = "table"
    c.train.schedule_unit = "run"
    c.optim.table.at, c.optim.table.factors = (0.75, 0.95), (0.1, 0.01)
    c.train.batch_size, c.train.epochs = 64, 20
    return c
