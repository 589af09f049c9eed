"""The fields of a claim's record: `Claim`, with a `Measure` for each way of measuring it, in `Regime`s.

The records are in `experiments.claims.registry`. To add a claim, add one `Claim(...)` there: rows, tables, reports and
commands follow from it.
"""

from __future__ import annotations

import dataclasses
import pathlib
import re
from collections.abc import Callable, Mapping

from experiments.analysis import verdicts
from experiments.analysis.families import Family
from experiments.analysis.text import signed
from experiments.claims.paper import Value, log_difference


@dataclasses.dataclass(frozen=True)
class Regime:
    """Dataset size, network, epochs and schedule that a claim is measured in.

    Attributes:
      name: in words.
      records: folders of experiments/results with its runs. A pair's runs come from one record, the first with both.
      sweep: the file that makes the runs.
      whole: does its command run the whole sweep, rather than one ablation?
      seeds: number of planned seeds; verdicts are preliminary until they are complete. 0: any number.
      family: declared by a plan; None: each sweep's own (`experiments.analysis.families`).
    """

    name: str
    records: tuple[str, ...]
    sweep: str
    whole: bool = False
    seeds: int = 0
    family: Family | None = None

    @property
    def workdir(self) -> str:
        return f"runs/{pathlib.PurePath(self.sweep).stem}"


@dataclasses.dataclass(frozen=True)
class Measure:
    """A way of measuring a claim.

    Attributes:
      arm: `ablation.name` of the catalogue: the arm that is compared with its reference.
      regimes: the regimes that it is measured in, the claim's own first; each has its own row.
      quantity: one of `experiments.analysis.compare`.
      turned: the claim is about what the arm removes, so the row has reference − arm (the ratio reference ÷ arm).
      sign: of the claimed difference, or 0 (no difference), if the claim has no size; None: the claim's size.
      margin: x of ±x, in points.
      ratio: the claimed ratio of `epochs`.
      part: the part of the claim that this is about.
      words, paper: the claim and the paper's number, if this measure is about only a part of them.
      says: what the paper or the log says about the arm, if that isn't a difference in error.
      also: other names of the arm.
      local: for cuda-convnet's conv-local networks (True), for others (False), for any (None).
      in_kind: not the claim itself but something similar: no row unless it is measured.
      own_rate: why an arm without a searched learning rate is not comparable; '' if it is.
      with_field: (a field, the row's text if the reference's config has it set).
    """

    arm: str
    regimes: tuple[Regime, ...] = ()
    quantity: str = "error"
    turned: bool = False
    sign: int | None = None
    margin: float = verdicts.SMALLEST
    ratio: float = 0.0
    part: str = ""
    words: str = ""
    paper: str = ""
    says: str = ""
    also: tuple[str, ...] = ()
    local: bool | None = None
    in_kind: bool = False
    own_rate: str = ""
    with_field: tuple[str, str] | None = None

    @property
    def ablation(self) -> str:
        return self.arm.partition(".")[0]

    @property
    def name(self) -> str:
        return self.arm.partition(".")[2]

    def is_of(self, ablation: str, arm: str, local: bool = False) -> bool:
        """Is it about this arm of a sweep? Case and hyphens are ignored, and the arm may be prefixed with its ablation
        ('lrn_none'); an arm defined in a sweep file has no ablation ('') and must have the name itself."""
        if self.local not in (None, local):
            return False
        key, name = _normal(ablation), _normal(arm)
        if not key:
            return name == self.name
        return key == self.ablation and bool({name, name.removeprefix(f"{key}_")} & {self.name, *self.also})


def _normal(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")


@dataclasses.dataclass(frozen=True)
class Claim:
    """A claim of the paper, or a run of its author's logs.

    Attributes:
      id: short; of a run of the logs 'log-' and its name.
      claim: in words. where: its place in the paper.
      kind: difference (points), ratio, level (percent), count, qualitative, or log.
      protocol: of the paper's and the log's numbers.
      paper, log: their numbers, with the claim's sign.
      logged: the run of the logs with the arm's difference, which may be `log` with the opposite sign.
      measures: how it is measured; empty if no arm does.
      counted: returns (measured in words, number, verdict, command), for claims verified by counting.
      why: the reason why there is no number, if nothing is recorded.
      command: the command that would make one. cost: in words, or a number of full trainings on ILSVRC.
      checkpoints: the ablation of configs/sweeps/claims_cifar10.py whose runs' checkpoints the command needs; '' for
        none.
    """

    id: str
    claim: str
    where: str
    kind: str
    protocol: str
    paper: Value | None = None
    log: Value | None = None
    logged: str = ""
    measures: tuple[Measure, ...] = ()
    counted: Callable[[], tuple[str, float, verdicts.Verdict, str]] | None = None
    why: str = ""
    command: str = ""
    cost: str | int = ""
    checkpoints: str = ""

    def claimed(self, what: Measure) -> verdicts.Claimed:
        """What a measure is judged against: the paper's size, else the log's, with the claim's sign; else a sign."""
        if what.sign is None:
            source, whose = (self.paper, "the paper's") if self.paper is not None else (self.log, "the log's")
            size = source.top1 if source is not None else None
            if size is None:
                raise ValueError(f"{self.id}: no size is claimed, so its measure needs a sign")
            return verdicts.Claimed(1 if size > 0 else -1, size, what.margin, whose)
        size = self.log.top1 if not what.sign and self.log is not None else None
        return verdicts.Claimed(what.sign, size, what.margin, "the log's")


@dataclasses.dataclass(frozen=True)
class OfArm:
    """What paper and log say about an arm of a sweep, as *arm − reference*."""

    claim: Claim
    measure: Measure
    paper: Value | None
    log: Value | None

    @property
    def id(self) -> str:
        """The id of the paper's claim; '' if only the logs have it."""
        return "" if self.claim.kind == "log" else self.claim.id

    @property
    def where(self) -> str:
        return f"log {self.claim.logged}" if self.claim.kind == "log" else self.claim.where

    @property
    def claimed(self) -> verdicts.Claimed | None:
        """The claimed difference in error; None if the claim is about something else."""
        if self.measure.quantity != "error" or self.measure.in_kind:
            return None
        claimed = self.claim.claimed(self.measure)
        return claimed.turned() if self.measure.turned else claimed


def of_arm(claims: Mapping[str, Claim], ablation: str, arm: str, local: bool = False) -> OfArm | None:
    """The claim about an arm; None if neither the paper nor its author's logs have it.

    Args:
      ablation, arm: names in the sweep. local: does the sweep have cuda-convnet's conv-local networks?
    """
    matching = [(claim, what) for claim in claims.values() for what in claim.measures
                if what.is_of(ablation, arm, local) and (what.says or not what.in_kind)]
    if not matching:
        return None
    claim, what = min(matching, key=lambda pair: (pair[1].quantity != "error", not pair[1].says))
    paper = claim.paper and dataclasses.replace(_of_the_arm(claim.paper, what), where=claim.where)
    if claim.log is None or claim.log.top1 is not None:
        return OfArm(claim, what, paper, log_difference(claim.logged) if claim.log and claim.logged else None)
    return OfArm(claim, what, paper, _of_the_arm(claim.log, what) if claim.kind == "log" else None)


def _of_the_arm(value: Value, what: Measure) -> Value:
    """A claim's number as arm − reference, or what it says about the arm."""
    if what.quantity != "error" or what.sign:
        return Value(what.says or value.text, value.where, value.source)
    difference = turned(value, 1) if what.turned else value
    return dataclasses.replace(difference, text=what.says or difference.text)


def turned(value: Value, digits: int) -> Value:
    """A difference with the opposite sign."""
    numbers = [None if number is None else -number for number in (value.top1, value.top5)]
    text = "/".join(signed(number, digits) for number in numbers if number is not None)
    return Value(text, value.where, value.source, *numbers)
