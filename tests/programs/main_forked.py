"""Runs `alexnet_jax.main` with each argument list from stdin in a fork, as absl's flags are per process."""

import json
import os
import sys
from typing import Any

from alexnet_jax import main

results = {}
for name, arguments in json.load(sys.stdin).items():
    pid = os.fork()
    if pid == 0:
        for fd in (1, 2):
            os.dup2(os.open(f"{name}.{fd}", os.O_CREAT | os.O_WRONLY), fd)
        os.environ.update(word.split("=") for word in arguments if word.startswith("JAX_"))
        sys.argv = ["main.py", *(word for word in arguments if not word.startswith("JAX_"))]
        code: Any = 99
        try:
            main.run()
        except SystemExit as end:
            code = end.code or 0
        finally:
            if code == 99:
                import traceback
                traceback.print_exc()
            sys.stdout.flush(), sys.stderr.flush()
            os._exit(code)
    results[name] = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
print(json.dumps(results))
