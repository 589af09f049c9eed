"""The rows of metrics.csv and timing.csv for TensorBoard, written through tensorboardX."""

from __future__ import annotations

import pathlib
import socket
import sys
import time
from collections.abc import Mapping
from typing import Any

_PREFIX = "events.out.tfevents."


class Events:
    """A new file of events; nothing where tensorboardX isn't installed.

    TensorBoard reads a folder's files in the order of their names and never goes back, so each name comes after all
    that are there, whatever the clock says.

    Args:
      last_step: the checkpoint's: what an interrupted run wrote beyond it is hidden.
    """

    def __init__(self, workdir: pathlib.Path, last_step: int):
        self._writer: Any = None
        # tensorboardX imports PyTorch where that is installed, more than a second of each run's for nothing.
        hidden = sys.modules.setdefault("torch", None) is None  # type: ignore[arg-type]
        try:
            from tensorboardX import record_writer, summary
            from tensorboardX.proto import event_pb2
        except ImportError:
            return
        finally:
            if hidden:
                del sys.modules["torch"]
        self._event, self._scalar = event_pb2.Event, summary.scalar
        self._writer = record_writer.RecordWriter(str(workdir / new_name(workdir)))
        start = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
        self._write(file_version="brain.Event:2")
        self._write(step=last_step + 1, session_log=start)
        self._writer.flush()

    def add(self, row: Mapping[str, Any]) -> None:
        if self._writer is None:
            return
        for name, value in row.items():
            if value is not None and name not in ("epoch", "step"):
                group, _, rest = name.partition("_")
                tag = f"{group}/{rest}" if group in ("train", "eval", "tune") else name
                self._write(step=row["step"], summary=self._scalar(tag, value))
        self._writer.flush()

    def _write(self, **fields: Any) -> None:
        self._writer.write(self._event(wall_time=time.time(), **fields).SerializeToString())

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()


def new_name(folder: pathlib.Path) -> str:
    """'events.out.tfevents.SECONDS.HOST', which comes after the names of all files of events in `folder`."""
    newest = max((path.name.removeprefix(_PREFIX) for path in folder.glob(f"{_PREFIX}*")), default="")
    digits = newest.partition(".")[0]
    after = str(int(digits.ljust(10, "0")) + 1) if digits.isdecimal() else ""
    names = (f"{part}.{socket.gethostname()}" for part in (f"{int(time.time()):010d}", after, newest))
    return _PREFIX + next(name for name in names if name > newest)
