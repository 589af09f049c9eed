"""Part A1 of docs/evidence-plan.md: the claims that are expected to be small, in the paper's regime, at 30 seeds.

    python -m experiments.run --sweep=configs/sweeps/paper_like_30_seeds.py --workdir=runs/paper_like --dry_run
    python -m experiments.run --sweep=configs/sweeps/paper_like_30_seeds.py --workdir=runs/paper_like

Part A2, paper_like_10_seeds.py, goes into the same workdir: both have one baseline.

Cost: 150 runs of 90 epochs (5 arms, 30 seeds).
"""


def get_sweep():
    return {
        "config": "configs/paper_like_cifar10.py",
        "ablations": ("dropout", "pca", "pooling.nonoverlapping", "lrn.no_lrn"),
        "seeds": tuple(range(1, 31)),  # 0 was the pilot's
        "jobs": 0,
    }
