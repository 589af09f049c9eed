"""Restarts itself with the allocator's settings; prints its process id and them."""

import os

from alexnet_jax import environment

environment.use_allocator()
print(os.getpid(), os.environ.get("GLIBC_TUNABLES"))
