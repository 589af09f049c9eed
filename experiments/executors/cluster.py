"""A Ray cluster: each run is a named actor with the cores and accelerators that its config needs.

The actor's name, made of the workdir and the run, is the claim on the run: of two drivers on one workdir one gets it.
An actor ends with its driver, so a killed driver leaves no claim behind. Ray chooses the node; no more runs are started
than there is room for, so that stopping is quick and restarts come first.
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import hashlib
import importlib.util
import logging
import os
import pathlib
import secrets
import signal
import socket
import time
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from alexnet_jax import environment, files, provenance
from alexnet_jax.errors import ConfigError, UserError, WorkdirError
from alexnet_jax.text import count
from experiments.executors import Ended, local, storage, supervisor
from experiments.executors.devices import Device
from experiments.sweep import plan as plan_lib

NAMESPACE = "alexnet_jax"
# Variables that a worker gets from the driver's environment; the rest is its node's.
_PREFIXES = ("ALEXNET_", "JAX_", "XLA_", "OMP_", "NCCL_", "TF_CPP_", "NVIDIA_TF32_OVERRIDE", "CUDNN_", "CUBLAS",
             "LIBTPU_INIT_ARGS", "PYTHONFAULTHANDLER")
_LOOK_AGAIN = 1.0  # seconds between looks at the nodes
_LAST_GRACE = 10.0  # for those told to end at once
_CONNECT = 10.0
_ANSWER = 60.0  # seconds for a node to say what it sees


@dataclasses.dataclass
class _Task:
    actor: Any
    where: Any  # future of the node's id
    end: Any  # future of the exit code
    needs: dict[str, float]
    node: str = ""  # "" until it has a place


class ClusterError(UserError):
    """The cluster cannot be reached or cannot hold the runs."""


def connect(address: str) -> Any:
    """Ray, connected to the cluster at `address`, or to one of this machine alone where it is "".

    Raises:
      ConfigError: Ray isn't installed.
      ClusterError: no cluster answers.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    if not _installed():
        raise ConfigError("--executor=ray: Ray is not installed here; pip install -c constraints.txt "
                          "-e '.[cluster]'")
    address = address or os.environ.get("RAY_ADDRESS", "")
    _check_port(address)
    if not address:  # a token of its own, or Ray would leave one in the user's home
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    token = os.environ.get("RAY_AUTH_TOKEN_PATH") or os.path.expanduser("~/.ray/auth_token")
    if os.environ.get("RAY_AUTH_TOKEN") or os.path.exists(token):  # `ray start` goes by the same rule
        os.environ.setdefault("RAY_AUTH_MODE", "token")
    import ray

    mine: dict[str, Any] = {}
    if not address:
        gpus = local.accelerators(os.environ)
        mine = {"num_cpus": len(local.cores()[:provenance.most_cores()]), "num_gpus": len(gpus)}
        if any(name.startswith("MIG-") for name in gpus):  # by itself Ray would number them, which CUDA doesn't
            os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(gpus)
    try:
        ray.init(address=address or "local", namespace=NAMESPACE, log_to_driver=False,
                 logging_level=logging.CRITICAL, **mine)
    except Exception as error:  # Ray raises bare ones too
        where = f"--ray_address={address}: no cluster answers" if address else "--executor=ray: Ray does not start here"
        raise ClusterError(f"{where} ({' '.join(str(error).split())[:200]}); `ray start --head` starts one, `ray "
                           "status` shows its state") from error
    # Pages about each lost process, which log_to_driver=False doesn't cover; the sweep says it in a line.
    with contextlib.suppress(AttributeError):
        ray._private.worker.print_to_stdstream = lambda *_, **__: None
    # The nodes needn't have the project's folder on their path.
    for module in (supervisor, files):  # a lock is what the supervisor takes from there
        ray.cloudpickle.register_pickle_by_value(module)
    return ray


def _installed() -> bool:
    try:
        return importlib.util.find_spec("ray") is not None
    except ValueError:  # set to None in sys.modules
        return False


def _check_port(address: str) -> None:
    """Raises ClusterError if nothing listens at 'host:port', which Ray would find out in minutes."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or "/" in host:
        return
    try:
        socket.create_connection((host, int(port)), _CONNECT).close()
    except OSError as error:
        raise ClusterError(f"--ray_address={address}: nothing listens there ({error.strerror or error}); "
                           "`ray start --head` starts a cluster and prints its address") from error


class RayExecutor:
    """As many runs at once as the cluster has room for.

    Args:
      workdir: the sweep's, on a file system that all nodes share.
      plan: its runs, for their configs and labels.
      jobs: the most at a time; 0 for as many as there is room for.
      each: cores of a run; 0 for one, or an accelerator's share of its node's.
      address: of the cluster, e.g. 10.0.0.1:6379 or auto; "" starts one of this machine alone.
      worker: the command that runs one run, to which arguments are added.

    Raises:
      ConfigError, ClusterError: as `connect`, or no node could ever hold one of the runs.
      WorkdirError: a node does not see the workdir, the store, the data or the project.
    """

    def __init__(self, workdir: pathlib.Path, plan: plan_lib.Plan, jobs: int = 0, each: int = 0, address: str = "",
                 worker: Sequence[str] = local.WORKER):
        self._ray = connect(address)
        self._workdir, self._plan, self._jobs, self._worker = workdir, plan, jobs, tuple(worker)
        self._claim = f"{workdir.name}-{hashlib.sha256(str(workdir.resolve()).encode()).hexdigest()[:8]}"
        # Relative paths of the config's are meant from here.
        self._cwd = os.getcwd() if _relative(plan) else str(local.ROOT)
        self._actor = self._ray.remote(supervisor.Supervisor)
        self._tasks: dict[str, _Task] = {}
        self._called_off: list[str] = []
        self._killed_at = 0.0
        self._looked = 0.0
        self._nodes: dict[str, dict[str, Any]] = {}
        self._looks: dict[Any, str] = {}  # nodes that are being asked what they see
        self._asked: set[str] = set()
        self._blind: set[str] = set()  # those that don't see everything
        self._news: list[str] = []
        self._cores = each
        self._token: storage.Token | None = None
        try:
            self._look()
            self._check_room()
            self._check_paths()
        except BaseException:
            self.close()
            raise

    # The cluster.

    def _look(self) -> None:
        """Updates the list of nodes; checks the paths on new ones."""
        if time.monotonic() - self._looked < _LOOK_AGAIN:
            return
        alive = {node["NodeID"]: node for node in self._ray.nodes() if node["Alive"]}
        if self._token is not None:
            self._ask(alive.keys() - self._asked)
            for look in self._done(self._looks):
                self._news += [f"{wrong}; it gets no run" for wrong in self._heard(look)[:1]]
            waiting = {*self._looks.values(), *self._blind}
            alive = {id_: node for id_, node in alive.items() if id_ in self._asked - waiting}
        self._nodes, self._looked = alive, time.monotonic()

    def _heard(self, look: Any) -> list[str]:
        """What a node has answered: what it doesn't see."""
        node = self._looks.pop(look)
        try:
            wrong = self._ray.get(look)
        except self._ray.exceptions.RayError:  # gone again, or to be asked again
            self._asked.discard(node)
            return []
        if wrong:
            self._blind.add(node)
        return wrong

    def _ask(self, nodes: Collection[str]) -> None:
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        look = self._ray.remote(supervisor.look)
        assert self._token is not None
        for node in nodes:
            there = NodeAffinitySchedulingStrategy(node_id=node, soft=False)
            options = {"name": "look at the paths", "num_cpus": 0, "max_retries": 0, "scheduling_strategy": there}
            future = look.options(**options).remote(
                self._paths, str(self._token.path), self._token.content)
            self._looks[future] = node
            self._asked.add(node)

    def _check_paths(self) -> None:
        made = not self._workdir.exists()
        try:
            self._workdir.mkdir(parents=True, exist_ok=True)
            self._token = storage.Token(self._workdir)
            self._paths = storage.paths(self._workdir, [run.config for run in self._plan.runs.values()], local.ROOT)
            self._ask(self._nodes)
            end = time.monotonic() + _ANSWER
            while self._looks:
                for look in self._ray.wait(list(self._looks), timeout=max(0.0, end - time.monotonic()))[0]:
                    node = self._looks[look]
                    if wrong := self._heard(look):
                        raise WorkdirError(f"{wrong[0]}; it has to be on a file system that all nodes share")
                    if node in self._asked:
                        self._token.check_answer(node, self._nodes[node]["NodeManagerAddress"])
                if time.monotonic() > end:
                    silent = {self._nodes[node]["NodeManagerAddress"] for node in self._looks.values()}
                    raise ClusterError(f"--executor=ray: no answer from node {', '.join(sorted(silent))} in "
                                       f"{_ANSWER:.0f} s; see `ray status`")
        except BaseException:
            if self._token is not None:
                self._token.remove()
            if made:
                with contextlib.suppress(OSError):  # as it was before
                    self._workdir.rmdir()
            raise

    def _accelerated(self) -> list[dict[str, float]]:
        """The resources of nodes with GPUs; [] if JAX_PLATFORMS says cpu."""
        if os.environ.get("JAX_PLATFORMS", "").split(",")[0] == "cpu":
            return []
        return [node["Resources"] for node in self._nodes.values() if node["Resources"].get("GPU")]

    def needs(self, run: str) -> dict[str, float]:
        """{'CPU': …, 'GPU': …} of a run: a GPU for each device of its mesh, 'auto' counting as one."""
        mesh = self._plan.runs[run].config["mesh"]
        devices = 1
        for axis in ("data", "column"):
            devices *= 1 if mesh[axis] == "auto" else int(mesh[axis])
        accelerated = self._accelerated()
        if not accelerated:
            return {"CPU": self._cores or 1}
        shared = min(int(node.get("CPU", 0) // node["GPU"]) for node in accelerated)
        return {"CPU": self._cores or max(1, shared * devices), "GPU": devices}

    def _check_room(self) -> None:
        checked: list[dict[str, float]] = []
        for run in self._plan.runs:
            needs = self.needs(run)
            if needs in checked:
                continue
            checked.append(needs)
            if not any(_fits(needs, node["Resources"]) for node in self._nodes.values()):
                mesh = self._plan.runs[run].config["mesh"]
                raise ConfigError(
                    f"--executor=ray: {self._plan.label(run)} needs a node with {_words(needs)} (config.mesh: "
                    f"{mesh['data']} × {mesh['column']} devices, --cores={self._cores}); the cluster's nodes have "
                    + "; ".join(sorted({_words(node["Resources"]) for node in self._nodes.values()})))

    # The interface for experiments.launch.schedule.

    @property
    def slots(self) -> int:
        """By the needs that most runs have."""
        needs = self.needs(next(iter(self._plan.runs)))
        total = sum(min(int(node["Resources"].get(kind, 0) // amount) for kind, amount in needs.items())
                    for node in self._nodes.values())
        return max(1, min(total, self._jobs or total, len(self._plan.runs)))

    @property
    def running(self) -> Collection[str]:
        return [*self._tasks, *self._called_off]

    @property
    def unplaced(self) -> Collection[str]:
        return [run for run, task in self._tasks.items() if not task.node]

    @property
    def description(self) -> str:
        kinds = collections.Counter(_words(self.needs(run)) for run in self._plan.runs)
        return (f"{self.slots} at a time on Ray's {count(len(self._nodes), 'node')}, "
                f"{' or '.join(kinds)} each")

    @property
    def device(self) -> Device | None:
        return None  # its nodes may be of several kinds

    @property
    def devices(self) -> int | None:
        return None  # a run gets as many as its mesh needs (`needs`)

    def room(self, run: str) -> bool:
        if self._jobs and len(self._tasks) >= self._jobs:
            return False
        self._look()
        free = {id_: dict(node["Resources"]) for id_, node in self._nodes.items()}
        for task in sorted(self._tasks.values(), key=lambda task: not task.node):
            at = task.node or next((id_ for id_, left in free.items() if _fits(task.needs, left)), "")
            for kind, amount in task.needs.items() if at in free else ():
                free[at][kind] = free[at].get(kind, 0) - amount
        return any(_fits(self.needs(run), left) for left in free.values())

    def start(self, run: str, folder: pathlib.Path) -> bool:
        needs, label = self.needs(run), self._plan.label(run)
        try:
            # The folder's name has the arm and the run's id.
            actor = self._actor.options(
                name=f"{self._claim}/{folder.name}", namespace=NAMESPACE, num_cpus=needs["CPU"],
                num_gpus=needs.get("GPU", 0), max_restarts=0, max_concurrency=3, **self._not_the_blind()).remote()
        except ValueError:  # the name is taken
            return False
        command = [*self._worker, f"--workdir={self._workdir}", f"--run={run}"]
        assert self._token is not None
        end = actor.run.options(name=label).remote(
            command, str(folder), _environment("GPU" in needs), int(needs["CPU"]), str(self._token.path), self._cwd)
        self._tasks[run] = _Task(actor, actor.where.remote(), end, needs)
        return True

    def _not_the_blind(self) -> dict[str, Any]:
        return {"label_selector": {"ray.io/node-id": f"!in({','.join(sorted(self._blind))})"}} if self._blind else {}

    def ended(self) -> list[Ended]:
        out = [Ended(run, supervisor.INTERRUPTED) for run in self._called_off]
        self._called_off.clear()
        if self._tasks:
            placing = {task.where: task for task in self._tasks.values() if not task.node}
            for where in self._done(placing):
                with contextlib.suppress(self._ray.exceptions.RayError):
                    placing[where].node = self._ray.get(where)
            for end in self._done(ends := {task.end: run for run, task in self._tasks.items()}):
                run = ends[end]
                out.append(self._outcome(run, self._tasks[run]))
                self._let_go(run)
        if self._killed_at and time.monotonic() - self._killed_at > _LAST_GRACE:
            for run in list(self._tasks):  # their nodes don't answer
                out.append(Ended(run, -signal.SIGKILL))
                self._let_go(run)
        return out

    def news(self) -> list[str]:
        news, self._news = self._news, []
        return news

    def _done(self, futures: Mapping[Any, Any]) -> list[Any]:
        if not futures:
            return []
        return self._ray.wait(list(futures), num_returns=len(futures), timeout=0)[0]

    def _outcome(self, run: str, task: _Task) -> Ended:
        try:
            return Ended(run, self._ray.get(task.end))
        except self._ray.exceptions.RayTaskError as error:  # an OSError of the supervisor's
            return Ended(run, None, f"its node could not start it ({str(error).strip().splitlines()[-1]})")
        except self._ray.exceptions.RayError:  # which of the two, Ray itself knows only later
            node = self._nodes.get(task.node)
            place = f" {node['NodeManagerAddress']}" if node else ""
            return Ended(run, None, f"its node{place} was lost, or its supervisor there was killed")

    def _let_go(self, run: str) -> None:
        """Frees the run's resources and its name."""
        with contextlib.suppress(self._ray.exceptions.RayError):
            self._ray.kill(self._tasks[run].actor, no_restart=True)
        del self._tasks[run]

    def stop(self) -> None:
        for run in self.unplaced:
            self._let_go(run)
            self._called_off.append(run)
        self._signal(signal.SIGTERM)

    def kill(self) -> None:
        if not self._killed_at:
            self._killed_at = time.monotonic()
            self._signal(signal.SIGKILL)

    def _signal(self, number: int) -> None:
        for task in self._tasks.values():
            with contextlib.suppress(self._ray.exceptions.RayError):
                task.actor.signal.remote(int(number))

    def close(self) -> None:
        if self._token is not None:
            self._token.remove()
        self._ray.shutdown()


def _fits(needs: Mapping[str, float], left: Mapping[str, float]) -> bool:
    return all(left.get(kind, 0) >= amount for kind, amount in needs.items())


def _words(resources: Mapping[str, float]) -> str:
    """'2 cores and 1 GPU'."""
    cores, gpus = int(resources.get("CPU", 0)), int(resources.get("GPU", 0))
    return count(cores, "core") + (f" and {count(gpus, 'GPU')}" if gpus else "")


def _relative(plan: plan_lib.Plan) -> bool:
    given = {os.environ.get(name, "") for name in ("ALEXNET_DATA_DIR", "ALEXNET_STORE_DIR")}
    given.update(run.config["data"][name] for run in plan.runs.values() for name in ("dir", "store"))
    return any(path and not path.startswith("~") and not pathlib.Path(path).is_absolute() for path in given)


def _environment(gpu: bool) -> dict[str, str]:
    """What a worker gets. `gpu`: Ray gives it one, or several."""
    env = {name: value for name, value in os.environ.items() if name.startswith(_PREFIXES)}
    env.update(environment.allocator(os.environ))
    cache = environment.cache_folder()
    if cache is not None:
        env["XDG_CACHE_HOME"] = str(cache.parent)
    env["PYTHONPATH"] = os.pathsep.join(filter(None, (str(local.ROOT), os.environ.get("PYTHONPATH"))))
    env.setdefault("PYTHONFAULTHANDLER", "1")  # a crash in native code leaves its stack in log.txt
    env["PYTHONIOENCODING"] = local.LOG_ENCODING
    if gpu and local.has_cuda():  # Ray counts other makes' as GPUs too; all nodes have this project's packages
        env["JAX_PLATFORMS"] = local.platforms(env)
    return env
