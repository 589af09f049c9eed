"""Part E of docs/evidence-plan.md as it was planned: 13% without normalisation, 11% with (section 3.3), all 520 epochs.

    python -m experiments.run --sweep=configs/sweeps/conv_local_whole.py --workdir=runs/conv_local_whole --dry_run
    python -m experiments.run --sweep=configs/sweeps/conv_local_whole.py --workdir=runs/conv_local_whole

configs/sweeps/conv_local_quarter.py, which is recorded, has a quarter of the schedule.

Cost: 9 runs of 520 epochs (3 arms, 3 seeds).
"""

from configs.sweeps import conv_local


def get_sweep():
    sweep = conv_local.get_sweep()
    sweep["overrides"] |= {"train.epochs": 520, "train.eval_every": 104}
    return sweep | {"seeds": (1, 2, 3)}
