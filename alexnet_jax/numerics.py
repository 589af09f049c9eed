"""What outside the config could change a number: pinned, refused, or recorded.

Pinned, regardless of the environment and `jax.config`: the random generator, and JAX's promotion rules, at their
strictest (`Program` traces under `pinned`). Refused: 64-bit mode in a run that isn't `train.precision=float64`, and
vice versa (`check`). Recorded, where it isn't the default: any other setting of JAX, XLA and the libraries below them
(`asked`).
"""

from __future__ import annotations

import contextlib
import os
import pathlib
import re
import shlex
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from alexnet_jax import environment
from alexnet_jax.errors import ConfigError

UNSET = "unset"
_GENERATOR = "threefry2x32"

# JAX's options that can change how a number is computed, with the defaults of jax 0.10 and 0.11. Those that only check,
# report, cache or choose devices are not among them, nor those that `pinned` takes care of.
_OPTIONS: dict[str, Any] = {
    "eager_constant_folding": False, "jax_allow_f16_reductions": True, "jax_bcoo_cusparse_lowering": False,
    "jax_compiler_enable_remat_pass": True, "jax_custom_jvp3": False, "jax_custom_vjp3": False,
    "jax_disable_most_optimizations": False, "jax_enable_pgle": False, "jax_exec_time_optimization_effort": 0.0,
    "jax_memory_fitting_effort": 0.0, "jax_memory_fitting_level": "O2", "jax_optimization_level": "UNKNOWN",
    "jax_pallas_poison_buffers": False, "jax_pallas_use_mosaic_gpu": True, "jax_pjrt_client_create_options": None,
    "jax_ragged_dot_use_gpu_pallas_triton_lowering": False, "jax_ragged_dot_use_ragged_dot_instruction": True,
    "jax_remat3": False, "jax_remat_barrier_no_cotangents": False, "jax_scan3": False,
    "jax_softmax_custom_jvp": False, "jax_threefry_gpu_kernel_lowering": False, "jax_use_direct_linearize": True,
    "jax_use_hlo_logistic_lowering": None, "jax_use_magma": "auto", "jax_use_rgv3": True,
    "jax_use_shardy_partitioner": True, "jax_use_simplified_jaxpr_constants": False, "jax_xla_profile_version": 0,
}
# Settings under which nothing can be trained.
_GUARDS = ("", "_host_to_device", "_device_to_host", "_device_to_device")
REFUSED: dict[str, tuple] = {
    "jax_disable_jit": (True,), "jax_error_checking_behavior_divide": ("raise",),
    "jax_error_checking_behavior_nan": ("raise",), "jax_no_execution": (True,), "jax_no_tracing": (True,),
    **{f"jax_transfer_guard{which}": ("disallow", "disallow_explicit") for which in _GUARDS}}
_ON_ACCELERATORS: dict[str, Any] = {"jax_default_matmul_precision": None}  # CPUs have nothing less exact

# XLA flags that only affect file locations, waiting times and logging.
_SILENT = re.compile(r"xla_(dump_.*|force_host_platform_device_count|hlo_profile|gpu_cuda_data_dir|.*_cache_(dir|mode)|"
                     r".*(timeout|warn_stuck|terminate).*|.*_compilation_parallelism|.*_verbosity.*|.*_log(ging)?_.*)")
_OF_ONE_KIND = re.compile(r"xla_(cpu|gpu|tpu|rocm)_")

# Variables of the libraries below XLA and NumPy: cores, instructions, precision, algorithms, the order of a sum.
_VARIABLES = re.compile(r"(PJRT_)?NPROC|(ONEDNN|DNNL)_(MAX_CPU_ISA|DEFAULT_FPMATH_MODE)|NPY_(EN|DIS)ABLE_CPU_FEATURES|"
                        "OPENBLAS_CORETYPE")
_VARIABLES_OF = {"gpu": re.compile(r"NVIDIA_TF32_OVERRIDE|NCCL_(ALGO|PROTO|NVLS_ENABLE|COLLNET_ENABLE)|"
                                   r"((TF_)?CUDNN|CUBLAS(LT)?|ROCBLAS|HIPBLASLT|MIOPEN)_(?!.*(LOG|CACHE|PATH|DEBUG)).*"),
                 "tpu": re.compile("LIBTPU_INIT_ARGS")}


def key(seed: Any) -> jax.Array:
    """The key of a seed (a whole number of 32 bits), by the generator that all of a run's numbers come from.

    As `jax.random.key(seed, impl="threefry2x32")`, which would add JAX_RANDOM_SEED_OFFSET.
    """
    low = jnp.asarray(seed).astype(jnp.uint32)
    return jax.random.wrap_key_data(jnp.stack([jnp.zeros_like(low), low]), impl=_GENERATOR)


@contextlib.contextmanager
def pinned(products: str | None = None) -> Iterator[None]:
    """Functions traced within the block compute the same regardless of `jax.config`.

    Args:
      products: the precision of products and convolutions; None: as in `jax.config`.
    """
    with contextlib.ExitStack() as stack:
        stack.enter_context(jax.threefry_partitionable(True))
        stack.enter_context(jax.numpy_dtype_promotion("strict"))
        stack.enter_context(jax.numpy_rank_promotion("raise"))
        if products is not None:
            stack.enter_context(jax.default_matmul_precision(products))
        yield


def check(precision: str) -> None:
    """Raises ConfigError unless JAX is in 64-bit mode for `train.precision=float64`, and for nothing else.

    Also if a debugging mode is on under which nothing can be trained.
    """
    for name, values in REFUSED.items():
        if (value := jax.config.values.get(name)) in values:
            raise ConfigError(f"{name.upper()} is {value} in the environment or in jax.config, and training "
                              "is impossible with it; unset it")
    on = jax.config.values["jax_enable_x64"]
    if precision == "float64" and not on:
        raise ConfigError("config.train.precision: float64 needs JAX_ENABLE_X64=1 in the environment, or JAX "
                          "computes in float32")
    if precision != "float64" and on:
        raise ConfigError(f"config.train.precision: {precision} needs JAX_ENABLE_X64=0 in the environment: in 64-bit "
                          "mode JAX draws other random numbers, and the run would be another one under the same id")


def asked(platform: str) -> dict[str, str]:
    """{setting: value} of JAX, XLA and the libraries below that could change a number on `platform`.

    Settings at their default are left out: {} for most runs.

    Args:
      platform: of a device, e.g. 'cpu'.
    """
    kind = platform if platform in ("cpu", "tpu") else "gpu"
    options = _OPTIONS if kind == "cpu" else _OPTIONS | _ON_ACCELERATORS
    # An option may be an enumeration's member, and one version of JAX lacks some that another has.
    found = {name.upper(): str(getattr(value, "value", value)) for name, default in options.items()
             if (value := jax.config.values.get(name, default)) != default}
    flags, usual = _flags(os.environ.get("XLA_FLAGS", "")), _flags(environment.xla_flags())
    found |= {f"XLA_FLAGS --{name}": flags.get(name, UNSET) for name in flags.keys() | usual.keys()
              if flags.get(name) != usual.get(name) and _matters(name, kind)}
    of_kind = _VARIABLES_OF.get(kind, _VARIABLES)
    found |= {name: text for name, text in os.environ.items()
              if text and (_VARIABLES.fullmatch(name) or of_kind.fullmatch(name))}
    hardware = [part for part in os.environ.get("GLIBC_TUNABLES", "").split(":") if part.startswith("glibc.cpu.hwcaps")]
    return dict(sorted((found | ({"GLIBC_TUNABLES": ":".join(hardware)} if hardware else {})).items()))


def default(name: str) -> str:
    """The value of a setting of `asked` that wasn't recorded."""
    flag = name.partition(" --")[2]
    if flag:
        return _flags(environment.xla_flags()).get(flag, UNSET)
    return str((_OPTIONS | _ON_ACCELERATORS).get(name.lower(), UNSET))


def differences(then: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """'JAX_DISABLE_JIT was False and is True now', … between two of `asked`."""
    return [f"{name} was {then.get(name, default(name))!r} and is {now.get(name, default(name))!r} now"
            for name in sorted(then.keys() | now.keys()) if then.get(name) != now.get(name)]


def _matters(flag: str, kind: str) -> bool:
    of = _OF_ONE_KIND.match(flag)
    return not _SILENT.fullmatch(flag) and (of is None or of[1].replace("rocm", "gpu") == kind)


def _flags(text: str) -> dict[str, str]:
    """{'xla_cpu_enable_fast_math': 'true', …} of XLA_FLAGS, which may be a file's name instead; the last one counts."""
    if text.strip() and not text.lstrip().startswith("-"):
        with contextlib.suppress(OSError, UnicodeDecodeError):
            text = pathlib.Path(text.strip()).read_text(encoding="utf-8")
    try:
        words = shlex.split(text)
    except ValueError:  # an open quotation mark
        words = text.split()
    parts = (word.lstrip("-").partition("=") for word in words if word.startswith("-"))
    values = ((name, value if equals else "true") for name, equals, value in parts)
    return {name: value.lower() if value.lower() in ("true", "false") else value for name, value in values}
