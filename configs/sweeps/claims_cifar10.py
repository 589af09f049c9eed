"""The paper's claims on real CIFAR-10 at 32 pixels: train on batches 1–4, errors on batch 5. For `make claims`.

    python -m experiments.run --sweep=configs/sweeps/claims_cifar10.py --workdir=runs/claims_cifar10 --dry_run
    python -m experiments.run --sweep=configs/sweeps/claims_cifar10.py --workdir=runs/claims_cifar10

The most important ablations are listed first, and runs go seed by seed. With less time start with
`--ablations=lrn,pooling` in the same workdir: the whole sweep continues from there. `--config.train.epochs=10`
makes every run longer, in a workdir of its own.

Cost: 135 runs of 5 epochs (27 arms, 5 seeds), besides the search of learning rates; two to three minutes a run on one
core.
"""


def get_sweep():
    return {
        "config": "configs/cifar10.py",
        # fit_split: the error on images that were learnt from, in test mode; its distance from the reported error is
        # what the paper calls overfitting.
        "overrides": {"train.epochs": 5, "data.fit_split": "train[:10000]"},
        "ablations": ("lrn", "pooling.nonoverlapping", "views", "dropout", "decay", "columns.one_column",
                      "columns.no_exchange", "pca", "augmentation.no_augmentation", "bias_init", "activation", "depth",
                      "columns", "pooling", "augmentation", "init", "recipe"),
        # tanh and ReLU each at a rate of its own, chosen on images kept back from training.
        "search": {"epochs": 2, "seeds": 1},
        "seeds": 5,
        "jobs": 0,
    }
