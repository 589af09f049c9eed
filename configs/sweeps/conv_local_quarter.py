"""Part E of docs/evidence-plan.md: 13% without normalisation, 11% with (section 3.3), on a quarter of the schedule.

    python -m experiments.run --sweep=configs/sweeps/conv_local_quarter.py --workdir=runs/conv_local_quarter --dry_run
    python -m experiments.run --sweep=configs/sweeps/conv_local_quarter.py --workdir=runs/conv_local_quarter

configs/sweeps/conv_local.py with 130 of the 520 epochs in place of 26; conv_local_whole.py has all 520.

Cost: 9 runs of 130 epochs (3 arms, 3 seeds).
"""

from configs.sweeps import conv_local


def get_sweep():
    sweep = conv_local.get_sweep()
    sweep["overrides"] |= {"train.epochs": 130, "train.eval_every": 26}
    return sweep | {"seeds": (1, 2, 3)}
