"""What the paper claims and what its author's own logs say, as data with their sources.

Paper: Krizhevsky, Sutskever, Hinton, "ImageNet Classification with Deep Convolutional Neural Networks",
NIPS 2012. Log: the comments in `layers/layer-params-*.cfg` of the released source. Errors are in percent,
top-1/top-5, differences in percentage points. Each number is written once: differences between logged
runs are computed from the runs.
"""

from __future__ import annotations

import dataclasses
import re

PAPER = "Krizhevsky et al., NIPS 2012"
LOG = "comments in layers/layer-params-*.cfg of the released source"
VAL_2012 = "ILSVRC-2012 validation, ten views"
UNSAID = "ILSVRC; the paper doesn't say which images or views"
VAL_2012_CENTRE = "ILSVRC-2012 validation, centre crop"
TEST_2010 = "ILSVRC-2010 test, ten views"
TEST_2010_CENTRE = "ILSVRC-2010 test, centre crop"
CIFAR = "CIFAR-10, four-layer network"


@dataclasses.dataclass(frozen=True)
class Value:
    """A number as its source has it: `text` for reading, top-1 and top-5 (percent or points) where given.

    `where` is the place in `source`: a section, or the runs of a log.
    """

    text: str
    where: str
    source: str
    top1: float | None = None
    top5: float | None = None


@dataclasses.dataclass(frozen=True)
class LogRun:
    """One run of the author's logs; `base` is the run (or runs, meant as their mean) that it varies."""

    run: str
    what: str
    top1: float | None = None
    top5: float | None = None
    protocol: str = VAL_2012
    base: tuple[str, ...] = ("145",)
    source: str = LOG


# 166, 167 and 169-177 vary #153/#159 (annealed rates, about 95 epochs), not #145; the four schedules
# 169, 170, 171 and 174 stand for that base. 170 and 174 restart from 169's epoch 23-24.
SCHEDULES = ("169", "170", "171", "174")

LOG_RUNS: dict[str, LogRun] = {r.run: r for r in (
    LogRun("145", "the network of the paper", 40.664, 18.210, base=()),
    LogRun("145-2010", "the network of the paper", 37.473, 16.999, TEST_2010, base=()),
    LogRun("145-2010 centre", "the same by its centre crops", 39.025, 18.295, TEST_2010_CENTRE,
           ("145-2010",)),
    LogRun("145-half", "one GPU, half the kernels, conv5 kept", 39.168, 18.229, TEST_2010, ("145-2010",)),
    LogRun("146-2012-2011", "a sixth conv layer, pre-trained on Fall 2011", 38.990, 16.622),
    LogRun("147", "2/2 pooling, sizes kept equal by conv2 pad 1, conv5 pad 0", 41.058, 18.510),
    LogRun("148", "no response normalisation and no same-map norm", 42.034, 19.362),
    LogRun("150", "no communication between columns at all; conv2 160, fc6 4096 a column", 41.828, 19.330),
    LogRun("120", "older variant: LRN1 after ReLU and pool", 41.044, 18.714),
    LogRun("131", "older variant: LRN1 directly on conv1", 40.934, 18.574),
    LogRun("135", "older variant: LRN1 directly on conv1, k = 2", 41.070, 18.416),
    LogRun("132", "columns talk before conv4 instead of conv3: worse than 131", base=("120",)),
    LogRun("133", "columns talk before conv4 instead of conv3: worse than 131", base=("131",)),
    LogRun("127", "no exchange at conv3 with wider layers: significantly worse", base=("120",)),
    LogRun("128", "narrower columns that talk more: on hold", base=()),
    LogRun("166", "conv2's normalisation below its ReLU", 41.10, 18.67, base=SCHEDULES),
    LogRun("166 centre", "conv2's normalisation below its ReLU", 42.86, 20.10, VAL_2012_CENTRE, ()),
    LogRun("167", "no normalisation on conv2", 40.49, 18.12, base=SCHEDULES),
    LogRun("167 centre", "no normalisation on conv2", 42.68, 19.76, VAL_2012_CENTRE, ()),
    LogRun("169", "one of four near-identical learning-rate schedules", 40.60, 18.11, base=()),
    LogRun("170", "one of four near-identical learning-rate schedules", 40.53, 18.05, base=()),
    LogRun("171", "one of four near-identical learning-rate schedules", 40.42, 18.14, base=()),
    LogRun("174", "one of four near-identical learning-rate schedules", 40.44, 18.04, base=()),
    LogRun("170-quant", "halves sent between columns quantised", 40.52, 18.42, base=("170",)),
    LogRun("177", "dropout on conv4", 40.69, 18.30, base=SCHEDULES),
    LogRun("145 continued", "rate raised again to epoch 135", 40.250, 17.994),
    LogRun("137", "with a low-resolution blurred path", 37.617, 17.125, TEST_2010, ("145-2010",)),
)}


# Standard deviation of one logged run, top-1 and top-5, from those four: a lower bound, as they share early
# epochs.
LOG_NOISE = (0.08, 0.05)


def log_difference(run: str, base: tuple[str, ...] = ()) -> Value:
    """`run` minus the mean of `base` (default: its own base), in points. KeyError if it isn't in the logs."""
    base = base or LOG_RUNS[run].base
    differences = []
    for part in ("top1", "top5"):
        here, there = getattr(LOG_RUNS[run], part), [getattr(LOG_RUNS[b], part) for b in base]
        if here is None or not there or None in there:
            raise KeyError(f"run {run} or its base has no logged error")
        differences.append(round(here - sum(there) / len(there), 4))
    against = base[0] if len(base) == 1 else f"the mean of {', '.join(base)}"
    text = "/".join(signed(d, 3) for d in differences)
    return Value(text, f"run {run} against {against}: {LOG_RUNS[run].what}", LOG, *differences)


def signed(value: float, digits: int) -> str:
    """+1.40, −0.30, 0.00: a real minus sign, and no sign on what rounds to zero."""
    text = f"{value:+.{digits}f}"
    return text[1:] if float(text) == 0 else text.replace("-", "−")


def span(low: float | None, high: float | None) -> str:
    """[−2.01, −0.79]; empty without an interval."""
    return "" if low is None or high is None else f"[{signed(low, 2)}, {signed(high, 2)}]"


def with_span(mean: float, low: float | None, high: float | None, n: int) -> str:
    """−1.40 [−2.01, −0.79]; a mean without an interval says why it has none."""
    return f"{signed(mean, 2)} {span(low, high) or ('(one seed)' if n == 1 else '(no interval)')}"


@dataclasses.dataclass(frozen=True)
class Claim:
    """One row. `direction`: what the named thing does to the quantity (lower, higher, faster, slower),
    'level' for a plain number, 'seen' for something to look at. `kind`: difference (points), ratio, level
    (percent), count or qualitative."""

    id: str
    claim: str
    where: str
    kind: str
    direction: str
    protocol: str
    paper: Value | None = None
    log: Value | None = None


def _paper(text: str, where: str, top1: float | None = None, top5: float | None = None) -> Value:
    return Value(text, where, PAPER, top1, top5)


def _logged(run: str) -> Value:
    r = LOG_RUNS[run]
    return Value(f"{r.top1:.3f}/{r.top5:.3f}", f"run {run}", LOG, r.top1, r.top5)


CLAIMS: dict[str, Claim] = {c.id: c for c in (
    Claim("relu", "ReLUs reach 25% training error several times faster than tanh; rates chosen separately, "
          "no regularisation", "§3.1, Fig. 1", "ratio", "faster", CIFAR, _paper("6×", "§3.1 and figure 1")),
    Claim("columns", "two-GPU net against one GPU with half the kernels in each conv layer (conv5 kept as "
          "wide as two)", "§3.2", "difference", "lower", TEST_2010, _paper("−1.7/−1.2", "§3.2", -1.7, -1.2),
          log_difference("145-2010", ("145-half",))),
    Claim("lrn", "with response normalisation against without", "§3.3", "difference", "lower", VAL_2012,
          _paper("−1.4/−1.2", "§3.3", -1.4, -1.2), log_difference("145", ("148",))),
    Claim("lrn-cifar", "13% test error without normalisation, 11% with", "§3.3", "difference", "lower", CIFAR,
          _paper("13 → 11", "§3.3", -2.0),
          Value("13 → 11", "layers-conv-local-13pct and -11pct", "layer files of the released source")),
    Claim("overlap", "pooling z=3, s=2 against z=2, s=2 giving equal output sizes", "§3.4", "difference",
          "lower", VAL_2012, _paper("−0.4/−0.3", "§3.4", -0.4, -0.3), log_difference("145", ("147",))),
    Claim("crops", "ten views against the centre crop", "§4.1", "difference", "lower", "ILSVRC-2010 test",
          _paper("39.0/18.3 → 37.5/17.0", "§4.1", -1.5, -1.3),
          log_difference("145-2010", ("145-2010 centre",))),
    Claim("pca", "colour augmentation along the principal components", "§4.1", "difference", "lower",
          UNSAID, _paper("top-1 by over 1", "§4.1", -1.0)),
    Claim("crop-flip", "without crops and mirrors the network overfits substantially", "§4.1", "qualitative",
          "lower", "ILSVRC", _paper("qualitative", "§4.1")),
    Claim("dropout", "without dropout substantial overfitting; with it about twice the iterations to "
          "converge", "§4.2", "qualitative", "lower", "ILSVRC",
          _paper("qualitative; 2× the iterations", "§4.2")),
    Claim("depth", "removing any middle layer costs about 2 points", "§7", "difference", "higher", UNSAID,
          _paper("top-1 about +2", "§7", 2.0)),
    Claim("2010", "one network, ILSVRC-2010 test", "Table 1", "level", "level", TEST_2010,
          _paper("37.5/17.0", "table 1", 37.5, 17.0), _logged("145-2010")),
    Claim("2012", "one network, ILSVRC-2012 validation", "Table 2", "level", "level", VAL_2012,
          _paper("40.7/18.2", "table 2", 40.7, 18.2), _logged("145")),
    Claim("2012-5", "five networks averaged", "Table 2", "level", "level", VAL_2012,
          _paper("40.7/18.2 → 38.1/16.4 (test 16.4)", "table 2", 38.1, 16.4)),
    Claim("2012-pre", "one network with a sixth conv layer, pre-trained on Fall 2011", "Table 2", "level",
          "level", VAL_2012, _paper("39.0/16.6", "table 2", 39.0, 16.6), _logged("146-2012-2011")),
    Claim("2012-7", "seven networks averaged, two of them pre-trained", "Table 2", "level", "level", VAL_2012,
          _paper("36.7/15.4 (test 15.3)", "table 2", 36.7, 15.4)),
    Claim("size", "parameters and neurons", "abstract", "count", "level", "the 1000-class network",
          _paper("60 million parameters, 650,000 neurons", "abstract"),
          Value("60,965,224 parameters; 659,272 neurons with 55²·96 = 290,400 in conv1, 622,312 with the "
                "figure's own 253,440 for it", "counted", "layer files of the released source")),
    Claim("time", "time to train 90 epochs", "§5", "count", "level", "two GTX 580, ILSVRC training images",
          _paper("5 to 6 days", "§5")),
    Claim("decay", "weight decay lowers the training error, not only the test error", "§5", "qualitative",
          "lower", "ILSVRC", _paper("qualitative", "§5")),
    Claim("bias-init", "biases of 1 speed up early learning", "§5", "qualitative", "faster", "ILSVRC",
          _paper("qualitative", "§5")),
    Claim("overlap-fit", "overlapping pooling makes it slightly harder to overfit", "§3.4", "qualitative",
          "lower", "ILSVRC", _paper("qualitative", "§3.4")),
    Claim("two-gpu-time", "the two-GPU net takes slightly less time to train than the one-GPU net", "§3.2",
          "qualitative", "faster", "two GTX 580", _paper("qualitative", "§3.2")),
    Claim("kernels", "first-layer kernels: one column colour-agnostic, the other colour-specific, in every "
          "run", "§6.1, Fig. 3", "qualitative", "seen", "ILSVRC", _paper("qualitative", "§6.1 and figure 3")),
    Claim("retrieval", "nearest neighbours in the 4096-d last hidden layer are semantically alike",
          "§6.1, Fig. 4", "qualitative", "seen", "ILSVRC", _paper("qualitative", "§6.1 and figure 4")),
)}

COMPETITORS = (
    ("sparse coding", "ILSVRC-2010 test", _paper("47.1/28.2", "table 1", 47.1, 28.2)),
    ("SIFT + Fisher vectors", "ILSVRC-2010 test", _paper("45.7/25.7", "table 1", 45.7, 25.7)),
    ("SIFT + Fisher vectors", "ILSVRC-2012 test", _paper("top-5 26.2", "table 2", None, 26.2)),
)


@dataclasses.dataclass(frozen=True)
class Effect:
    """What paper and log lead one to expect of an arm, as *arm minus baseline*.

    `names`: the arm's name and its aliases. Where the paper gives no error difference, `paper.text` says
    what it does give. `protocol` is that of the numbers.
    """

    ablation: str
    names: tuple[str, ...]
    claim: str  # id in CLAIMS, or '' where only the logs have it
    where: str
    protocol: str
    paper: Value | None = None
    log: Value | None = None
    run: str = ""  # of LOG_RUNS, where only the logs have it
    local: bool = False  # of cuda-convnet's conv-local networks; else of the paper's own

    @property
    def reference(self) -> Value | None:
        """What a verdict compares with: the paper's difference, else the log's; None without a number.

        A logged difference within three standard deviations of the logs' own noise isn't an effect.
        """
        if self.paper is not None and self.paper.top1 is not None:
            return self.paper
        if self.log is not None and self.log.top1 is not None and abs(self.log.top1) > 3 * LOG_NOISE[0]:
            return self.log
        return None


def _reverse(claim_id: str, run: str, ablation: str, *names: str) -> Effect:
    """An arm that takes away what a claim adds: the paper's number, sign turned, and the log's `run`."""
    claim = CLAIMS[claim_id]
    assert claim.paper is not None
    gains = [v for v in (claim.paper.top1, claim.paper.top5) if v is not None]
    paper = _paper("/".join(signed(-v, 1) for v in gains), claim.where, *(-v for v in gains))
    return Effect(ablation, names, claim_id, claim.where, claim.protocol, paper, log_difference(run))


def _from_log(run: str, ablation: str, *names: str) -> Effect:
    return Effect(ablation, names, "", f"log {run}", LOG_RUNS[run].protocol, None, log_difference(run), run)


def _words(claim_id: str, text: str, ablation: str, *names: str) -> Effect:
    claim = CLAIMS[claim_id]
    return Effect(ablation, names, claim_id, claim.where, claim.protocol, _paper(text, claim.where))


_DEPTH = CLAIMS["depth"]
EFFECTS: tuple[Effect, ...] = (
    _reverse("lrn", "148", "lrn", "no_lrn", "none", "without", "off"),
    _from_log("167", "lrn", "lrn_first", "lrn_first_only", "first_only", "first", "lrn_1", "lrn1"),
    _from_log("166", "lrn", "lrn_before_relu", "before_relu"),
    _reverse("overlap", "147", "pooling", "nonoverlapping", "non_overlapping", "no_overlap", "pool_2_2",
             "pool_2x2", "pool22", "pooling"),
    _words("relu", "six times slower to 25% training error", "activation", "tanh", "activation"),
    _reverse("columns", "145-half", "columns", "one_column", "one", "half", "half_width", "one_half",
             "one_half_width", "single_column", "one_column_half"),
    _from_log("150", "columns", "no_exchange", "none_exchanged", "separate", "none"),
    Effect("columns", ("exchange_conv4", "exchange_at_conv4", "conv4"), "", "log 133", VAL_2012, None,
           Value("worse than run 131, no number", "runs 132 and 133", LOG), "132"),
    Effect("columns", ("no_exchange_conv3", "none_at_conv3"), "", "log 127", VAL_2012, None,
           Value("significantly worse, no number", "run 127", LOG), "127"),
    _words("dropout", "substantial overfitting; half the iterations to converge", "dropout", "no_dropout",
           "none"),
    Effect("pca", ("no_pca", "none"), "pca", "§4.1", UNSAID, _paper("top-1 by over +1", "§4.1", 1.0)),
    _words("crop-flip", "substantial overfitting", "augmentation", "no_augmentation", "none", "centre_only",
           "no_crops_no_mirrors"),
    *(Effect("depth", (f"no_{layer}", f"without_{layer}"), "depth", "§7", _DEPTH.protocol, _DEPTH.paper)
      for layer in ("conv3", "conv4", "conv5")),
    _words("bias-init", "slower early learning", "bias_init", "zero_bias", "bias_0", "zero", "no_bias_init",
           "biases_0"),
    _words("decay", "a higher training error", "decay", "no_decay", "none", "decay_0"),
    _reverse("crops", "145-2010 centre", "views", "centre", "center"),
    *(Effect("lrn", (name,), "lrn-cifar", "§3.3", CIFAR, _paper("13 against 11", "§3.3", 2.0), local=True)
      for name in ("no_lrn", "conv_local_13")),
)


def effect(ablation: str, arm: str, local: bool = False) -> Effect | None:
    """What paper and log say of this arm, or None: they have no such arm.

    `ablation` is the catalogue's name ('lrn'), `arm` the arm's name in the sweep ('no_lrn'); case and
    hyphens don't matter, and an arm may carry its ablation as a prefix ('lrn_none'). An arm written out in
    a sweep file has no ablation (''): then the name must be the first of an effect's `names`.
    `local`: the arms are those of cuda-convnet's conv-local networks, of whose norms the paper says something else.
    """
    key, name = _normal(ablation), _normal(arm)
    effects = [e for e in EFFECTS if e.local == local or (local and e.ablation != "lrn")]
    if not key:
        return next((e for e in effects if e.names[0] == name), None)
    names = {name, name.removeprefix(f"{key}_")}
    for candidate in effects:
        if candidate.ablation == key and names & set(candidate.names):
            return candidate
    return None


def _normal(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")
