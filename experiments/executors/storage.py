"""The paths that every node of a cluster has to see, and the check that it does."""

from __future__ import annotations

import contextlib
import os
import pathlib
import sys
import time
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from alexnet_jax import paths as paths_lib
from alexnet_jax.data import store
from alexnet_jax.errors import WorkdirError

_NAMES = 100  # of a folder's, that a node must see there too
_OLD = 86400.0  # seconds after which a killed driver's token is removed


def paths(workdir: pathlib.Path, configs: Sequence[Mapping[str, Any]], root: pathlib.Path) -> dict[str, list[Any]]:
    """What it is called → [path, names in it (None: a file)], of all that exists here; makes the store's folder."""
    found = {"the project": root, "python": pathlib.Path(sys.executable), "--workdir": workdir}
    folders = {(config["data"]["dir"] or os.environ.get("ALEXNET_DATA_DIR", ""), config["data"]["store"])
               for config in configs}
    weights = sorted({config["init"]["weights"] for config in configs if config.get("init")} - {""})
    found |= {f"config.init.weights ({path})": pathlib.Path(path) for path in weights}
    for data, packed in sorted(folders):
        if data and not found.get("config.data.dir"):
            found["config.data.dir"] = paths_lib.given(data, "config.data.dir")
        place = store.root(packed)
        with contextlib.suppress(OSError):  # said in more words when it is used
            place.mkdir(parents=True, exist_ok=True)
        found["config.data.store"] = place
    return {what: [str(path.absolute()), _names(path)] for what, path in found.items() if path.exists()}


def _names(path: pathlib.Path) -> list[str] | None:
    # Names with a dot are locks and the like, which come and go.
    return sorted(p.name for p in path.iterdir() if not p.name.startswith("."))[:_NAMES] if path.is_dir() else None


class Token:
    """A file in the workdir by which a node recognises it. Contains `content`; removed by `remove`."""

    def __init__(self, workdir: pathlib.Path):
        for old in workdir.glob(".cluster-*"):
            with contextlib.suppress(OSError):
                if time.time() - old.stat().st_mtime > _OLD:
                    old.unlink()
        self.content = uuid.uuid4().hex
        self.path = workdir / f".cluster-{self.content}"
        self.path.write_text(self.content, encoding="utf-8")

    def check_answer(self, node: str, address: str) -> None:
        """Raises WorkdirError if a file that a node has written to the workdir isn't visible here."""
        answer = self.path.with_name(f"{self.path.name}.{node}")
        for _ in range(50):  # a network file system may take a moment
            if answer.exists():
                answer.unlink(missing_ok=True)
                return
            time.sleep(0.1)
        raise WorkdirError(f"--workdir: what node {address} writes to {self.path.parent} is not seen here; "
                           "choose a folder on a file system that all nodes share")

    def remove(self) -> None:
        for path in self.path.parent.glob(f"{self.path.name}*"):  # with late answers
            with contextlib.suppress(OSError):
                path.unlink()
