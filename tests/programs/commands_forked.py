"""Runs each command from stdin in a fork of one process with the libraries, as absl's flags are per process."""

import json
import os
import runpy
import sys
import warnings
from typing import Any

import matplotlib.figure  # noqa: F401  # once, before the forks, as the next ones

import experiments.sweep.plan  # noqa: F401

warnings.simplefilter("ignore")
codes: dict[str, Any] = {}
for name, (module, *arguments) in json.load(sys.stdin).items():
    pid = os.fork()
    if pid == 0:
        for fd in (1, 2):
            os.dup2(os.open(f"{name}.{fd}", os.O_CREAT | os.O_WRONLY), fd)
        sys.argv = [module, *(os.fsdecode(word.encode("latin-1")) for word in arguments)]
        code: Any = 99
        try:
            runpy.run_module(module, run_name="__main__", alter_sys=True)
        except SystemExit as end:
            code = end.code or 0
        except BaseException:
            import traceback
            traceback.print_exc()
        finally:
            sys.stdout.flush(), sys.stderr.flush()
            os._exit(code)
    codes[name] = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    codes[name] = [codes[name], [m for m in ("jax",) if m in sys.modules]]
print(json.dumps(codes))
