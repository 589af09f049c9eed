"""13% without normalisation, 11% with (section 3.3): cuda-convnet's conv-local networks on real CIFAR-10.

    python -m experiments.run --sweep=configs/sweeps/conv_local.py --workdir=runs/conv_local --dry_run
    python -m experiments.run --sweep=configs/sweeps/conv_local.py --workdir=runs/conv_local

Three arms: the 11% network, the same without its norms and nothing else, and the 13% network, which differs in local3's
width and fc's decay too. All on a twentieth of the 520 epochs, every part of the schedule shortened alike;
conv_local_quarter.py has a quarter, conv_local_whole.py the whole.

Cost: 9 runs of 26 epochs (3 arms, 3 seeds), about 35 minutes a run on one core of an EPYC without AVX-512.
"""

from alexnet_jax.config import flatten
from configs import conv_local


def get_sweep():
    eleven, thirteen = (flatten(conv_local.get_config(variant)) for variant in ("11", "13"))
    return {
        "config": "configs/conv_local.py:11",
        "overrides": {"train.epochs": 26, "data.fit_split": "train[:10000]"},
        "ablations": ("lrn.no_lrn", "views"),
        "arms": {"conv_local_13": {name: value for name, value in thirteen.items() if value != eleven[name]}},
        "seeds": 3,
        "jobs": 0,
    }
