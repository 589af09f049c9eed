"""Part G of docs/evidence-plan.md: five baselines of the paper's regime whose checkpoints are kept, and what they show.

    python -m experiments.run --sweep=configs/sweeps/paper_like_averages.py --workdir=runs/paper_like_averages
    python -m experiments.ensemble --workdir=runs/paper_like_averages --arm=baseline
    python -m experiments.kernels --workdir=runs/paper_like_averages
    python -m experiments.retrieval --workdir=runs/paper_like_averages

The checkpoints of part A1's baselines, seeds 1 to 30, were not kept: these are the next five seeds.

Cost: 5 runs of 90 epochs.
"""


def get_sweep():
    return {
        "config": "configs/paper_like_cifar10.py",
        "ablations": ("views",),  # the baseline alone, by the centre crop too
        "seeds": tuple(range(31, 36)),
        "jobs": 0,
    }
