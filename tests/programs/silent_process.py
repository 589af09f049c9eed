"""One of two processes stops responding while the other waits for it: PORT PROCESS WAY."""

import os
import signal
import sys

from alexnet_jax import commands
from alexnet_jax.parallel import distributed

port, process, way = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
distributed._HEARTBEAT = 2


def main() -> int:
    distributed.start(distributed.Place(f"localhost:{port}", 2, process))
    if (process, way) == (0, "the first is gone"):
        os._exit(3)
    if (process, way) == (1, "the second stops"):
        os.kill(os.getpid(), signal.SIGSTOP)
    if way == "the second aborts, the first is leaving":
        if process == 1:
            os.kill(os.getpid(), signal.SIGABRT)  # or abort(), which would end it whatever a handler does
            os._exit(0)
        distributed.time.sleep = lambda seconds: signal.pause()  # the whole heartbeat long
        distributed.leave(4)
    signal.pause()
    return 0


commands.run_main(main)
