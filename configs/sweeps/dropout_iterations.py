"""Part F of docs/evidence-plan.md: does dropout take twice the iterations to converge (section 4.2)?

    python -m experiments.run --sweep=configs/sweeps/dropout_iterations.py --workdir=runs/dropout_iterations --dry_run
    python -m experiments.run --sweep=configs/sweeps/dropout_iterations.py --workdir=runs/dropout_iterations

The paper's regime under the paper's own rule for the rate: it falls tenfold when the error on 4,000 images kept back
stops improving, three times, and the run ends when it stops improving once more. Evaluated every epoch, so that
patience counts epochs. A run that `train.epochs` ends is a lower bound.

Cost: 20 runs (2 arms, 10 seeds) of as many epochs as each takes, 400 at most.
"""


def get_sweep():
    return {
        "config": "configs/paper_like_cifar10.py",
        "overrides": {
            "train.epochs": 400,
            "train.eval_every": 1,
            "data.tune_split": "train[36000:40000]",
            "optim.schedule": "plateau",
            "optim.plateau.stop": True,
        },
        "ablations": ("dropout",),
        "seeds": tuple(range(1, 11)),
        "jobs": 0,
    }
