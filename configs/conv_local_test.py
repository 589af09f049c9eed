"""The conv-local networks with the author's own split: batches 1–4, batch 5 folded in, the official test images.

    python -m alexnet_jax.main --config=configs/conv_local_test.py:11 --workdir=runs/local-11-test
"""

from configs import conv_local


def get_config(variant: str = "11"):
    c = conv_local.get_config(variant)
    c.data.train_split, c.data.tune_split = "train[:40000]", "train[40000:]"
    c.data.fold_split = "train"
    c.data.eval_split = "test"
    return c
