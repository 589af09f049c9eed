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
    """One field of a config.

    Its legal values are those of `default`'s type that are among `choices`, if there are any, and from `low` to `high`,
    both included; for a tuple, each of its items is.
    """

    default: Any
    doc: str
    choices: tuple = ()
    low: float | None = None
    high: float | None = None
    item: type | None = None  # the type of a tuple's items
    unordered: bool = False  # a tuple that is a set: no item twice; `config.resolve` sorts it
    identity: bool = True  # can it change the result of a run?


def _conv(features: int, kernel: int, stride: int, padding: int, bias: float) -> dict[str, Field]:
    return {
        "features": Field(features, "output channels, over all columns together; 0: the network has no such layer, nor "
                          "its norm, pooling and dropout", low=0),
        "kernel": Field(kernel, "side of the square filter, pixels", low=1),
        "stride": Field(stride, "pixels between neighbouring positions of the filter", low=1),
        "padding": Field(padding, "rows and columns of zeros on each side of the input, pixels; with model.rounding="
                         "ceil the far side (right, bottom) may get more", low=0),
        "unshared": Field(False, "each position of the filter has its own weights and biases (cuda-convnet's local "
                          "layers)"),
        "init_std": Field(0.01, "standard deviation of the initial weights, before model.init_scaling", low=0.0),
        "bias": Field(bias, "initial value of all biases"),
    }


def _dense(features: int | None, bias: float) -> dict[str, Field]:
    fields = {
        "init_std": Field(0.01, "standard deviation of the initial weights, before model.init_scaling", low=0.0),
        "bias": Field(bias, "initial value of all biases"),
    }
    if features is not None:
        fields["features"] = Field(features, "units, over all columns together; 0: the network has no such layer, nor "
                                   "its dropout", low=0)
    return fields


def _table(times: str, zero: str) -> dict[str, Field]:
    return {
        "at": Field((), f"times {times}, ascending, in units of train.schedule_unit; (): never", item=float, low=0.0),
        "factors": Field((), "one for each of `at`: what the initial rate (not the rate before) is multiplied by from "
                         f"that time on; 0: {zero} no longer updated; (): where `at` is ()", item=float, low=0.0),
    }


SCHEMA: dict[str, Any] = {
    "model": {
        "name": Field("alexnet", "the network's module; alexnet is the only one", choices=("alexnet",)),
        "classes": Field(0, "output units; 0: as many as the training images have classes", low=0),
        "columns": Field(2, "equal parts that the channels of each layer are divided into, so it has to divide every "
                         "layer's features; a column sees the others' outputs only in the layers of `exchange` and in "
                         "the output layer", low=1, high=64),
        "exchange": Field(("conv3", "fc6", "fc7"), "layers whose input is the output of all columns, not only of their "
                          "own; the output layer always sees all", item=str, unordered=True,
                          choices=("conv2", "conv3", "conv4", "conv5", "fc6", "fc7")),
        "activation": Field("relu", "the nonlinearity of every layer but the output layer: relu, tanh, or scaled_tanh, "
                            "which is 1.7159 tanh(2x/3)", choices=("relu", "tanh", "scaled_tanh")),
        "init_distribution": Field("normal", "distribution of the initial weights: normal, or uniform with the same "
                                   "standard deviation", choices=("normal", "uniform")),
        "init_scaling": Field("none", "what each layer's init_std is multiplied by; none: 1; fan_in: 1/√(inputs of a "
                              "unit); full_fan_in: √(inputs of a unit of this layer in the full network / inputs of a "
                              "unit here), for small networks", choices=("none", "full_fan_in", "fan_in")),
        "rounding": Field("ceil", "of the number of filter positions along a side, where the filter does not fit a "
                          "whole number of times; ceil: one more position, with zeros where it reaches beyond the edge "
                          "(released layer.py); floor: the last pixels are not seen (Caffe, PyTorch)",
                          choices=("ceil", "floor")),
        # Paper, section 3.5 and figure 2; biases and deviations: section 5.
        "conv1": _conv(96, 11, 4, 0, 0.0),
        "conv2": _conv(256, 5, 1, 2, 1.0),
        "conv3": _conv(384, 3, 1, 1, 0.0),
        "conv4": _conv(384, 3, 1, 1, 1.0),
        "conv5": _conv(256, 3, 1, 1, 1.0),
        "fc6": _dense(4096, 1.0),
        "fc7": _dense(4096, 1.0),
        "fc8": _dense(None, 0.0),
        "lrn": {  # response normalisation; paper, section 3.3
            "layers": Field((1, 2), "numbers of the convolutional layers that have response normalisation, "
                            "b = a / (k + α Σ a²)^β, the sum over n channels; (): none", item=int, low=1, high=5,
                            unordered=True),
            "k": Field(2.0, "k of that formula", low=1e-6),
            "n": Field(5, "n: neighbouring channels in the sum, the channel itself among them", low=1),
            "alpha": Field(1e-4, "α of that formula", low=0.0),
            "alpha_over_n": Field(False, "use α/n in place of α, as the released code, Caffe and PyTorch do"),
            "beta": Field(0.75, "β of that formula", low=0.0),
            "order": Field(("relu-lrn-pool", "relu-lrn-pool"), "order of activation (relu), norm and pooling: two "
                           "values, the first for conv1, the second for conv2; a step that a layer doesn't have is "
                           "skipped; conv3 to conv5 have relu-lrn-pool", item=str, choices=ORDERS),
            "window": Field("column", "which channels the sum may reach; column: those of the channel's own column; "
                            "layer: all of the layer", choices=("column", "layer")),
        },
        "same_map": {  # released layers/layers-*.cfg; not in the paper
            "layers": Field((), "those of `lrn.layers` whose response norm is followed by a second norm, "
                            "b = a / (1 + α/size² Σ a²)^β, the sum over a square of pixels of the same channel; "
                            "(): none", item=int, low=1, high=5, unordered=True),
            "size": Field(5, "side of that square, pixels", low=1),
            "alpha": Field(0.001, "α of that formula", low=0.0),
            "beta": Field(0.75, "β of that formula", low=0.0),
        },
        "pool": {  # paper, section 3.4
            "layers": Field((1, 2, 5), "numbers of the convolutional layers that are followed by pooling; (): none",
                            item=int, low=1, high=5, unordered=True),
            "kind": Field("max", "what pooling takes of a window; max: its largest value; avg: its average",
                          choices=("max", "avg")),
            "kinds": Field((), "one kind, max or avg, for each of `layers`; (): `kind` for all", item=str,
                           choices=("max", "avg")),
            "window": Field(3, "side of the square window (the paper's z), pixels", low=1),
            "stride": Field(2, "pixels between neighbouring windows (the paper's s)", low=1),
            "rounding": Field("ceil", "of the number of windows along a side, where the last one reaches beyond the "
                              "edge; ceil: it is kept, with the pixels that it has; floor: it is left out",
                              choices=("ceil", "floor")),
        },
        "dropout": Field(0.5, "probability with which a unit of `dropout_layers` is set to 0 in training; 0: no "
                         "dropout", low=0.0, high=0.99),
        "dropout_layers": Field(("fc6", "fc7"), "layers with dropout, which acts on their outputs after norm and "
                                "pooling; (): none", item=str, choices=LAYERS[:-1], unordered=True),
        "dropout_scale": Field("test", "where dropout is made up for; test: outputs times 1 − p at test (paper, "
                               "released code); train: outputs divided by 1 − p in training (Caffe, PyTorch)",
                               choices=("test", "train")),
    },
    # A split is the name of a part of the dataset, or a slice of one: train, train[:40000], val[-20%:].
    "data": {
        "name": Field("shapes", "the dataset: shapes, cifar10, imagenet, image_folder:<folder> or tfds:<name> "
                      "(docs/data.md)"),
        "dir": Field("", "folder that contains the datasets' folders; '': $ALEXNET_DATA_DIR", identity=False),
        "store": Field("", "folder for the packed images; '': $ALEXNET_STORE_DIR, or else ~/.cache/alexnet_jax",
                       identity=False),
        "train_split": Field("train", "split to train on, e.g. train[:40000]"),
        "eval_split": Field("test", "split whose errors are reported"),
        "tune_split": Field("", "split whose error tuning goes by, as the plateau rule does; none of its images may be "
                            "in train_split or eval_split; '': none, which optim.schedule=plateau refuses"),
        "fit_split": Field("", "part of train_split whose error is counted at the end of the run too, by the centre "
                           "crop; overfitting is the reported error less this one; '': none"),
        "fold_split": Field("", "split to train on from `fold_at` on, in place of `train_split`, e.g. one that has the "
                            "tuning images too; '': none"),
        "order": Field("stored", "order of the images of a split, and so which of them a slice has; stored: the "
                       "dataset's own (of folders: mixed); spread: classes spread evenly, so that the first n images "
                       "have each class's share to within one image", choices=("stored", "spread")),
        "val_fraction": Field(0.0, "fraction of each class that becomes a new split val, at least one image and never "
                              "all; taken from a dataset's only split, or from train where there is no split for "
                              "validation; the rest is train; 0: no such split", low=0.0, high=0.9),
        "val_seed": Field(0, "random seed that chooses the images of that split", low=0, high=2**31 - 1),
        "names": Field("", "file with the names that tables and pictures show for classes, a line each: class, tab, "
                       "name; '': labels.txt of an image folder, or else the dataset's names", identity=False),
        "fold_at": Field(0.0, "time from which `fold_split` is trained on, in units of train.schedule_unit, rounded to "
                         "whole epochs; 0: only with fold_split=''", low=0.0),
        "size": Field(256, "side of the stored images, which are square, pixels", low=1),
        "crop": Field(224, "side of the crops that the network sees, pixels; at most `size`", low=1),
        "placement": Field("auto", "where the images are during training; device: in the memory of each device; host: "
                           "read from the packed store as they are needed; auto: device on accelerators where they "
                           "take less than 30% of the free memory, else host",
                           choices=("auto", "device", "host"), identity=False),
        "orientation": Field("stored", "of photographs; stored: as their pixels lie in the file; exif: turned as their "
                             "EXIF data says; no effect on datasets without image files", choices=("stored", "exif")),
        "resize": Field("shorter", "how an image file becomes a square of `size` pixels; shorter: the shorter side is "
                        "scaled to `size`, the longer one rounded, the centre cut out (paper); torchvision: the same, "
                        "but the longer side is rounded down and the offset of the centre is rounded half to even; "
                        "warp: both sides are scaled to `size` (Caffe)", choices=("shorter", "torchvision", "warp")),
        "on_corrupt": Field("skip", "what happens to an image that cannot be read; skip: it is left out and counted; "
                            "refuse: packing ends with an error", choices=("skip", "refuse")),
    },
    "augment": {
        "crop_offsets": Field(0, "number of pixels along each side, counted from the first, at which a random training "
                              "crop may begin; 0: all, size − crop + 1; 1: the centre crop alone", low=0),
        "mirror": Field(True, "mirror each training image with probability 1/2, left to right"),
        "chunk": Field(1, "number of consecutive images of a batch that share one random crop and mirror; divides "
                       "train.batch_size", low=1),
        "mean": Field("pixel", "what is subtracted from the pixels, which are from 0 to 255: the training images' mean "
                      "of each pixel (pixel), the centre crop of that mean image, from every crop (centre), the mean "
                      "of each channel (channel), one mean of everything (scalar), or `mean_values` (values)",
                      choices=("pixel", "centre", "channel", "scalar", "values")),
        "mean_values": Field((), "what mean=values subtracts, on the scale of 0 to 255: one number, or three (red, "
                             "green, blue); (): any other `mean`", item=float),
        "grey": Field(False, "make images grey: one channel, 0.299 R + 0.587 G + 0.114 B"),
        "divide": Field((), "what the pixels are divided by after the mean is subtracted: one number, or three (red, "
                        "green, blue); (): nothing", item=float, low=1e-6),
        "pca": {  # colour noise along the principal components pᵢ of the pixels' colours; paper, section 4.1
            "amount": Field(0.1, "standard deviation of the random αᵢ in the noise Σ pᵢ αᵢ λᵢ, drawn for each image; "
                            "0: no colour noise", low=0.0),
            "by": Field("eigenvalue", "what λᵢ is; eigenvalue: the component's variance, of pixels scaled to 0 to 1 "
                        "(paper); deviation: its standard deviation, of pixels from 0 to 255 (released code)",
                        choices=("eigenvalue", "deviation")),
            "divide_by": Field(1.0, "what training images are divided by after the noise is added; 1: nothing; no "
                               "effect without noise", low=1e-6),
            "off_at": Field(0.0, "time from which there is no colour noise, in units of train.schedule_unit; 0: noise "
                            "until the end", low=0.0),
            "statistics": Field("train", "where the principal components are from; train: the training images; "
                                "ilsvrc2012: what the author published for ILSVRC-2012",
                                choices=("train", "ilsvrc2012")),
        },
    },
    "init": {
        "weights": Field("", "weights to start training from: the folder of a finished run, or a weights file "
                         "(docs/weights.md); '': random weights", identity=False),
        "sha256": Field("", "SHA-256 of these weights, 64 hexadecimal digits; other weights are refused; '': filled in "
                        "from `weights`"),
        "skip": Field((), "layers that keep their random initial weights; fc8 does so anyway if `weights` is of other "
                      "classes; (): no other", item=str, choices=LAYERS, unordered=True),
    },
    "optim": {  # paper, section 5
        "learning_rate": Field(0.01, "initial learning rate ε of the weights; of the biases too, unless "
                               "`bias_learning_rate` is set", low=0.0),
        "bias_learning_rate": Field(0.0, "initial learning rate of the biases; 0: `learning_rate`", low=0.0),
        "bias_schedule": Field("same", "learning rate of the biases over time; same: changes by the same factors as "
                               "that of the weights; constant: stays as it begins",
                               choices=("same", "constant")),
        "momentum": Field(0.9, "momentum μ of the update v ← μ v − λ ε w − ε g, w ← w + v, g the gradient", low=0.0,
                          high=0.9999),
        "weight_decay": Field(0.0005, "weight decay λ of that update", low=0.0),
        "decay_biases": Field(True, "apply weight decay to the biases too"),
        "layer_decay": {name: Field(-1.0, f"weight decay of {name}; -1: `weight_decay`", low=-1.0)
                        for name in LAYERS},
        "freeze": Field((), "layers whose weights and biases are not updated; (): none", item=str, choices=LAYERS,
                        unordered=True),
        "schedule": Field("plateau", "how the learning rate changes; plateau: it falls when the error on "
                          "data.tune_split stops improving (fields `plateau`); table: at given times (fields `table`); "
                          "constant: never. The fields `conv1` apply with each of them",
                          choices=("plateau", "table", "constant")),
        "plateau": {
            "patience": Field(5, "evaluations in a row without improvement after which the rate falls", low=1),
            "min_delta": Field(0.001, "how far the error has to fall below the best so far to count as an improvement; "
                               "a fraction of 1, so 0.001 is 0.1 percentage points", low=0.0),
            "factor": Field(0.1, "what the rate is multiplied by when it falls", low=0.0, high=1.0),
            "times": Field(3, "how often the rate falls at most; 0: never", low=0),
            "stop": Field(False, "end the run when the error has stopped improving after the last fall too (paper, "
                          "section 5: \"reduced three times prior to termination\"), at the latest after "
                          "train.epochs; False: after train.epochs alone"),
        },
        "table": _table("at which the learning rate of all layers changes with schedule=table", "weights are"),
        "conv1": _table("at which conv1 gets a learning rate of its own, with any schedule", "conv1 is"),
    },
    "train": {
        "batch_size": Field(128, "images of a training step, over all devices together", low=1),
        "epochs": Field(90, "number of passes over the training images", low=1),
        "eval_every": Field(1, "epochs from one evaluation to the next; there is one at the end of the run in any "
                            "case", low=1),
        "stop_at_error": Field(0.0, "end the run after the first evaluation whose top-1 error (centre crop) is at most "
                               "this, a fraction of 1; 0: never before `epochs`", low=0.0, high=1.0),
        "steps_per_call": Field(0, "training steps that one call of the compiled program makes; more than 1 needs the "
                                "images in the device's memory; 0: as many as take a quarter of a second on "
                                "accelerators, one on a CPU", low=0, identity=False),
        "schedule_unit": Field("epoch", "unit of all times: optim.table.at, optim.conv1.at, augment.pca.off_at and "
                               "data.fold_at; epoch: epochs; run: fractions of the run, from 0 to 1",
                               choices=("epoch", "run")),
        "precision": Field("float32", "number format of activations and products; bfloat16: parameters stay float32; "
                           "float64: of parameters too, needs JAX_ENABLE_X64=1; float32: exact products on "
                           "accelerators too, unless JAX_DEFAULT_MATMUL_PRECISION asks for tensorfloat32 or bfloat16",
                           choices=("float32", "bfloat16", "float64")),
    },
    # Both are texts: 'auto' or a number from 1. data × column devices are used.
    "mesh": {
        "data": Field("auto", "number of replicas of the network, which share each batch; auto: the largest number "
                      "that divides train.batch_size and for which there are devices", identity=False),
        "column": Field("auto", "number of devices over which the columns of one replica are divided; divides "
                        "model.columns; auto: 2 if there are enough devices, the number of columns is even and "
                        "model.lrn.window is column, else 1", identity=False),
    },
    "checkpoint": {
        "every_seconds": Field(60.0, "seconds from one checkpoint to the next; one is written after each evaluation "
                               "too; 0: after each call of the compiled program", low=0.0, identity=False),
        "keep": Field(2, "number of checkpoints that are kept, the newest ones; at least 2, as the newest may be "
                      "incomplete", low=2, identity=False),
    },
    "seed": Field(0, "random seed of initial weights, order of the images, augmentation and dropout", low=0,
                  high=2**31 - 1),
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
