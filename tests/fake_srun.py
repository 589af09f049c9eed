"""Slurm's `srun` with local processes for nodes: runs the command once for each task, ends them on SIGTERM."""

import os
import signal
import subprocess
import sys

if __name__ == "__main__":
    command = sys.argv[next(i for i, argument in enumerate(sys.argv) if i and not argument.startswith("--")):]
    count = int(next(argument.partition("=")[2] for argument in sys.argv if argument.startswith("--ntasks=")))
    tasks = [subprocess.Popen(command, env={**os.environ, "SLURM_PROCID": str(i)}) for i in range(count)]
    signal.signal(signal.SIGTERM, lambda *_: [task.terminate() for task in reversed(tasks)])
    sys.exit(max(task.wait() for task in tasks))
