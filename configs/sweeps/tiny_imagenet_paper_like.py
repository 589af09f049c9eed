"""Part B1 of docs/evidence-plan.md: the claims on a hundred classes of Tiny-ImageNet, over the paper's 90 epochs.

    python -m experiments.run --sweep=configs/sweeps/tiny_imagenet_paper_like.py --workdir=runs/tiny90 --dry_run
    python -m experiments.run --sweep=configs/sweeps/tiny_imagenet_paper_like.py --workdir=runs/tiny90

Regime B: 59 parameters an image where the paper has 47.6. Runs go seed by seed, so that arms can be
compared at any time.

Cost: 60 runs of 90 epochs (12 arms, 5 seeds). Meant for an accelerator: on one core a run takes hours.
"""


def get_sweep():
    return {
        "config": "configs/tiny_imagenet.py",
        "overrides": {"data.fit_split": "train[:5000]", "train.epochs": 90, "train.eval_every": 10},
        "ablations": ("dropout", "pca", "pooling.nonoverlapping", "lrn.no_lrn", "columns.one_column",
                      "columns.no_exchange", "augmentation.no_augmentation", "decay", "depth"),
        "seeds": tuple(range(1, 6)),
        "jobs": 0,
    }
