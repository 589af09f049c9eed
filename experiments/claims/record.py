"""What a claim's record has: `Claim`, with a `Measure` for each way of measuring it, in `Regime`s.

`experiments.claims.registry` has the records. One `Claim(...)` there is a claim, and nothing else has to be touched:
rows, tables, reports and commands follow from it.
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
      records: folders of experiments/results with its runs. A pair's runs are of one record: the first that has both.
      sweep: the file that makes the runs.
      whole: is the sweep to be run whole, not an ablation of it?
      seeds: planned; no verdict before they are there. 0: as many as there are.
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
      regimes: that it is measured in, the claim's own first; each has a row of its own.
      quantity: of `experiments.analysis.compare`.
      turned: the claim speaks of what the arm takes away, so the row has reference − arm (the ratio reference ÷ arm).
      sign: of the claimed difference or 0 (no difference), where the claim has no size; None: the claim's size.
      margin: x of ±x, points.
      ratio: that the claim gives, of `epochs`.
      part: what of the claim this is about.
      words, paper: the claim and the paper's number as far as this measure is about them, where it isn't about all.
      says: what paper or log say of the arm, where that is no difference in error.
      also: other names of the arm.
      local: of cuda-convnet's conv-local networks (True), of others (False), of any (None).
      in_kind: not the claim itself but something near it: no row where it isn't measured.
      own_rate: why an arm whose learning rate wasn't searched is not comparable; '' where that makes no difference.
      with_field: (a field, what the row says where the reference's config has it set).
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
        """Is it about this arm of a sweep? Case and hyphens don't matter, and the arm may carry its ablation as a
        prefix ('lrn_none'); one that is written out in a sweep file has no ablation ('') and needs the name itself."""
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
      claim: in words; `where` in the paper it stands.
      kind: difference (points), ratio, level (percent), count, qualitative, or log.
      protocol: that the paper's and the log's numbers are of.
      paper, log: their numbers, as the claim has them.
      logged: the run of the logs whose difference is that of the arm, so maybe `log` the other way round.
      measures: how it is measured; none where no arm does.
      counted: (measured in words, number, verdict, command) of what is a matter of counting.
      why: there is no number, where nothing is recorded.
      command: that would make one, with its `cost`: in words, or so many full trainings on ILSVRC.
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
        """What a measure of it is held against: the paper's size, else the log's, as the claim has it; else a sign."""
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
    """What paper and log say of an arm of a sweep, as *arm − reference*."""

    claim: Claim
    measure: Measure
    paper: Value | None
    log: Value | None

    @property
    def id(self) -> str:
        """Of the paper's claim; '' where only the logs have it."""
        return "" if self.claim.kind == "log" else self.claim.id

    @property
    def where(self) -> str:
        return f"log {self.claim.logged}" if self.claim.kind == "log" else self.claim.where

    @property
    def claimed(self) -> verdicts.Claimed | None:
        """What a difference in error is held against; None where the claim is about something else."""
        if self.measure.quantity != "error" or self.measure.in_kind:
            return None
        found = self.claim.claimed(self.measure)
        return found.turned() if self.measure.turned else found


def of_arm(claims: Mapping[str, Claim], ablation: str, arm: str, local: bool = False) -> OfArm | None:
    """What is claimed of an arm; None where neither the paper nor its author's logs have it.

    Args:
      ablation, arm: its names in the sweep. local: is the sweep one of cuda-convnet's conv-local networks?
    """
    found = [(claim, what) for claim in claims.values() for what in claim.measures
             if what.is_of(ablation, arm, local) and (what.says or not what.in_kind)]
    if not found:
        return None
    claim, what = min(found, key=lambda pair: (pair[1].quantity != "error", not pair[1].says))  # the first of several
    paper = claim.paper and dataclasses.replace(_of_the_arm(claim.paper, what), where=claim.where)
    if claim.log is None or claim.log.top1 is not None:
        return OfArm(claim, what, paper, log_difference(claim.logged) if claim.log and claim.logged else None)
    return OfArm(claim, what, paper, _of_the_arm(claim.log, what) if claim.kind == "log" else None)


def _of_the_arm(value: Value, what: Measure) -> Value:
    """A claim's number as arm − reference, or what it says of the arm."""
    if what.quantity != "error" or what.sign:
        return Value(what.says or value.text, value.where, value.source)
    found = turned(value, 1) if what.turned else value
    return dataclasses.replace(found, text=what.says or found.text)


def turned(value: Value, digits: int) -> Value:
    """A difference the other way round."""
    numbers = [None if number is None else -number for number in (value.top1, value.top5)]
    text = "/".join(signed(number, digits) for number in numbers if number is not None)
    return Value(text, value.where, value.source, *numbers)
