"""The paper's claims on a hundred classes of Tiny-ImageNet at 64 pixels. For `make claims`.

    python -m experiments.run --sweep=configs/sweeps/claims_tiny_imagenet.py --workdir=runs/claims_tiny --dry_run
    python -m experiments.run --sweep=configs/sweeps/claims_tiny_imagenet.py --workdir=runs/claims_tiny

The most important ablations are listed first, and runs go seed by seed. With less time start with
`--ablations=lrn,pooling` in the same workdir: the whole sweep continues from there.

Cost: 27 runs of 8 epochs (9 arms, 3 seeds), 7 to 19 minutes a run on one core, by the model of EPYC.
`--ablations=lrn,columns,pooling` adds the arms of the author's logs.
"""


def get_sweep():
    return {
        "config": "configs/tiny_imagenet.py",
        "overrides": {"train.epochs": 8, "data.fit_split": "train[:5000]"},
        "ablations": ("lrn.no_lrn", "pooling.nonoverlapping", "views", "columns.one_column", "columns.no_exchange",
                      "pca", "depth"),
        "seeds": 3,
        "jobs": 0,
    }
