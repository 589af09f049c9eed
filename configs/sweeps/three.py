"""The main job: three ablations of the paper's section 3, on the embedded dataset. Copy it for your own.

    python -m experiments.run --sweep=configs/sweeps/three.py --workdir=runs/three --dry_run  # what would run
    python -m experiments.run --sweep=configs/sweeps/three.py --workdir=runs/three

The same command resumes after an interruption; finished runs are never run again. On the command line
`--config.train.epochs=3` changes a field of every arm, `--seeds=5` and `--jobs=1` replace the values below,
and `--config=configs/cifar10.py` runs the same arms on another base.
"""


def get_sweep():
    return {
        # The base: a config file, with ":paper" or ":released" behind it for a recipe other than its default.
        "config": "configs/shapes.py",
        # Changes of the base, so of every arm: {"train.epochs": 3}.
        "overrides": {},
        # Ablations of the catalogue (`python -m experiments.run --list`) or of a file of yours: "mine.py:width";
        # "lrn" has several arms, "lrn.no_lrn" is one of them.
        # The arm "baseline", the base as it is, is always there; the report compares the others with it.
        "ablations": ("lrn.no_lrn", "pooling.nonoverlapping", "activation.tanh"),
        # Arms written out, name → changes: {"no_dropout": {"model.dropout": 0.0}}.
        "arms": {},
        # An arm such as tanh may ask for a learning rate of its own: {"epochs": 1, "seeds": 1} would train one run of
        # an epoch for each candidate first. False: it does without, and tanh has ReLU's rate.
        "search": False,
        # A number N stands for seeds 0 … N−1; a tuple for itself. Every arm runs with every seed, seed by
        # seed, so that what is there so far can always be compared; "order": "arms" has it arm by arm.
        # Four resolve the normalisation's effect in five of five disjoint sets, three in four of six (docs/runs.md).
        "seeds": 4,
        # Runs at a time, each a process with its share of the cores (or an accelerator of its own).
        # 0: one per core (or accelerator).
        "jobs": 0,
    }
