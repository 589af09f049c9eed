"""torchvision's alexnet: its network, what it does to images, and the training of its references/classification.

    python -m alexnet_jax.weights import --from=alexnet-owt-7be5be79.pth --config=configs/torchvision.py \
        --workdir=runs/torchvision
    python -m alexnet_jax.main --config=configs/torchvision.py --workdir=runs/torchvision-anew

An image is rescaled and cut as torchvision does it (`data.resize`), which for some sizes is another pixel than the
paper's rule takes. The second command trains such a network with the settings of torchvision's references (README of
references/classification: 90 epochs, batches of 8 · 32, rate 0.01, ÷ 10 each 30 epochs, weight decay 0.0001). Not
theirs: crops are of one size (theirs, RandomResizedCrop, are of 8% to 100% of an image), biases begin at 0.
"""

from configs import imagenet, networks


def get_config():
    c = imagenet.get_config("released")
    networks.torchvision(c)
    c.model.lrn.alpha_over_n = False  # the recipe's settings of a norm that isn't there
    c.model.lrn.order = ("relu-lrn-pool", "relu-lrn-pool")
    c.augment.crop_offsets, c.augment.chunk = 0, 1
    c.augment.pca.by, c.augment.pca.divide_by, c.augment.pca.off_at = "eigenvalue", 1.0, 0.0
    c.augment.pca.statistics = "train"
    c.optim.bias_learning_rate, c.optim.bias_schedule = 0.0, "same"
    c.optim.weight_decay, c.optim.decay_biases = 0.0001, True
    c.optim.table.at, c.optim.table.factors = (30.0, 60.0), (0.1, 0.01)
    c.optim.conv1.at, c.optim.conv1.factors = (), ()
    c.train.batch_size, c.train.epochs = 256, 90
    return c
