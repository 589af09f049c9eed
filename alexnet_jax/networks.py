"""Networks: the paper's is the declared default; smaller ones for machines without accelerators; ancestors.

`alexnet32` and `alexnet64` keep the eight layers, two columns, three overlapping pools, norms in 1 and 2, dropout in
fc6 and fc7 and the ceil rule. Features are totals over the columns. Initial deviations are the recipe's times √(fan-in
of the full network's layer / fan-in here), so that the signal is the full network's.
"""

from ml_collections import ConfigDict


def _features(c: ConfigDict, conv: tuple[int, ...], dense: int) -> None:
    for number, features in enumerate(conv, start=1):
        c.model[f"conv{number}"].features = features
    c.model.fc6.features = c.model.fc7.features = dense
    c.model.init_scaling = "full_fan_in"


def alexnet32(c: ConfigDict) -> None:
    """For 32-pixel images: 24 → 12 → 12 → 6 → 6 → 6 → 6 → 3. The author's own CIFAR crops are 24 pixels."""
    c.data.size, c.data.crop = 32, 24
    _features(c, (32, 48, 64, 64, 48), 512)
    c.model.conv1.kernel, c.model.conv1.stride, c.model.conv1.padding = 5, 1, 2


def alexnet64(c: ConfigDict) -> None:
    """For 64-pixel images: 56 → 26 → 13 → 13 → 6 → 6 → 6 → 6 → 3."""
    c.data.size, c.data.crop = 64, 56
    _features(c, (48, 96, 128, 128, 96), 1024)
    c.model.conv1.kernel, c.model.conv1.stride, c.model.conv1.padding = 7, 2, 0


def _only(c: ConfigDict, layers: tuple[str, ...]) -> None:
    """One column, without norm, dropout or biases, of these layers and the output layer."""
    c.model.columns = 1
    for name in ("conv1", "conv2", "conv3", "conv4", "conv5", "fc6", "fc7"):
        if name not in layers:
            c.model[name].features = 0
        c.model[name].bias = 0.0
    c.model.lrn.layers = ()
    c.model.dropout = 0.0


def _conv(c: ConfigDict, name: str, features: int, kernel: int, padding: int, init_std: float) -> None:
    layer = c.model[name]
    layer.features, layer.kernel, layer.stride, layer.padding, layer.init_std = features, kernel, 1, padding, init_std


def four_layer(c: ConfigDict) -> None:
    """cuda-convnet's layers-19pct.cfg, the paper's "four-layer convolutional network" (figure 1): 32 → 16 → 8 → 4."""
    c.data.size = c.data.crop = 32
    _only(c, ("conv1", "conv2", "conv3"))
    _conv(c, "conv1", 32, 5, 2, 1e-4)
    _conv(c, "conv2", 32, 5, 2, 0.01)
    _conv(c, "conv3", 64, 5, 2, 0.01)
    c.model.lrn.order = ("pool-relu-lrn", "relu-pool-lrn")  # the order of pooling and activation; there is no norm
    c.model.pool.layers, c.model.pool.kinds = (1, 2, 3), ("max", "avg", "avg")


def conv_local(c: ConfigDict, maps: int) -> None:
    """cuda-convnet's layers-conv-local-13pct.cfg: 24 → 12 → 6, then local3 (`maps` maps) and local4 at 6 × 6.

    The local layers, whose positions have weights of their own, stand in the places of conv3 and conv4.
    """
    c.data.size, c.data.crop = 32, 24
    _only(c, ("conv1", "conv2", "conv3", "conv4"))
    _conv(c, "conv1", 64, 5, 2, 1e-4)
    _conv(c, "conv2", 64, 5, 2, 0.01)
    _conv(c, "conv3", maps, 3, 1, 0.04)
    _conv(c, "conv4", 32, 3, 1, 0.04)
    c.model.conv3.unshared = c.model.conv4.unshared = True
    c.model.pool.layers = (1, 2)


def conv_local_norm(c: ConfigDict) -> None:
    """The response norms of layers-conv-local-11pct.cfg: after pool1, and after conv2's ReLU."""
    c.model.lrn.layers = (1, 2)
    c.model.lrn.order = ("relu-pool-lrn", "relu-lrn-pool")
    c.model.lrn.k, c.model.lrn.n, c.model.lrn.alpha, c.model.lrn.beta = 1.0, 9, 0.001, 0.75
    c.model.lrn.alpha_over_n = True


def lenet(c: ConfigDict) -> None:
    """LeNet-5 (LeCun, Bottou, Bengio, Haffner 1998, section II.B): 32 → 28 → 14 → 10 → 5 → 1, 61,706 parameters.

    Kept: grey 32-pixel images, sizes, average pooling, 1.7159 tanh(2x/3), initial weights uniform in ±2.4 / fan-in.
    Changed: C3 sees all of S2's maps, the pooling layers have no weights of their own, the output is a softmax.
    """
    c.data.size = c.data.crop = 32
    c.augment.grey = True
    _only(c, ("conv1", "conv2", "conv3", "fc6"))
    # Fan-ins: 25, 6 · 25, 16 · 25, 120, 84.
    _conv(c, "conv1", 6, 5, 0, _uniform(25))
    _conv(c, "conv2", 16, 5, 0, _uniform(150))
    _conv(c, "conv3", 120, 5, 0, _uniform(400))
    c.model.fc6.features, c.model.fc6.init_std, c.model.fc8.init_std = 84, _uniform(120), _uniform(84)
    c.model.init_distribution = "uniform"
    c.model.activation = "scaled_tanh"
    c.model.lrn.order = ("relu-pool-lrn", "relu-pool-lrn")
    c.model.pool.layers, c.model.pool.kind = (1, 2), "avg"
    c.model.pool.window = c.model.pool.stride = 2


def _uniform(fan_in: int) -> float:
    """The standard deviation of what is uniform in ±2.4 / fan_in."""
    return 2.4 / fan_in / 3**0.5


def torchvision(c: ConfigDict) -> None:
    """torchvision's `alexnet`: one column, no norm, dropout before fc6 and fc7, 61,100,840 parameters.

    Sizes and inputs from torchvision/models/alexnet.py and transforms/_presets.py (ImageClassification); the network is
    that of Krizhevsky 2014, arXiv:1404.5997, without its norms. At 224 pixels its adaptive pooling does nothing.
    """
    c.data.size, c.data.crop, c.data.resize = 256, 224, "torchvision"
    c.model.columns = 1
    for name, features in (("conv1", 64), ("conv2", 192), ("conv3", 384), ("conv4", 256), ("conv5", 256)):
        c.model[name].features = features
    c.model.conv1.padding = 2
    c.model.rounding = c.model.pool.rounding = "floor"
    c.model.lrn.layers = ()
    c.model.same_map.layers = ()
    c.model.dropout_layers = ("conv5", "fc6")  # what goes into fc6 and into fc7
    c.model.dropout_scale = "train"
    # PyTorch's default: uniform in ±1/√fan-in. It draws the biases so too; here they are 0.
    c.model.init_distribution, c.model.init_scaling = "uniform", "fan_in"
    for name in ("conv1", "conv2", "conv3", "conv4", "conv5", "fc6", "fc7", "fc8"):
        c.model[name].init_std, c.model[name].bias = 3**-0.5, 0.0
    # Normalize(mean, std) of pixels on [0, 1].
    c.augment.mean = "values"
    c.augment.mean_values = tuple(255 * x for x in (0.485, 0.456, 0.406))
    c.augment.divide = tuple(255 * x for x in (0.229, 0.224, 0.225))
    c.augment.pca.amount = 0.0


def caffenet(c: ConfigDict) -> None:
    """Caffe's CaffeNet (models/bvlc_reference_caffenet) where it differs from the recipe `caffe`: pools, then norms."""
    c.model.lrn.order = ("relu-pool-lrn", "relu-pool-lrn")
    for name in ("conv2", "conv4", "conv5", "fc6", "fc7"):
        c.model[name].bias = 1.0
