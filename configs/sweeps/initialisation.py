"""What the paper's literal initialisation does: N(0, 0.01) in conv3, conv4 and conv5 too, where `released` has 0.03.

    python -m experiments.run --sweep=configs/sweeps/initialisation.py --workdir=runs/initialisation

CIFAR-10 with the 32-pixel network, released recipe; one arm changes those deviations alone, one is the whole recipe
`paper` on the same schedule.
"""

from alexnet_jax.config import flatten
from configs import cifar10


def get_sweep():
    released, paper = (flatten(cifar10.get_config(recipe)) for recipe in ("released", "paper"))
    return {
        "config": "configs/cifar10.py",
        "overrides": {"train.epochs": 4},
        "arms": {
            "init_0.01": {f"model.conv{i}.init_std": 0.01 for i in (3, 4, 5)},
            "paper": {name: value for name, value in paper.items() if value != released[name]},
        },
        "seeds": 3,
        "jobs": 0,
    }
