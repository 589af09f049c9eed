"""Every field of a config: its declared default, its meaning and its range. `config.py` works with them.

The declared defaults of the network and of its training are the paper's (NIPS 2012), those of the data `shapes`,
which needs no files. A declared default is part of the recorded results' names and must never change; a new field's
default has to mean "as before".
"""

from __future__ import annotations

import dataclasses
from typing import Any

LAYERS = ("conv1", "conv2", "conv3", "conv4", "conv5", "fc6", "fc7", "fc8")
LARGEST = 2**31 - 1  # of any whole number: what an int32 holds
ORDERS = ("relu-lrn-pool", "relu-pool-lrn", "lrn-relu-pool", "lrn-pool-relu", "pool-relu-lrn", "pool-lrn-relu")


@dataclasses.dataclass(frozen=True)
class Field:
    """One field: `default` fixes its type, `low`/`high`/`choices` its range (of each item, for a tuple)."""

    default: Any
    doc: str
    choices: tuple = ()
    low: float | None = None
    high: float | None = None
    item: type | None = None  # the type of a tuple's items
    unordered: bool = False  # a tuple that is a set: no item twice, and one spelling (`config.resolve`)
    identity: bool = True  # can it change the result of a run?


def _conv(features: int, kernel: int, stride: int, padding: int, bias: float) -> dict[str, Field]:
    return {
        "features": Field(features, "kernels over all columns; 0 leaves the layer out", low=0),
        "kernel": Field(kernel, "side of the square filter, pixels", low=1),
        "stride": Field(stride, "pixels", low=1),
        "padding": Field(padding, "zeros on each side; the ceil rule may add more on the far side", low=0),
        "unshared": Field(False, "weights and biases of its own for each position (cuda-convnet's local layers)"),
        "init_std": Field(0.01, "standard deviation of the initial weights", low=0.0),
        "bias": Field(bias, "initial bias"),
    }


def _dense(features: int | None, bias: float) -> dict[str, Field]:
    fields = {
        "init_std": Field(0.01, "standard deviation of the initial weights", low=0.0),
        "bias": Field(bias, "initial bias"),
    }
    if features is not None:
        fields["features"] = Field(features, "units over all columns; 0 leaves the layer out", low=0)
    return fields


def _table(what: str) -> dict[str, Field]:
    return {
        "at": Field((), f"when the rate of {what} changes, in `train.schedule_unit`", item=float, low=0.0),
        "factors": Field((), "from then on the rate is the initial rate times this", item=float, low=0.0),
    }


SCHEMA: dict[str, Any] = {
    "model": {
        "name": Field("alexnet", "which network", choices=("alexnet",)),
        "classes": Field(0, "output units; 0: as many as the training data has classes", low=0),
        "columns": Field(2, "groups of kernels that see each other only at `exchange`", low=1, high=64),
        "exchange": Field(("conv3", "fc6", "fc7"), "layers that see all columns", item=str, unordered=True,
                          choices=("conv2", "conv3", "conv4", "conv5", "fc6", "fc7")),
        "activation": Field("relu", "after every layer but the last", choices=("relu", "tanh", "scaled_tanh")),
        "init_distribution": Field("normal", "shape of the initial weights' distribution",
                                   choices=("normal", "uniform")),
        "init_scaling": Field("none", "full_fan_in: times √(fan-in of the full network's layer / fan-in here); "
                              "fan_in: divided by √fan-in", choices=("none", "full_fan_in", "fan_in")),
        "rounding": Field("ceil", "positions of a filter along a side: ⌈ ⌉ with zeros where it hangs over (released "
                          "layer.py), or ⌊ ⌋, which leaves pixels out (Caffe, PyTorch)", choices=("ceil", "floor")),
        # Paper, section 3.5 and figure 2; biases and deviations: section 5.
        "conv1": _conv(96, 11, 4, 0, 0.0),
        "conv2": _conv(256, 5, 1, 2, 1.0),
        "conv3": _conv(384, 3, 1, 1, 0.0),
        "conv4": _conv(384, 3, 1, 1, 1.0),
        "conv5": _conv(256, 3, 1, 1, 1.0),
        "fc6": _dense(4096, 1.0),
        "fc7": _dense(4096, 1.0),
        "fc8": _dense(None, 0.0),
        "lrn": {  # paper, section 3.3
            "layers": Field((1, 2), "convolutional layers with response normalisation", item=int, low=1, high=5,
                            unordered=True),
            "k": Field(2.0, "b = a / (k + α Σ a²)^β", low=1e-6),
            "n": Field(5, "adjacent channels in the sum", low=1),
            "alpha": Field(1e-4, "α", low=0.0),
            "alpha_over_n": Field(False, "α/n in place of α, as the released code, Caffe and PyTorch do"),
            "beta": Field(0.75, "β", low=0.0),
            "order": Field(("relu-lrn-pool", "relu-lrn-pool"), "steps after conv1 and after conv2", item=str,
                           choices=ORDERS),
            "window": Field("column", "where the n channels end: at the column's edge or the layer's",
                            choices=("column", "layer")),
        },
        "same_map": {  # released layers/layers-*.cfg: absent from the paper
            "layers": Field((), "LRN layers followed by a norm over a window of the same map", item=int, low=1, high=5,
                            unordered=True),
            "size": Field(5, "side of the window, pixels", low=1),
            "alpha": Field(0.001, "b = a / (1 + α/size² Σ a²)^β", low=0.0),
            "beta": Field(0.75, "β", low=0.0),
        },
        "pool": {  # paper, section 3.4
            "layers": Field((1, 2, 5), "convolutional layers followed by pooling", item=int, low=1, high=5,
                            unordered=True),
            "kind": Field("max", "what is taken of a window", choices=("max", "avg")),
            "kinds": Field((), "one kind for each of `layers`, where they differ", item=str, choices=("max", "avg")),
            "window": Field(3, "side of the window z, pixels", low=1),
            "stride": Field(2, "step s, pixels", low=1),
            "rounding": Field("ceil", "⌈ ⌉ clips the last window at the edge, ⌊ ⌋ leaves it out",
                              choices=("ceil", "floor")),
        },
        "dropout": Field(0.5, "probability of zeroing a unit of `dropout_layers`", low=0.0, high=0.99),
        "dropout_layers": Field(("fc6", "fc7"), "layers whose outputs (after norm and pooling) are dropped", item=str,
                                choices=LAYERS[:-1], unordered=True),
        "dropout_scale": Field("test", "where outputs are scaled: at test (both recipes), or by 1/(1-p) in training",
                               choices=("test", "train")),
    },
    "data": {
        "name": Field("shapes", "shapes, cifar10, imagenet, image_folder:<folder> or tfds:<name>"),
        "dir": Field("", "folder that holds the datasets' own folders (else $ALEXNET_DATA_DIR)", identity=False),
        "store": Field("", "folder of the packed images (else the user's cache folder)", identity=False),
        "train_split": Field("train", "images to learn from, e.g. train[:40000]"),
        "eval_split": Field("test", "images to report on"),
        "tune_split": Field("", "training images kept back for what is tuned; needed by the plateau rule"),
        "fit_split": Field("", "training images, learnt from, whose error the end reports too: what overfitting is "
                           "measured by"),
        "fold_split": Field("", "training images from `fold_at` on, e.g. with what was validated on folded in"),
        "order": Field("stored", "which image stands where in a split, so what a slice of it holds: stored, as in the "
                       "dataset (folders: mixed); spread, every class evenly: a prefix has its share of each to within "
                       "one image", choices=("stored", "spread")),
        "val_fraction": Field(0.0, "a part of a dataset's only split (or of train, without a split for validation) "
                              "becomes the split val, the rest train: of each class this share, at least one image "
                              "and never all", low=0.0, high=0.9),
        "val_seed": Field(0, "which images those are", low=0, high=2**31 - 1),
        "names": Field("", "file of the names that classes are shown by: id, tab, name (labels.txt in an image folder "
                       "needs no mention)", identity=False),
        "fold_at": Field(0.0, "when, in `train.schedule_unit`, rounded to whole epochs", low=0.0),
        "size": Field(256, "side of the stored images, pixels", low=1),
        "crop": Field(224, "side of the network's input, pixels", low=1),
        "placement": Field("auto", "the images: device, in the memory of each device; host, streamed from the store; "
                           "auto: on accelerators where they take less than 30% of the free memory",
                           choices=("auto", "device", "host"), identity=False),
        "orientation": Field("stored", "images as their pixels are stored, or turned as their EXIF data says (exif); "
                             "for datasets without image files it means nothing", choices=("stored", "exif")),
        "resize": Field("shorter", "image files as squares: the shorter side to `size`, the longer one rounded, the "
                        "centre cut out (paper); the same as torchvision does it, which drops the fraction and rounds "
                        "offsets half to even; or both sides to `size` (warp, Caffe)",
                        choices=("shorter", "torchvision", "warp")),
        "on_corrupt": Field("skip", "an image that cannot be read", choices=("skip", "refuse")),
    },
    "augment": {
        "crop_offsets": Field(0, "offsets of the training crop along each side; 0: all, 1: the centre only", low=0),
        "mirror": Field(True, "half of the training images are mirrored"),
        "chunk": Field(1, "images in a row that share one crop and one mirror", low=1),
        "mean": Field("pixel", "what is subtracted: the training mean of each pixel, the centre crop of that mean "
                      "image for every crop, the mean of each channel, one number for all, or `mean_values`",
                      choices=("pixel", "centre", "channel", "scalar", "values")),
        "mean_values": Field((), "what `mean=values` subtracts, whatever the training images are: one number, or one a "
                             "channel", item=float),
        "grey": Field(False, "images become one channel, 0.299 R + 0.587 G + 0.114 B"),
        "divide": Field((), "the centred pixels are divided by this: () no, one number, or one a channel", item=float,
                        low=1e-6),
        "pca": {  # paper, section 4.1
            "amount": Field(0.1, "standard deviation of α in Σ pᵢ αᵢ λᵢ; 0: no colour noise", low=0.0),
            "by": Field("eigenvalue", "λ: eigenvalue on [0, 1] pixels (paper) or standard deviation (released)",
                        choices=("eigenvalue", "deviation")),
            "divide_by": Field(1.0, "in training, while there is noise, the noisy centred image is divided by this",
                               low=1e-6),
            "off_at": Field(0.0, "when the noise ends, in `train.schedule_unit`; 0: never", low=0.0),
            "statistics": Field("train", "from the training images, or the author's for ILSVRC-2012",
                                choices=("train", "ilsvrc2012")),
        },
    },
    "init": {
        "weights": Field("", "what training begins from: a run's folder, or a weights file (docs/weights.md); empty: "
                         "weights are drawn", identity=False),
        "sha256": Field("", "which weights these are; filled in where it is empty, and refused where it is another's"),
        "skip": Field((), "layers that stay as initialised; fc8 does anyway where the classes are others", item=str,
                      choices=LAYERS, unordered=True),
    },
    "optim": {  # paper, section 5
        "learning_rate": Field(0.01, "initial ε of the weights", low=0.0),
        "bias_learning_rate": Field(0.0, "initial ε of the biases; 0: the weights' own", low=0.0),
        "bias_schedule": Field("same", "do the biases follow the weights' schedule?", choices=("same", "constant")),
        "momentum": Field(0.9, "of the velocity", low=0.0, high=0.9999),
        "weight_decay": Field(0.0005, "v ← 0.9 v − decay ε w − ε g", low=0.0),
        "decay_biases": Field(True, "does decay pull on the biases too?"),
        "layer_decay": {name: Field(-1.0, "weight decay of this layer; -1: `weight_decay`", low=-1.0)
                        for name in LAYERS},
        "freeze": Field((), "layers whose weights and biases are not updated", item=str, choices=LAYERS,
                        unordered=True),
        "schedule": Field("plateau", "plateau: ÷10 when the tuning error stops improving; table: at given times",
                          choices=("plateau", "table", "constant")),
        "plateau": {
            "patience": Field(5, "evaluations without improvement before the rate falls", low=1),
            "min_delta": Field(0.001, "smallest improvement of the error that counts, as a fraction", low=0.0),
            "factor": Field(0.1, "the rate is multiplied by this", low=0.0, high=1.0),
            "times": Field(3, "how often at most", low=0),
            "stop": Field(False, "the run ends when the error stops improving after the last fall (paper, section 5: "
                          "\"reduced three times prior to termination\"); else with `train.epochs`"),
        },
        "table": _table("the weights"),
        "conv1": _table("conv1, where it differs (0 freezes it)"),
    },
    "train": {
        "batch_size": Field(128, "images a step, over all devices", low=1),
        "epochs": Field(90, "passes over the training images", low=1),
        "eval_every": Field(1, "epochs between evaluations", low=1),
        "stop_at_error": Field(0.0, "the run ends with the first evaluation whose top-1 error, a fraction of 1, is no "
                               "larger; 0: never before `epochs`", low=0.0, high=1.0),
        "steps_per_call": Field(0, "steps that a device makes in one go, with the images in its memory; 0: as many as "
                                "take a quarter of a second on accelerators, one on a CPU", low=0, identity=False),
        "schedule_unit": Field("epoch", "unit of optim.*.at and augment.pca.off_at: epochs or parts of the run",
                               choices=("epoch", "run")),
        "precision": Field("float32", "of activations and products; parameters stay float32 (with float64, which needs "
                           "JAX_ENABLE_X64=1, float64). On accelerators float32 products are exact ones, unless "
                           "JAX_DEFAULT_MATMUL_PRECISION asks for tensorfloat32 or bfloat16",
                           choices=("float32", "bfloat16", "float64")),
    },
    "mesh": {
        "data": Field("auto", "devices that share a batch", identity=False),
        "column": Field("auto", "devices that share the columns", identity=False),
    },
    "checkpoint": {
        "every_seconds": Field(60.0, "time between checkpoints; one is written after each evaluation too",
                               low=0.0, identity=False),
        "keep": Field(2, "checkpoints kept; two at least, as one may be under way", low=2, identity=False),
    },
    "seed": Field(0, "of initialisation, data order, augmentation and dropout", low=0, high=2**31 - 1),
}

# What other projects call a field: where a misspelt name's last part is one of these, this is what is meant.
ALIASES = {
    **dict.fromkeys(("lr", "rate", "eta", "base_lr", "initial_lr"), "optim.learning_rate"),
    **dict.fromkeys(("wd", "l2", "decay"), "optim.weight_decay"),
    **dict.fromkeys(("mom", "mu"), "optim.momentum"),
    **dict.fromkeys(("lr_schedule", "scheduler", "lr_scheduler"), "optim.schedule"),
    **dict.fromkeys(("bs", "batch", "batchsize", "minibatch"), "train.batch_size"),
    **dict.fromkeys(("num_epochs", "n_epochs", "max_epochs", "steps", "num_steps", "max_steps", "train_steps",
                     "iterations", "iters"), "train.epochs"),
    **dict.fromkeys(("dtype", "half", "fp16", "bf16", "amp"), "train.precision"),
    **dict.fromkeys(("dataset", "data"), "data.name"),
    **dict.fromkeys(("data_dir", "root", "data_path"), "data.dir"),
    **dict.fromkeys(("image_size", "img_size", "resolution", "res"), "data.size"),
    **dict.fromkeys(("crop_size", "input_size"), "data.crop"),
    **dict.fromkeys(("num_classes", "n_classes", "nclasses"), "model.classes"),
    **dict.fromkeys(("act", "act_fn", "nonlinearity"), "model.activation"),
    **dict.fromkeys(("drop", "drop_rate", "dropout_rate", "dropout_prob"), "model.dropout"),
    **dict.fromkeys(("flip", "hflip", "horizontal_flip"), "augment.mirror"),
    **dict.fromkeys(("random_seed", "rng_seed", "rng"), "seed"),
    **dict.fromkeys(("pretrained", "init_from", "checkpoint_path", "finetune", "weights_path"), "init.weights"),
    **dict.fromkeys(("frozen", "freeze_layers"), "optim.freeze"),
    **dict.fromkeys(("devices", "num_devices", "gpus", "num_gpus"), "mesh.data"),
}
