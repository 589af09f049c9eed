"""Part D of docs/evidence-plan.md: do biases of 1 speed up early learning (section 5)? One epoch at a constant rate.

    python -m experiments.run --sweep=configs/sweeps/early_learning.py --workdir=runs/early_learning --dry_run
    python -m experiments.run --sweep=configs/sweeps/early_learning.py --workdir=runs/early_learning

The quantity is the training error over that epoch (40,000 images of CIFAR-10, 312 updates).

Cost: 60 runs of one epoch (2 arms, 30 seeds), about a minute each on one core.
"""


def get_sweep():
    return {
        "config": "configs/cifar10.py",
        "overrides": {"train.epochs": 1, "optim.schedule": "constant"},
        "ablations": ("bias_init",),
        "seeds": tuple(range(1, 31)),
        "jobs": 0,
    }
