"""Every claim of the paper, and the runs of its author's logs that go beyond it: one record each.

To add a claim, add a `Claim(...)` to `CLAIMS`; `experiments.claims.record` documents its fields. To measure a claim in
another regime, add a name to its measure's `regimes`.
"""

from __future__ import annotations

from typing import Any

from experiments.claims import counted
from experiments.claims import regimes as r
from experiments.claims.paper import (
    CIFAR,
    LOG,
    LOG_RUNS,
    PAPER,
    TEST_2010,
    UNSAID,
    VAL_2012,
    Value,
    log_difference,
)
from experiments.claims.record import Claim, Measure, turned

_FULL = "python -m alexnet_jax.main --config=configs/imagenet_released.py"
_SWEEP = f"python -m experiments.run --sweep={r.FIVE.sweep}"
_ILSVRC = "no measurement: needs ILSVRC"
_FALL_2011 = f"{_ILSVRC} and the Fall 2011 release; a sixth convolutional layer is not built"
_OF_CHECKPOINTS = "no measurement of the checkpoints of a sweep"
_SAME_MAP = ("model.same_map.layers", "the same-map norm after conv2's goes with it, as in run 148")
_LOCAL = (r.WHOLE, r.QUARTER, r.LOCAL)
_A10, _A30, _B, _H = r.PAPER_LIKE_10, r.PAPER_LIKE_30, r.HUNDRED_CLASSES, r.SECOND_IMAGES


def _paper(text: str, where: str, top1: float | None = None, top5: float | None = None) -> Value:
    return Value(text, where, PAPER, top1, top5)


def _gain(run: str) -> Value:
    """The gain from what a logged run lacks: its difference with the opposite sign."""
    return turned(log_difference(run), 3)


def _logged(run: str) -> Value:
    logged = LOG_RUNS[run]
    return Value(logged.errors, f"run {run}", LOG, logged.top1, logged.top5)


def _of_log(run: str, *measures: Measure, together: tuple[str, ...] = (), says: str = "", **record: Any) -> Claim:
    """A run of the logs that the paper doesn't report, as a claim. `together`: other runs for the same claim."""
    logged = LOG_RUNS[run]
    try:
        value = log_difference(run)
        base = value.where.removeprefix(f"run {run}").partition(":")[0]
    except KeyError:
        runs = [LOG_RUNS[name] for name in (run, *together)]
        numbers = [one.errors for one in runs if one.top1 is not None]
        value, base = Value("; ".join(numbers) or "no number", f"run{'s' if together else ''} "
                            f"{' and '.join((run, *together))}", LOG), ""
    return Claim(f"log-{run}", logged.what, f"run{'s' if together else ''} {', '.join((run, *together))}{base}", "log",
                 logged.protocol, log=value, logged=run, measures=measures,
                 **{"why": "" if measures else _ILSVRC, **record})


def _not_built(run: str) -> Claim:
    return _of_log(run, why=f"no measurement: its third, blurred path (layers/layers-{run}.cfg of the released source) "
                            "is not built")


CLAIMS: dict[str, Claim] = {claim.id: claim for claim in (
    Claim("relu", "ReLUs reach 25% training error several times faster than tanh; rates chosen separately, no "
          "regularisation", "§3.1, Fig. 1", "ratio", CIFAR, _paper("6×", "§3.1 and figure 1"),
          measures=(Measure("activation.tanh", (r.FIVE, r.THREE), sign=1, in_kind=True, also=("activation",),
                            own_rate="tanh ran at ReLU's learning rate; the claim is about rates chosen separately",
                            says="six times slower to 25% training error",
                            part="in kind: tanh (biases of 0) − ReLU after the same epochs"),),
          why="no measurement",
          command="python -m experiments.figure1 --workdir=runs/figure1 --record=experiments/results/figure1",
          cost="a few epochs for each rate of the grid, then ten runs until 25% training error; not timed here"),
    Claim("columns", "two-GPU net against one GPU with half the kernels in each conv layer (conv5 kept as wide as two)",
          "§3.2", "difference", TEST_2010, _paper("−1.7/−1.2", "§3.2", -1.7, -1.2), _gain("145-half"), "145-half",
          (Measure("columns.one_column", (_A10, _B, *r.SHORT), turned=True, also=(
              "one", "half", "half_width", "one_half", "one_half_width", "single_column", "one_column_half")),)),
    Claim("lrn", "with response normalisation against without", "§3.3", "difference", VAL_2012,
          _paper("−1.4/−1.2", "§3.3", -1.4, -1.2), _gain("148"), "148",
          (Measure("lrn.no_lrn", (_A30, _H, _B, *r.SHORT), turned=True, local=False, also=("none", "without", "off"),
                   with_field=_SAME_MAP),)),
    Claim("lrn-cifar", "13% test error without normalisation, 11% with", "§3.3", "difference", CIFAR,
          _paper("13 → 11", "§3.3", -2.0),
          Value("13 → 11", "layers-conv-local-13pct and -11pct", "layer files of the released source"),
          measures=(Measure("lrn.no_lrn", _LOCAL, turned=True, local=True, says="13 against 11",
                            part="the 11% network, with its norms − without"),
                    Measure("lrn.conv_local_13", _LOCAL, turned=True, local=True, says="13 against 11",
                            part="the two networks as released, 11% − 13%"))),
    Claim("overlap", "pooling z=3, s=2 against z=2, s=2 giving equal output sizes", "§3.4", "difference", VAL_2012,
          _paper("−0.4/−0.3", "§3.4", -0.4, -0.3), _gain("147"), "147",
          (Measure("pooling.nonoverlapping", (_A30, _H, _B, *r.SHORT), turned=True, margin=0.2, also=(
              "non_overlapping", "no_overlap", "pool_2_2", "pool_2x2", "pool22", "pooling")),)),
    Claim("crops", "ten views against the centre crop", "§4.1", "difference", "ILSVRC-2010 test",
          _paper("39.0/18.3 → 37.5/17.0", "§4.1", -1.5, -1.3), _gain("145-2010 centre"), "145-2010 centre",
          (Measure("views.centre", (_A30, _B, *r.SHORT, r.QUARTER, r.LOCAL, r.INITIALISATION), turned=True,
                   also=("center",)),)),
    Claim("pca", "colour augmentation along the principal components", "§4.1", "difference", UNSAID,
          _paper("top-1 by over 1", "§4.1", -1.0),
          measures=(Measure("pca.no_pca", (_A30, _B, *r.SHORT), turned=True, also=("none",),
                            says="top-1 by over +1"),)),
    Claim("crop-flip", "without crops and mirrors the network overfits substantially", "§4.1", "qualitative", "ILSVRC",
          _paper("qualitative", "§4.1"), measures=(
              Measure("augmentation.no_augmentation", (_A10, _B, *r.SHORT), "gap", sign=1, part="without − with", also=(
                  "none", "centre_only", "no_crops_no_mirrors"), says="substantial overfitting"),
              *(Measure(f"augmentation.no_{one}", (_A10, r.FIVE), "gap", sign=1, part=f"in kind: without {one} alone",
                        in_kind=True) for one in ("crops", "mirrors")))),
    Claim("dropout", "without dropout substantial overfitting; with it about twice the iterations to converge", "§4.2",
          "qualitative", "ILSVRC", _paper("qualitative; 2× the iterations", "§4.2"), measures=(
              Measure("dropout.no_dropout", (_A30, _H, _B, *r.SHORT, r.CONVERGENCE), "gap", sign=1,
                      part="without − with", words="without dropout substantial overfitting", paper="qualitative",
                      also=("none",), says="substantial overfitting; half the iterations to converge"),
              Measure("dropout.no_dropout", (r.ITERATIONS, r.CONVERGENCE), "epochs", turned=True, ratio=2.0, sign=1,
                      part="iterations, with ÷ without", words="with dropout about twice the iterations to converge",
                      paper="2× the iterations", also=("none",)))),
    Claim("depth", "removing any middle layer costs about 2 points", "§7", "difference", UNSAID,
          _paper("top-1 about +2", "§7", 2.0), measures=tuple(
              Measure(f"depth.no_{layer}", (_A10, _B, *r.SHORT), part=f"without {layer}", also=(f"without_{layer}",))
              for layer in ("conv3", "conv4", "conv5"))),
    Claim("2010", "one network, ILSVRC-2010 test", "Table 1", "level", TEST_2010,
          _paper("37.5/17.0", "table 1", 37.5, 17.0), _logged("145-2010"),
          why=f"{_ILSVRC}-2010, whose test labels were published; schedule and steps are those of 2012",
          command=f"{_FULL} --config.data.name=image_folder:ilsvrc2010 --workdir=runs/imagenet_2010", cost=1),
    Claim("2012", "one network, ILSVRC-2012 validation", "Table 2", "level", VAL_2012,
          _paper("40.7/18.2", "table 2", 40.7, 18.2), _logged("145"), why=_ILSVRC,
          command=f"{_FULL} --workdir=runs/imagenet", cost=1),
    Claim("2012-5", "five networks averaged", "Table 2", "level", VAL_2012,
          _paper("40.7/18.2 → 38.1/16.4 (test 16.4)", "table 2", 38.1, 16.4), why=_ILSVRC,
          command="python -m experiments.run --config=configs/imagenet_released.py --ablations=views --seeds=5 "
                  "--workdir=runs/imagenet_5", cost=5),
    Claim("2012-pre", "one network with a sixth conv layer, pre-trained on Fall 2011", "Table 2", "level", VAL_2012,
          _paper("39.0/16.6", "table 2", 39.0, 16.6), _logged("146-2012-2011"), why=_FALL_2011),
    Claim("2012-7", "seven networks averaged, two of them pre-trained", "Table 2", "level", VAL_2012,
          _paper("36.7/15.4 (test 15.3)", "table 2", 36.7, 15.4), why=_FALL_2011),
    Claim("size", "parameters and neurons", "abstract", "count", "the 1000-class network",
          _paper("60 million parameters, 650,000 neurons", "abstract"),
          Value("60,965,224 parameters; 659,272 neurons with 55²·96 = 290,400 in conv1, 622,312 with the figure's own "
                "253,440 for it", "counted", "layer files of the released source"), counted=counted.size),
    Claim("time", "time to train 90 epochs", "§5", "count", "two GTX 580, ILSVRC training images",
          _paper("5 to 6 days", "§5"), why=_ILSVRC, command=f"{_FULL} --workdir=runs/imagenet", cost=1),
    Claim("decay", "weight decay lowers the training error, not only the test error", "§5", "qualitative", "ILSVRC",
          _paper("qualitative", "§5"), measures=(
              Measure("decay.no_decay", (_A10, _H, _B, *r.SHORT), "fit", sign=1, part="without − with", also=(
                  "none", "decay_0"), says="a higher training error"),)),
    Claim("bias-init", "biases of 1 speed up early learning", "§5", "qualitative", "ILSVRC",
          _paper("qualitative", "§5"), measures=(
              Measure("bias_init.zero_bias", (r.EARLY, r.FIVE), "first", sign=1, says="slower early learning",
                      part="biases 0 − 1", also=("bias_0", "zero", "no_bias_init", "biases_0")),
              Measure("bias_init.zero_bias", (r.FIVE,), "early", sign=1, in_kind=True,
                      part="in kind: biases 0 − 1, the reported error"))),
    Claim("overlap-fit", "overlapping pooling makes it slightly harder to overfit", "§3.4", "qualitative", "ILSVRC",
          _paper("qualitative", "§3.4"), measures=(
              Measure("pooling.nonoverlapping", (_A30, _H, _B, *r.SHORT), "gap", sign=1, part="2/2 − 3/2"),)),
    Claim("two-gpu-time", "the two-GPU net takes slightly less time to train than the one-GPU net", "§3.2",
          "qualitative", "two GTX 580", _paper("qualitative", "§3.2"),
          why="no measurement: compiled for two GPUs, not run; devices emulated on a CPU tell nothing of time",
          command="python -m alexnet_jax.describe --config=configs/imagenet_released.py --target=h100:1x2"),
    Claim("kernels", "first-layer kernels: one column colour-agnostic, the other colour-specific, in every run",
          "§6.1, Fig. 3", "qualitative", "ILSVRC", _paper("qualitative", "§6.1 and figure 3"), why=_OF_CHECKPOINTS,
          command=f"{_SWEEP} --ablations=columns.exchange_everywhere --workdir={r.FIVE.workdir} && python -m "
                  f"experiments.kernels --workdir={r.FIVE.workdir} --record=experiments/results/kernels",
          checkpoints="columns.exchange_everywhere"),
    Claim("retrieval", "nearest neighbours in the 4096-d last hidden layer are semantically alike", "§6.1, Fig. 4",
          "qualitative", "ILSVRC", _paper("qualitative", "§6.1 and figure 4"), why=_OF_CHECKPOINTS,
          command=f"{_SWEEP} --ablations=views --workdir={r.FIVE.workdir} && python -m experiments.retrieval "
                  f"--workdir={r.FIVE.workdir} --record=experiments/results/retrieval", checkpoints="views"),

    # The logs' runs beyond the paper. The older variants differ from run 145 in more than their descriptions say.
    _of_log("150", Measure("columns.no_exchange", (_A10, _B, *r.SHORT), also=("none_exchanged", "separate", "none"))),
    _not_built("120"), _not_built("131"), _not_built("135"),
    _of_log("132", Measure("columns.exchange_conv4", r.SHORT, sign=1, also=("exchange_at_conv4", "conv4"),
                           says="worse than run 131, no number"), together=("133",)),
    _of_log("127", Measure("columns.no_exchange_conv3", r.SHORT, sign=1, also=("none_at_conv3",),
                           says="significantly worse, no number")),
    _not_built("128"),
    _of_log("166", Measure("lrn.lrn_before_relu", r.SHORT, local=False, also=("before_relu",))),
    _of_log("167", Measure("lrn.lrn_first", (_A10, _B, *r.SHORT), sign=0, local=False, also=(
        "lrn_first_only", "first_only", "first", "lrn_1", "lrn1"))),
    _of_log("169", together=("170", "171", "174"), why="no measurement: they are the log's own noise"),
    _of_log("170-quant", why="no measurement: sending quantised values is not built"),
    _of_log("177", command=f"{_FULL} --config.model.dropout_layers=\"('conv4','fc6','fc7')\" --workdir=runs/177",
            cost=1),
    _of_log("145 continued", why="no measurement: needs ILSVRC and a rate that rises again"),
    _not_built("137"),
)}
