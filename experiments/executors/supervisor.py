"""What runs on a cluster's nodes besides the runs: a supervisor of each, and a check of the paths that they need.

Standard library, Ray and `files.lock` only. The code travels with the tasks, that of the lock too, so that a node which
lacks the project's folder can still say so.
"""

from __future__ import annotations

import contextlib
import os
import pathlib
import signal
import subprocess
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from alexnet_jax.files import lock

INTERRUPTED = 130  # as in experiments.launch.worker


class Supervisor:
    """Starts one run's process, waits for it and passes signals on: a Ray actor, one thread for each of the two.

    The run has a process of its own and not the actor's: it ends as it would on one machine, with an exit code,
    and takes no thread, signal handler or import of Ray's along. If the actor dies, the system sends it SIGTERM
    (experiments.launch.worker), upon which it saves a checkpoint and ends.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._popen: subprocess.Popen | None = None
        self._signalled = False

    def where(self) -> str:
        """The node's id, as soon as it is known."""
        import ray

        return ray.get_runtime_context().get_node_id()

    def run(self, command: Sequence[str], folder: str, environment: Mapping[str, str], cores: int, token: str,
            cwd: str) -> int:
        """The exit code of `command`, negative for a signal; its output is appended to log.txt in `folder`.

        Args:
          environment: set beside what Ray has set.
          cores: how many it gets to itself.
          token: a file that has to be there, or this is not the sweep's workdir.
          cwd: the run's current folder.

        Raises:
          OSError: the folder cannot be written or the command not be found.
        """
        env = dict(os.environ)
        env.pop("OMP_NUM_THREADS", None)  # Ray's doing; a run on one machine has none
        env.update(environment)
        place = pathlib.Path(folder)
        if not os.path.exists(token):
            raise OSError(f"node {ray_address()} does not see {os.path.dirname(token)}")
        place.mkdir(parents=True, exist_ok=True)
        with lease(cores) as mine, (place / "log.txt").open("ab") as log:
            with self._lock:
                if self._signalled:
                    return INTERRUPTED
                arguments = [*command, f"--parent={os.getpid()}", f"--cores={','.join(map(str, mine))}"]
                self._popen = subprocess.Popen(arguments, stdin=subprocess.DEVNULL, stdout=log, env=env,
                                               stderr=subprocess.STDOUT, process_group=0, cwd=cwd)
            return self._popen.wait()

    def signal(self, number: int) -> None:
        """Passes a signal on; SIGKILL to all that the run has started. Before its start, the run is called off."""
        with self._lock:
            self._signalled = True
            if self._popen is None or self._popen.poll() is not None:
                return
        with contextlib.suppress(ProcessLookupError):
            if number == signal.SIGKILL:
                os.killpg(self._popen.pid, number)
            else:
                self._popen.send_signal(number)


def ray_address() -> str:
    """The node's IP address."""
    import ray

    return ray.util.get_node_ip_address()


@contextlib.contextmanager
def lease(count: int, folder: pathlib.Path | None = None) -> Iterator[list[int]]:
    """`count` of the cores that this process may use, which no other lease on this machine has meanwhile.

    Where others have taken too many, some are shared; where there are fewer, all. The system takes a dead
    process's lease back.

    Args:
      folder: where the machine's leases are kept; by default in its temporary folder, by user.
    """
    available = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    if count >= len(available):
        yield available
        return
    folder = folder or pathlib.Path(tempfile.gettempdir()) / f"alexnet_jax-cores-{os.getuid()}"
    folder.mkdir(exist_ok=True)
    mine: list[int] = []
    with contextlib.ExitStack() as stack:
        for core in available:
            if len(mine) == count:
                break
            if stack.enter_context(lock(folder / str(core), seconds=0.0)):
                mine.append(core)
        others = [core for core in available if core not in mine]
        yield sorted(mine + others[: count - len(mine)])


def look(paths: Mapping[str, Sequence[Any]], token: str, content: str) -> list[str]:
    """What of a sweep this node does not see; a line each, none if all is well.

    Args:
      paths: what it is called → (path, names that it holds; None for a file).
      token: a file in the workdir with `content`; a file named after it is left beside it as an answer.
    """
    import ray

    node = ray_address()
    wrong = []
    for what, (path, names) in paths.items():
        if not os.path.exists(path):
            wrong.append(f"{what}: node {node} sees no {path}")
        elif names is not None:
            try:
                lacking = sorted(set(names) - set(os.listdir(path)))
            except OSError as error:
                wrong.append(f"{what}: node {node} cannot read {path} ({error.strerror})")
                continue
            if lacking:
                wrong.append(f"{what}: node {node} sees another folder at {path}, without {lacking[0]}")
    if wrong:
        return wrong
    try:
        with open(token, encoding="utf-8") as file:
            if file.read() == content:
                with open(f"{token}.{ray.get_runtime_context().get_node_id()}", "w", encoding="utf-8"):
                    return []
        return [f"--workdir: node {node} sees another folder at {os.path.dirname(token)}"]
    except OSError as error:
        return [f"--workdir: node {node} cannot read and write {os.path.dirname(token)} ({error.strerror})"]
