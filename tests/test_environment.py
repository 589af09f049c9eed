"""What is set before JAX starts."""

import os
import platform
import subprocess
import sys

import pytest

from alexnet_jax import environment

SCRIPT = """
import os
from alexnet_jax import environment
environment.use_allocator()
print(os.getpid(), os.environ.get("GLIBC_TUNABLES"))
"""

glibc = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the allocator is glibc's")


@glibc
def test_the_users_allocator_is_left_alone():
    assert environment.allocator({}).keys() == {"GLIBC_TUNABLES"}
    assert environment.allocator({"GLIBC_TUNABLES": "glibc.malloc.check=1"}) == {}
    assert environment.allocator({"LD_PRELOAD": "libjemalloc.so"}) == {}


@glibc
@pytest.mark.parametrize("given", [None, "glibc.malloc.check=0"])
def test_a_program_starts_over_once_with_its_arguments_and_its_number(given):
    env = {k: v for k, v in os.environ.items() if k != "GLIBC_TUNABLES"} | ({"GLIBC_TUNABLES": given} if given else {})
    process = subprocess.Popen([sys.executable, "-c", SCRIPT], env=env, stdout=subprocess.PIPE, text=True)
    number, value = process.communicate(timeout=60)[0].split()
    assert int(number) == process.pid
    assert value == (given or environment.allocator({})["GLIBC_TUNABLES"])
