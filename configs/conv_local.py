"""The conv-local CIFAR-10 networks behind the paper's "13% without normalization and 11% with" (section 3.3).

    python -m alexnet_jax.main --config=configs/conv_local.py:13 --workdir=runs/local-13
    python -m alexnet_jax.main --config=configs/conv_local.py:11 --workdir=runs/local-11
    python -m alexnet_jax.main --config=configs/conv_local.py:11_no_lrn --workdir=runs/local-11-no-lrn

13 and 11 are cuda-convnet's layers-conv-local-{13,11}pct.cfg; they differ in local3's width and fc's decay too, hence
the third: the 11% network without its norms and nothing else.

Training (layer-params-conv-local-11pct.cfg): random 24-pixel crops and mirrors; about 350 epochs on the first batches,
150 with the validation batch folded in, 10 at ε/10, 10 at ε/100. Roles are shifted by one batch, as the test file need
not be there: train on 1–3, validate on 4, fold 4 in, report on 5. configs/conv_local_test.py has the author's. Times
are parts of the run: --config.train.epochs=52 is a tenth of the schedule.
"""

from alexnet_jax import config
from alexnet_jax.errors import ConfigError
from configs import networks, recipes

VARIANTS = ("13", "11", "11_no_lrn")


def get_config(variant: str = "11"):
    if variant not in VARIANTS:
        raise ConfigError(f"variant {variant!r}: not one of {', '.join(VARIANTS)}")
    c = config.default()
    networks.conv_local(c, maps=32 if variant == "13" else 64)
    if variant == "11":
        networks.conv_local_norm(c)
    recipes.cuda_convnet(c)
    c.optim.layer_decay.conv3 = c.optim.layer_decay.conv4 = 0.004
    c.optim.layer_decay.fc8 = 0.004 if variant == "13" else 0.01
    # convdata_cifar.py: all nine by nine crops, one an image; every crop less the centre of the mean image.
    c.augment.crop_offsets, c.augment.mirror = 0, True
    c.augment.mean = "centre"
    c.data.name = "cifar10"
    c.data.train_split, c.data.tune_split = "train[:30000]", "train[30000:40000]"
    c.data.fold_split = "train[:40000]"
    c.data.eval_split = "train[40000:]"
    c.train.epochs = 520
    c.train.schedule_unit = "run"
    c.data.fold_at = 350 / 520
    c.optim.schedule = "table"
    c.optim.table.at = (500 / 520, 510 / 520)
    c.optim.table.factors = (0.1, 0.01)
    return c
