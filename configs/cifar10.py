"""CIFAR-10 with the 32-pixel network. Train on batches 1–4, report on batch 5: Krizhevsky's own way of working.

    python -m alexnet_jax.main --config=configs/cifar10.py --workdir=runs/one

`:paper` chooses the paper's recipe, whose initial weights of N(0, 0.01) start slowly or not at all.
configs/cifar10_test.py has the standard split, for those who have the test file.
"""

from alexnet_jax import config
from configs import networks, recipes


def get_config(recipe: str = "released"):
    c = config.default()
    networks.alexnet32(c)
    recipes.apply(c, recipe)
    recipes.short(c, epochs=12)
    c.data.name = "cifar10"
    c.data.train_split = "train[:40000]"
    c.data.eval_split = "train[40000:]"
    return c
