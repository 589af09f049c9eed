"""One training run: `python -m alexnet_jax.main --config=configs/cifar10.py --workdir=runs/one`.

The same command resumes an interrupted run. Any field can be overridden: `--config.train.epochs=3`. Several
processes: alexnet_jax/parallel/distributed.py.
"""

from __future__ import annotations

import traceback

from absl import app, flags

from alexnet_jax import cli, commands, environment, errors, paths, signals
from alexnet_jax.parallel import distributed

_WORKDIR = flags.DEFINE_string("workdir", None, "the run's folder, created if missing")
_COORDINATOR = flags.DEFINE_string("coordinator", None, "HOST:PORT of process 0, where several processes meet")
_PROCESSES = flags.DEFINE_integer("processes", None, "the number of processes")
_PROCESS = flags.DEFINE_integer("process", None, "this process's number, counted from 0")


def main(_argv) -> int:
    config, overrides = cli.parsed_config()
    if not _WORKDIR.value:
        raise errors.ConfigError("--workdir=FOLDER is needed, e.g. --workdir=runs/one")
    workdir = paths.given(_WORKDIR.value, "--workdir")
    environment.prepare(config.train.precision)
    distributed.start(distributed.Place(_COORDINATOR.value, _PROCESSES.value, _PROCESS.value))
    with signals.afterwards():
        from alexnet_jax.training.loop import train  # JAX starts here, after the environment is set

    try:
        result = train(config, workdir, overrides=overrides)
        return errors.RUN if result.get("status") == "diverged" else 0
    except BaseException as error:
        if not distributed.several():
            raise
        # The usual end of a process waits for the others, which may be waiting for this one.
        code = commands.report(error)
        if code is None:
            traceback.print_exc()
        distributed.leave(errors.RUN if code is None else code, isinstance(error, distributed.Differ))


def run() -> None:
    cli.define_config_flag()
    commands.run_main(lambda: app.run(main, flags_parser=cli.parse_flags), prints=False)


if __name__ == "__main__":
    environment.use_allocator()
    run()
