"""The parts, in order of worth."""

from __future__ import annotations

from typing import NamedTuple


class Part(NamedTuple):
    """A module of this folder with `run(context)` (`context.Context`), in which JAX may be imported: a process's own.

    name: of the module and of FOLDER/name.json. what: it tells, in a few words. seconds: it takes on a card; while
    others wait for their turn it is cut off after these, and resumes when they have had theirs. rest: it takes all the
    time that there is, and so comes last. module: where it isn't `name` in this folder.
    """

    name: str
    what: str
    seconds: float
    rest: bool = False
    module: str = ""


MACHINE = Part("machine", "which device, and what computes on it", 60)
PARTS: tuple[Part, ...] = (
    Part("right", "does it compute what a CPU does?", 240),
    Part("fast", "how fast it is beside PyTorch", 240),
    Part("what_for", "the evidence sweeps that are still open", 150, rest=True),
)
