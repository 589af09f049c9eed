"""A row of the table of claims; its fields are the columns of CLAIMS.csv and the keys of CLAIMS.json."""

from __future__ import annotations

import dataclasses

from experiments.analysis import verdicts

SCHEMA = 1


@dataclasses.dataclass
class Row:
    """One row. Numbers are in `unit` ('points', 'ratio', 'fraction' or '')."""

    id: str  # of experiments.claims.registry
    claim: str
    where: str
    kind: str  # as in experiments.claims.record.Claim; 'log' if only the logs have it
    paper: str = ""
    log: str = ""
    claimed_on: str = ""  # the protocol of those numbers
    part: str = ""  # the part of the claim that this row is about
    regime: str = ""  # dataset size, network, epochs and schedule, in words
    in_kind: bool = False  # not the claim itself but something similar
    measured: str = ""  # '' without a measurement
    quantity: str = ""
    value: float | None = None
    low: float | None = None
    high: float | None = None
    unit: str = ""
    n: int = 0
    value_top5: float | None = None
    low_top5: float | None = None
    high_top5: float | None = None
    seed_sd: float | None = None  # of the paired differences
    evaluation_se: float | None = None  # of one run's error, from the number of images
    image_se: float | None = None  # of the difference, from the choice of images
    low_images: float | None = None  # of the interval over seeds and images
    high_images: float | None = None
    p_value: float | None = None
    p_holm: float | None = None
    comparisons: int = 0  # number of tests that p_holm corrects for: those of the family
    family: str = ""  # their description
    verdict: str = ""
    why: str = ""
    sign: int | None = None  # the first fact: the side of zero that the interval lies on; 0: it contains zero
    margin: float | None = None  # x
    inside: bool | None = None  # the second: does the interval lie within ±x?
    contains_paper: bool | None = None  # the third: does it contain the paper's size, or the log's?
    by_sign: bool = False  # is the verdict's word based on the sign?
    remark: str = ""  # where other views or other records disagree
    error: float | None = None  # the difference in the reported error, whatever the quantity
    low_error: float | None = None
    high_error: float | None = None
    error_centre: float | None = None  # the same by the centre crop
    low_centre: float | None = None
    high_centre: float | None = None
    seeds_needed: int | None = None
    at_scale: bool = True  # False: measured on ILSVRC itself, or counted
    source: str = ""  # the recorded result's folder
    dataset: str = ""
    train_split: str = ""
    eval_split: str = ""
    resolution: str = ""
    seeds: str = ""
    epochs: str = ""
    device: str = ""
    revision: str = ""  # of the code; several if a row's runs were made over time
    cost_core_hours: float | None = None
    command: str = ""
    estimate: str = ""  # the command's cost, if nothing is measured

    @property
    def starred(self) -> bool:
        """Does the verdict fail Holm's correction?"""
        return verdicts.starred(self.verdict, self.by_sign, self.p_holm)
