"""Does one column of the first layer leave colour to the other, as in the paper's figure 3?

    python -m experiments.run --sweep=configs/sweeps/kernels.py --workdir=runs/kernels
    python -m experiments.kernels --workdir=runs/kernels

In the arm `talk_everywhere` every layer sees both columns: there a kernel's column means nothing, so that what the
measure finds in it is what it finds in no columns at all.
"""


def get_sweep():
    return {
        "config": "configs/cifar10.py",
        "overrides": {},
        "arms": {"talk_everywhere": {"model.exchange": ("conv2", "conv3", "conv4", "conv5", "fc6", "fc7")}},
        "seeds": 5,
        "jobs": 0,
    }
