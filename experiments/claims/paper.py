"""The numbers of the paper and of its author's own logs, with their sources; `experiments.claims` has the claims.

Paper: Krizhevsky, Sutskever, Hinton, "ImageNet Classification with Deep Convolutional Neural Networks",
NIPS 2012. Log: the comments in `layers/layer-params-*.cfg` of the released source. Errors are in percent,
top-1/top-5, differences in percentage points. Each number is written once: differences between logged
runs are computed from the runs.
"""

from __future__ import annotations

import dataclasses

from experiments.analysis.text import signed

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
    """A number as given by its source: `text` for display, top-1 and top-5 (percent or points) if given.

    `where` is the place in `source`: a section, or the runs of a log.
    """

    text: str
    where: str
    source: str
    top1: float | None = None
    top5: float | None = None


@dataclasses.dataclass(frozen=True)
class LogRun:
    """One run of the author's logs; `base` is the run (or the runs, for their mean) that it varies.

    `digits`: after the point, as logged.
    """

    run: str
    what: str
    top1: float | None = None
    top5: float | None = None
    protocol: str = VAL_2012
    base: tuple[str, ...] = ("145",)
    source: str = LOG
    digits: int = 3

    @property
    def errors(self) -> str:
        """top-1/top-5 as logged: 40.60/18.11."""
        return f"{self.top1:.{self.digits}f}/{self.top5:.{self.digits}f}"


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
    LogRun("166", "conv2's normalisation below its ReLU", 41.10, 18.67, base=SCHEDULES, digits=2),
    LogRun("166 centre", "conv2's normalisation below its ReLU", 42.86, 20.10, VAL_2012_CENTRE, (), digits=2),
    LogRun("167", "no normalisation on conv2", 40.49, 18.12, base=SCHEDULES, digits=2),
    LogRun("167 centre", "no normalisation on conv2", 42.68, 19.76, VAL_2012_CENTRE, (), digits=2),
    LogRun("169", "one of four near-identical learning-rate schedules", 40.60, 18.11, base=(), digits=2),
    LogRun("170", "one of four near-identical learning-rate schedules", 40.53, 18.05, base=(), digits=2),
    LogRun("171", "one of four near-identical learning-rate schedules", 40.42, 18.14, base=(), digits=2),
    LogRun("174", "one of four near-identical learning-rate schedules", 40.44, 18.04, base=(), digits=2),
    LogRun("170-quant", "halves sent between columns quantised", 40.52, 18.42, base=("170",), digits=2),
    LogRun("177", "dropout on conv4", 40.69, 18.30, base=SCHEDULES, digits=2),
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
    # The mean of four runs has a digit more than each.
    digits = max(LOG_RUNS[name].digits for name in (run, *base)) if len(base) == 1 else 3
    text = "/".join(signed(d, digits) for d in differences)
    return Value(text, f"run {run} against {against}: {LOG_RUNS[run].what}", LOG, *differences)


COMPETITORS = (
    ("sparse coding", "ILSVRC-2010 test", Value("47.1/28.2", "table 1", PAPER, 47.1, 28.2)),
    ("SIFT + Fisher vectors", "ILSVRC-2010 test", Value("45.7/25.7", "table 1", PAPER, 45.7, 25.7)),
    ("SIFT + Fisher vectors", "ILSVRC-2012 test", Value("top-5 26.2", "table 2", PAPER, None, 26.2)),
)
