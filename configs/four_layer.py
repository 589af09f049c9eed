"""The four-layer CIFAR-10 network of the paper's figure 1, with ReLU or tanh, without any regularisation.

    python -m alexnet_jax.main --config=configs/four_layer.py --workdir=runs/four-layer
    python -m alexnet_jax.main --config=configs/four_layer.py:tanh --workdir=runs/four-layer-tanh

The learning rate is cuda-convnet's for ReLU; the paper chose one for each activation.
"""

from alexnet_jax import config
from configs import networks, recipes


def get_config(activation: str = "relu"):
    c = config.default()
    networks.four_layer(c)
    c.model.activation = activation
    recipes.cuda_convnet(c)
    c.data.name = "cifar10"
    c.data.train_split = "train[:40000]"
    c.data.eval_split = "train[40000:]"
    c.train.epochs = 30
    return c
