"""Kills a builder at each of the calls that change the disk, before it or after half of it, and lets another finish.

Each builder is a process of its own, forked from one that has no threads. What a process has written outlives it
without fsync, so to die there is to die before the next call.
"""

import json
import os
import pathlib
import signal
import sys

import numpy as np
import test_data_partial as t

from alexnet_jax.data import partial

partial.Partial.keep_now_and_then = partial.Partial.keep  # type: ignore[method-assign]
partial._PIECE = 2 * 48
os.fsync = lambda fd: None


def child(work):
    pid = os.fork()
    if pid == 0:
        try:
            work()
            os._exit(0)
        except BaseException:
            import traceback
            traceback.print_exc()
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def deadly(number, half, told):
    calls = [0]
    def wrap(name):
        real = getattr(os, name)
        def call(*arguments):
            calls[0] += 1
            if calls[0] == number:
                told.write_text(name)
                if half:
                    file, content, *place = arguments
                    real(file, content[: len(content) // 2], *place)
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*arguments)
        setattr(os, name, call)
    for name in ("write", "pwrite", "ftruncate", "unlink", "rename", "replace", "mkdir"):
        wrap(name)


def kept(store):
    found = partial.read_progress(store / ".toy-1-train-4.building")
    return np.flatnonzero(found["done"]).tolist() if found else []


def resume(store):
    toy = t.Toy()
    t.make(store, toy)
    (store / "read.json").write_text(json.dumps(toy.read_ranks))


def killed_and_resumed(number, half, told):
    """(exit code of the builder that is killed, [store, images it kept, was it whole, exit code of the next one])."""
    store = pathlib.Path(sys.argv[1], f"{number}-{half}")
    store.mkdir()
    code = child(lambda: (deadly(number, half, told), t.make(store, t.Toy())))
    safe = kept(store)
    whole = (store / "toy-1-train-4").exists() or (store / ".toy-1-train-4.building/meta.json").exists()
    return code, [str(store), safe, whole, child(lambda: resume(store))]


results, number = [], 0
while True:
    number += 1
    codes, told = [], pathlib.Path(sys.argv[1], "told")
    for half in (False, True):
        if half and told.exists() and told.read_text() not in ("write", "pwrite"):
            continue  # there is no half of it
        code, result = killed_and_resumed(number, half, told)
        codes.append(code)
        results.append(result)
    if 0 in codes:
        break
    assert codes in ([-9, -9], [-9]), codes
print(json.dumps(results))
