"""What the CIFAR-10 networks of cuda-convnet have in common: their training (layer-params-*.cfg)."""

from ml_collections import ConfigDict


def training(c: ConfigDict) -> None:
    """Batch 128, momentum 0.9, ε 0.001 on weights and 0.002 on biases, no augmentation, no decay."""
    c.train.batch_size = 128
    c.optim.momentum = 0.9
    c.optim.learning_rate, c.optim.bias_learning_rate = 0.001, 0.002
    c.optim.bias_schedule = "constant"  # the logs lower epsW alone
    c.optim.weight_decay = 0.0
    c.optim.decay_biases = False  # the released code never decays biases
    c.optim.schedule = "constant"
    c.augment.crop_offsets, c.augment.mirror = 1, False
    c.augment.mean = "pixel"
    c.augment.pca.amount = 0.0
