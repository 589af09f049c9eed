"""Prints the numbers of the signals that end a process which does nothing about them, those of faults left out.

A process of its own, as JAX's must not be forked.
"""

import json
import os
import resource
import signal

FAULTS = {getattr(signal, f"SIG{name}") for name in ("ILL", "TRAP", "ABRT", "BUS", "FPE", "SEGV", "SYS")}

ends = []
for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP} - FAULTS:
    child = os.fork()
    if child == 0:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [number])
        os.kill(os.getpid(), number)
        os._exit(0)
    if os.WIFSTOPPED(status := os.waitpid(child, os.WUNTRACED)[1]):
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    elif os.WIFSIGNALED(status):
        ends.append(int(number))
print(json.dumps(ends))
