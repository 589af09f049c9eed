"""The recipes side by side: every difference is one field, with its source.

paper     Krizhevsky, Sutskever, Hinton, NIPS 2012.
released  the 2012 source published by the Computer History Museum; its run 145 is the paper's network (its logged
          errors are the paper's tables to the digit). Files named below are files of that source.
caffe     Caffe's models/bvlc_alexnet (train_val.prototxt, solver.prototxt): the reimplementation that most others
          descend from.

One property of the released code is in no recipe: it reads its files in the same order in every epoch, so that a batch
always has the same images. Here each epoch has an order of its own (`data.loader.epoch_order`); the paper doesn't say.

`alexnet_jax.config.default()` is the paper's network and training; a recipe still sets every field that differs, so
that they can be read side by side here.
"""

from ml_collections import ConfigDict

from alexnet_jax.errors import ConfigError

CONVS = ("conv1", "conv2", "conv3", "conv4", "conv5")
BIASED = ("conv2", "conv4", "conv5", "fc6", "fc7")  # section 5: 1 here and 0 elsewhere, in paper and released code


def paper(c: ConfigDict) -> None:
    # Section 3.5: ReLU follows every layer; section 3.3: norm after ReLU in conv1 and conv2, before pooling (3.5).
    c.model.lrn.order = ("relu-lrn-pool", "relu-lrn-pool")
    c.model.lrn.alpha_over_n = False  # section 3.3: α itself multiplies the sum
    c.model.lrn.k = 2.0
    c.model.lrn.window = "column"  # the text's "N kernels in the layer" would cross the GPUs
    c.model.same_map.layers = ()
    c.model.rounding = "ceil"  # the only reading by which 224 pixels without padding give 55
    # Section 5: N(0, 0.01) in each layer. Known to start slowly or not at all: the signal shrinks on the way up.
    for layer in (*CONVS, "fc6", "fc7", "fc8"):
        c.model[layer].init_std = 0.01
    for layer in BIASED:
        c.model[layer].bias = 1.0
    c.model.dropout_scale = "test"  # section 4.2: "multiply their outputs by 0.5" at test
    # Section 4.1: "a factor of 2048" = 32 × 32 offsets × 2, one fewer than a 256-pixel image offers.
    c.augment.crop_offsets = c.data.size - c.data.crop
    c.augment.chunk = 1
    c.augment.mean = "pixel"  # section 2: "subtracting the mean activity over the training set from each pixel"
    c.augment.pca.amount = 0.1  # section 4.1
    c.augment.pca.by = "eigenvalue"
    c.augment.pca.divide_by = 1.0
    # Section 5.
    c.optim.learning_rate = 0.01
    c.optim.bias_learning_rate = 0.0
    c.optim.bias_schedule = "same"
    c.optim.decay_biases = True
    c.optim.schedule = "plateau"
    c.train.batch_size = 128
    c.train.epochs = 90


def released(c: ConfigDict) -> None:
    # layers/layers-*.cfg of run 145: conv1 → norm of the signed values → pool → ReLU; conv2 → ReLU → norm → pool.
    c.model.lrn.order = ("lrn-pool-relu", "relu-lrn-pool")
    c.model.lrn.alpha_over_n = True  # layer.py: scale /= size
    c.model.lrn.k = 2.0  # minDiv
    c.model.lrn.window = "column"  # the norm's input is one GPU's layer
    c.model.same_map.layers = (2,)  # a second norm follows conv2's
    c.model.rounding = "ceil"  # layer.py: 1 + int(ceil(…))
    for layer in ("conv1", "conv2", "fc6", "fc7", "fc8"):
        c.model[layer].init_std = 0.01
    for layer in ("conv3", "conv4", "conv5"):
        c.model[layer].init_std = 0.03
    for layer in BIASED:
        c.model[layer].bias = 1.0
    c.model.dropout_scale = "test"
    c.augment.crop_offsets = 0  # all of them: 33 × 33
    c.augment.chunk = 32  # one crop and mirror for 32 images in a row
    c.augment.mean = "centre"
    c.augment.pca.amount = 0.1
    c.augment.pca.by = "deviation"
    c.augment.pca.divide_by = 1.1
    # Run 145 for 2012, by hand: weights 0.01 → 0.001 → 0.0001 → 0.00001 at epochs 25, 51, 79; conv1 0.00001 at 67,
    # frozen at 72; colour noise off at 67; 91 epochs; biases 0.02 from start to end.
    c.optim.learning_rate = 0.01
    c.optim.bias_learning_rate = 0.02
    c.optim.bias_schedule = "constant"
    c.optim.decay_biases = False
    c.optim.schedule = "table"
    c.train.schedule_unit = "epoch"
    c.optim.table.at = (25.0, 51.0, 79.0)
    c.optim.table.factors = (0.1, 0.01, 0.001)
    c.optim.conv1.at = (67.0, 72.0)
    c.optim.conv1.factors = (0.001, 0.0)
    c.augment.pca.off_at = 67.0
    c.train.batch_size = 128
    c.train.epochs = 91


def caffe(c: ConfigDict) -> None:
    c.model.lrn.order = ("relu-lrn-pool", "relu-lrn-pool")  # CaffeNet, another model, pools first
    c.model.lrn.alpha_over_n = True  # lrn_layer.cpp: alpha / size
    c.model.lrn.k = 1.0
    c.model.lrn.window = "layer"  # only conv2, conv4 and conv5 are split into groups, the norm isn't
    c.model.same_map.layers = ()
    c.model.rounding = "floor"  # of convolutions; its pooling rounds up
    if c.data.size == 256:
        c.data.crop = 227  # three more pixels of the image where the released code reads zeros: 55 positions either way
    for layer in (*CONVS, "fc8"):
        c.model[layer].init_std = 0.01
    for layer in ("fc6", "fc7"):
        c.model[layer].init_std = 0.005
    for layer in BIASED:
        c.model[layer].bias = 0.1
    c.model.dropout_scale = "train"  # dropout_layer.cpp: the kept units are scaled by 1 / (1 − p)
    c.augment.crop_offsets = 0  # data_transformer.cpp: any of them
    c.augment.chunk = 1
    c.augment.mean = "pixel"
    c.augment.pca.amount = 0.0
    # solver.prototxt; biases: lr_mult 2, decay_mult 0. 450,000 steps of 256 images are 90 epochs, 100,000 are 20.
    c.optim.learning_rate = 0.01
    c.optim.bias_learning_rate = 0.02
    c.optim.bias_schedule = "same"
    c.optim.decay_biases = False
    c.optim.schedule = "table"
    c.train.schedule_unit = "epoch"
    c.optim.table.at = (20.0, 40.0, 60.0, 80.0)
    c.optim.table.factors = (0.1, 0.01, 0.001, 0.0001)
    c.optim.conv1.at = ()
    c.optim.conv1.factors = ()
    c.train.batch_size = 256
    c.train.epochs = 90


def cuda_convnet(c: ConfigDict) -> None:
    """Training of cuda-convnet's CIFAR-10 networks (example-layers/layer-params-*.cfg): no augmentation, no decay."""
    c.train.batch_size = 128
    c.optim.momentum = 0.9
    c.optim.learning_rate, c.optim.bias_learning_rate = 0.001, 0.002
    c.optim.bias_schedule = "constant"  # the logs lower epsW alone
    c.optim.weight_decay = 0.0
    c.optim.decay_biases = False  # that code never decays biases
    c.optim.schedule = "constant"
    c.augment.crop_offsets, c.augment.mirror = 1, False
    c.augment.mean = "pixel"
    c.augment.pca.amount = 0.0


RECIPES = {"paper": paper, "released": released, "caffe": caffe}


def apply(c: ConfigDict, recipe: str) -> None:
    """Sets the fields of a recipe by its name. Raises ConfigError for an unknown one."""
    if recipe not in RECIPES:
        raise ConfigError(f"recipe {recipe!r}: not one of {', '.join(RECIPES)}")
    RECIPES[recipe](c)


def short(c: ConfigDict, epochs: int) -> None:
    """A schedule for runs of a few epochs: the rate ÷ 10 for the last quarter, ÷ 100 for the last twentieth.

    No source: the recipes' 90 epochs are what a small machine cannot afford. Times are parts of the run, so
    that `--config.train.epochs` scales them.
    """
    c.train.epochs = epochs
    c.train.schedule_unit = "run"
    c.optim.schedule = "table"
    c.optim.table.at = (0.75, 0.95)
    c.optim.table.factors = (0.1, 0.01)
    c.optim.conv1.at = ()
    c.optim.conv1.factors = ()
    c.augment.pca.off_at = 0.0
