"""CIFAR-10, the standard split: 50,000 images to learn from, the official 10,000 test images to report on."""

from configs import cifar10


def get_config(recipe: str = "released"):
    c = cifar10.get_config(recipe)
    c.data.train_split = "train"
    c.data.eval_split = "test"
    return c
