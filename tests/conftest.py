"""For all tests: how XLA compiles, how strict JAX is, which files come first, and Ctrl-C."""

import os
import pathlib
import shutil
import signal
import tempfile

import emulated
import pytest

# Most of the tests' time is XLA's, for programs that run once or twice. The full networks and two small ones of the
# parity tests (test_models_parity.py) and a training on real images (test_commands_health.py) are compiled as a user's
# programs are; XLA_FLAGS=" " make test does so with everything.
os.environ.setdefault("XLA_FLAGS", emulated.QUICK)
# No array is widened and no axis added without a word, in the tests, in the code, and in processes that tests start.
os.environ["JAX_NUMPY_DTYPE_PROMOTION"], os.environ["JAX_NUMPY_RANK_PROMOTION"] = "strict", "raise"

# What a process of this session has compiled the next one finds: a cache that is empty at its start, each worker's own,
# as JAX doesn't write an entry in one piece. Programs that take less are compiled by each, and never in halves.
_cache = tempfile.mkdtemp(prefix="alexnet-jax-tests-xla-")
os.environ["JAX_COMPILATION_CACHE_DIR"] = _cache
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.05"
# On a card the processes of the tests, and those that they start, share its memory.
os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")

# A shell without job control starts what is in its background with SIGINT ignored, nohup with SIGHUP, and that is
# inherited. The tests send both to themselves and to processes that they start.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) == signal.SIG_IGN:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)

# Where two processes share the work, the long ones must not be begun last. The first two files are one's each, the next
# two wait for them: several processes of a run (test_parallel_distributed) don't work beside a cluster.
LONG = ("test_launch_cluster", "test_models_parity", "test_parallel_distributed", "test_parallel_same_curve",
        "test_weights_import", "test_weights_export", "test_training_resume", "test_training_feed", "test_accelerator",
        "test_benchmarks", "test_benchmarks_fast", "test_launch_run", "test_parallel_mesh_costs", "test_storm")


# Functions whose tests together take more than some five seconds of a core (`make test-all ARGS=--durations=0`), and
# clusters: `make test` leaves them out. One test of each kind stays: a mesh, a signal, a kill, the layers' parity.
SLOW = frozenset((pathlib.Path(__file__).parent / "slow.txt").read_text("utf-8").split())


def pytest_configure():
    # A machine may set what a run records (OPENBLAS_CORETYPE=Haswell, NCCL_ALGO=Ring): the tests are of a plain one.
    from alexnet_jax import numerics
    asked = {name for platform in ("cpu", "gpu", "tpu") for name in numerics.asked(platform)}
    for name in asked & os.environ.keys():
        del os.environ[name]


def pytest_unconfigure():
    shutil.rmtree(_cache, ignore_errors=True)


def pytest_collection_modifyitems(items):
    for item in items:
        if getattr(item, "originalname", item.name) in SLOW or item.path.stem == "test_launch_cluster":
            item.add_marker(pytest.mark.slow)
    items.sort(key=lambda item: LONG.index(item.path.stem) if item.path.stem in LONG else len(LONG))
