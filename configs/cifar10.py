"""CIFAR-10 with the 32-pixel network. Train on batches 1–4, report on batch 5: Krizhevsky's own way of working.

    python -m alexnet_jax.main --config=configs/cifar10.py --workdir=runs/one

`:paper` chooses the paper's recipe, whose initial weights of N(0, 0.01) start slowly or not at all.
configs/cifar10_test.py has the standard split, for those who have the test file.
"""

from alexnet_jax import config
from configs import networks, recipes


def get_config(recipe: str = "released"):
    c = config.default()
    networks.alexnet32(c)  # the eight layers, their widths and initial deviations; 24-pixel crops
    recipes.apply(c, recipe)  # norm, augmentation, learning rates (0.01, of biases 0.02), batches of 128
    recipes.short(c, epochs=12)  # rates ÷ 10 after three quarters of the epochs, ÷ 100 for the last twentieth
    c.data.name = "cifar10"
    c.data.train_split = "train[:40000]"
    c.data.eval_split = "train[40000:]"
    return c
