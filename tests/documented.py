"""Runs commands, each in a fork of one process that has the libraries, and prints {command: [exit code, output]}."""

import json
import os
import runpy
import sys
import tempfile
import traceback

import experiments.run  # noqa: F401 (imported once, before the forks)


def run(command: str) -> tuple[int, str]:
    """`command`: 'module argument …', split at blanks; quotes are the shell's and are gone."""
    module, *arguments = command.split()
    with tempfile.TemporaryFile() as output:
        child = os.fork()
        if child == 0:
            code = 99
            try:
                for descriptor in (1, 2):
                    os.dup2(output.fileno(), descriptor)
                sys.argv = [module, *arguments]
                runpy.run_module(module, run_name="__main__", alter_sys=True)
            except SystemExit as end:
                code = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
            except BaseException:
                traceback.print_exc()
            finally:
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(code)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        output.seek(0)
        return code, output.read().decode("utf-8", "replace")


if __name__ == "__main__":
    print(json.dumps({command: run(command) for command in json.load(sys.stdin)}))
