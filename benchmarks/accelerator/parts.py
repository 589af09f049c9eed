"""The parts, in order of value."""

from __future__ import annotations

from typing import NamedTuple


class Part(NamedTuple):
    """A module in this folder with `run(context)` (`context.Context`), run in its own process, where it may import JAX.

    name: of the module and of FOLDER/name.json. what: a short description. seconds: its duration on a GPU; while others
    wait, it is cut off after this time and resumes after their turn. rest: it uses all remaining time, and so comes
    last. module: if it isn't `name` in this folder.
    """

    name: str
    what: str
    seconds: float
    rest: bool = False
    module: str = ""


# Usually some ten seconds; minutes where the libraries come over a network for the first time.
MACHINE = Part("machine", "which device, and what computes on it", 240)
PARTS: tuple[Part, ...] = (
    Part("right", "does it compute what a CPU does?", 240),
    Part("fast", "how fast it is beside PyTorch", 240),
    Part("what_for", "the evidence sweeps that are still open", 150, rest=True),
)
