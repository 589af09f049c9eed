"""Part A2 of docs/evidence-plan.md: the other claims in the paper's regime, at ten seeds.

    python -m experiments.run --sweep=configs/sweeps/paper_like_10_seeds.py --workdir=runs/paper_like --dry_run
    python -m experiments.run --sweep=configs/sweeps/paper_like_10_seeds.py --workdir=runs/paper_like

In the workdir of part A1, whose baseline it shares.

Cost: 110 runs of 90 epochs (11 arms, 10 seeds), 10 of them part A1's too.
"""


def get_sweep():
    return {
        "config": "configs/paper_like_cifar10.py",
        "ablations": ("augmentation", "decay", "lrn.lrn_first", "columns.one_column", "columns.no_exchange", "depth"),
        "seeds": tuple(range(1, 11)),
        "jobs": 0,
    }
