"""Part H of docs/evidence-plan.md: the paper's regime on twelve thousand other images of CIFAR-10.

    python -m experiments.run --sweep=configs/sweeps/paper_like_second_images.py --workdir=runs/second_images --dry_run
    python -m experiments.run --sweep=configs/sweeps/paper_like_second_images.py --workdir=runs/second_images

Intervals over seeds don't include the choice of training images; this asks whether it mattered.

Cost: 25 runs of 90 epochs (5 arms, 5 seeds).
"""


def get_sweep():
    return {
        "config": "configs/paper_like_cifar10.py",
        "overrides": {"data.train_split": "train[12000:24000]", "data.fit_split": "train[12000:22000]"},
        "ablations": ("lrn.no_lrn", "dropout", "decay", "pooling.nonoverlapping"),
        "seeds": tuple(range(1, 6)),
        "jobs": 0,
    }
