"""The state of a run between two steps, as checkpoints save and restore it."""

from __future__ import annotations

import dataclasses
import math
import pathlib
import time
from collections.abc import Callable
from typing import Any

import jax
from ml_collections import ConfigDict

from alexnet_jax.training import optim
from alexnet_jax.training.checkpoint import Checkpoints
from alexnet_jax.training.program import Program, State, Sums


@dataclasses.dataclass
class Standing:
    """The host's part of a run's state: a checkpoint's JSON.

    step: updates done. evaluated: the step of the newest row of metrics.csv. centre: COUNTS of that evaluation.
    outcomes: `run_files.packed_outcomes` of the reported images, by views.
    """

    step: int = 0
    evaluated: int = 0
    centre: dict[str, Any] | None = None
    outcomes: dict[str, dict] = dataclasses.field(default_factory=dict)
    plateau: optim.Plateau = dataclasses.field(default_factory=optim.Plateau)

    @property
    def moment(self) -> tuple[int, int]:
        """Differs between any two checkpoints of a run."""
        return self.step, self.evaluated

    def to_json(self) -> dict[str, Any]:
        plateau = {name: None if value == math.inf else value for name, value in vars(self.plateau).items()}
        return {**vars(self), "plateau": plateau}  # JSON has no infinity

    @classmethod
    def from_json(cls, host: dict[str, Any]) -> Standing:
        kept = host["plateau"]
        best = math.inf if kept["best"] is None else kept["best"]
        return cls(host["step"], host["evaluated"], host["centre"], host.get("outcomes", {}),  # older ones have none
                   optim.Plateau(best, kept["waited"], kept["drops"]))


def like(program: Program) -> dict[str, Any]:
    """The arrays of a checkpoint as `jax.ShapeDtypeStruct`, with the shardings of `program`."""
    def shapes(tree, shardings):
        return jax.tree.map(lambda x, sharding: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), tree,
                            shardings)

    state = jax.eval_shape(program.init, jax.ShapeDtypeStruct((), "uint32"))
    sums = program.zero_sums()
    return _arrays(shapes(state, program.state_shardings), shapes(sums, jax.tree.map(lambda x: x.sharding, sums)))


def _arrays(state: State, sums: Sums) -> dict[str, Any]:
    return {"state": state._asdict(), "sums": sums._asdict()}


class Saves:
    """Saves and restores the states of one run.

    Args:
      folder: of its checkpoints. program: the run's.
    """

    def __init__(self, folder: pathlib.Path, config: ConfigDict, program: Program):
        self._checkpoints = Checkpoints(folder, config.checkpoint.keep)
        self._program, self._seconds = program, config.checkpoint.every_seconds
        self._saved_at, self._newest = time.monotonic(), (0, -1)

    def restore(self, say: Callable[[str], None], foreign: Callable[[dict[str, Any]], str]
                ) -> tuple[State, Sums, Standing] | None:
        """The newest state that can be read; None if there is none. Arguments and errors: `Checkpoints.restore`."""
        found = self._checkpoints.restore(like(self._program), say, foreign)
        if found is None:
            return None
        arrays, host = found
        standing = Standing.from_json(host)
        self._newest = standing.moment
        return State(**arrays["state"]), Sums(**arrays["sums"]), standing

    def save(self, state: State, sums: Sums, standing: Standing) -> None:
        """Starts to write a checkpoint. Raises CheckpointError."""
        with jax.transfer_guard("allow"):  # Orbax transfers arrays implicitly
            self._checkpoints.save(standing.step, _arrays(state, sums), standing.to_json())
        self._saved_at, self._newest = time.monotonic(), standing.moment

    def has(self, standing: Standing) -> bool:
        """Is the newest checkpoint of this moment? Saving it again would for a while leave one checkpoint fewer."""
        return self._newest == standing.moment

    def due(self) -> bool:
        """Is it time for another, by the clock?"""
        return time.monotonic() - self._saved_at > self._seconds

    def wait(self) -> None:
        """Returns when everything is on disk. Raises CheckpointError."""
        self._checkpoints.wait()

    def close(self) -> None:
        self._checkpoints.close()
