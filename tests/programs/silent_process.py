"""One of two processes that stops responding, or leaves, while the other waits for it: PORT PROCESS WAY FILE."""

import os
import pathlib
import signal
import sys
import time

from alexnet_jax import commands
from alexnet_jax.parallel import distributed

port, process, way, file = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], pathlib.Path(sys.argv[4])
if way in ("the second stops", "the first is gone"):  # however soon it is found out
    distributed._HEARTBEAT = 2
elif "aborts" in way:
    distributed._HEARTBEAT = 6


def leaving():
    file.touch()
    signal.pause()  # the whole heartbeat long


def main() -> int:
    distributed.start(distributed.Place(f"localhost:{port}", 2, process))
    if (process, way) == (0, "the first is gone"):
        os._exit(3)
    if (process, way) == (1, "the second stops"):
        os.kill(os.getpid(), signal.SIGSTOP)
    if way == "the second aborts, the first is leaving":
        if process == 1:
            while not file.exists():
                time.sleep(0.02)
            os.kill(os.getpid(), signal.SIGABRT)  # or abort(), which would end it whatever a handler does
            os._exit(0)
        distributed.several = leaving  # type: ignore[assignment]  # what `leave` asks next
        distributed.leave(4)
    if way == "both leave, the second late":
        time.sleep(2 * process)
        distributed.leave(5, together=True)
    signal.pause()
    return 0


commands.run_main(main)
