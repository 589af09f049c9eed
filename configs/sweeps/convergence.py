"""Dropout where training continues to the end (section 4.2): overfitting without it, twice the iterations with it.

    python -m experiments.run --sweep=configs/sweeps/convergence.py --workdir=runs/convergence --dry_run
    python -m experiments.run --sweep=configs/sweeps/convergence.py --workdir=runs/convergence

CIFAR-10 with the 32-pixel network, and the paper's own rule for the schedule (section 5): the rate falls tenfold when
the error on 4,000 images kept back stops improving, three times, and the run ends when it stops improving once more. So
each run ends when it has converged; the arm without crops and mirrors is for section 4.1's overfitting.

Cost: 9 runs (3 arms, 3 seeds) of as many epochs as each takes, not timed here; `train.epochs` is the most.
"""


def get_sweep():
    return {
        "config": "configs/cifar10.py",
        "overrides": {
            "train.epochs": 150,
            "data.train_split": "train[:36000]",
            "data.tune_split": "train[36000:40000]",
            "data.fit_split": "train[:10000]",
            "optim.schedule": "plateau",
            "optim.plateau.stop": True,
        },
        "ablations": ("dropout", "augmentation.no_augmentation"),
        "seeds": 3,
        "jobs": 0,
    }
