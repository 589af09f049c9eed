"""The three ablations on real CIFAR-10: train on batches 1–4, error on batch 5.

    python -m experiments.run --sweep=configs/sweeps/cifar10_three.py --workdir=runs/cifar10_three

Twelve runs of five epochs; the recorded sweep took 1.6 core-hours
(experiments/results/cifar10_three/report.md).
"""


def get_sweep():
    return {
        "config": "configs/cifar10.py",
        "overrides": {"train.epochs": 5},
        "ablations": ("lrn.no_lrn", "pooling.nonoverlapping", "activation.tanh"),
        "arms": {},
        # tanh at ReLU's rate; configs/sweeps/claims_cifar10.py searches a rate for each.
        "search": False,
        "seeds": 3,
        "jobs": 0,
    }
