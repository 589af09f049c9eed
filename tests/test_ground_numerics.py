"""Nothing outside the config changes a number silently: it is pinned, refused, or recorded and checked on resume."""

import contextlib
import os
import pathlib
import subprocess
import sys

import emulated
import jax
import numpy as np
import pytest
import tiny_run
from tiny_run import go, interrupt

from alexnet_jax import environment, evaluate, numerics, provenance, run_files
from alexnet_jax.errors import ConfigError, Interrupted, WorkdirError
from alexnet_jax.inspect import trained
from alexnet_jax.parallel.mesh import make_mesh
from alexnet_jax.training import program

# Fixtures of this file too: pytest finds them by their names here.
_tiny, store, tiny, finished = tiny_run.use_tiny, tiny_run.store, tiny_run.tiny, tiny_run.finished
unfinished = tiny_run.unfinished

ROOT = pathlib.Path(__file__).resolve().parents[1]

# What the programs pin, and what has no part in a number, all at once.
WITHOUT_EFFECT = {
    "JAX_ENABLE_X64": "1", "JAX_DEFAULT_PRNG_IMPL": "rbg", "JAX_THREEFRY_PARTITIONABLE": "0",
    "JAX_RANDOM_SEED_OFFSET": "7", "JAX_ENABLE_CUSTOM_PRNG": "1", "JAX_LEGACY_PRNG_KEY": "error",
    "JAX_NUMPY_DTYPE_PROMOTION": "strict", "JAX_NUMPY_RANK_PROMOTION": "raise", "JAX_EXPLICIT_X64_DTYPES": "error",
    "JAX_DEFAULT_MATMUL_PRECISION": "bfloat16", "JAX_DEBUG_NANS": "1", "JAX_CPU_ENABLE_ASYNC_DISPATCH": "0",
    "JAX_HIGH_DYNAMIC_RANGE_GUMBEL": "1", "JAX_ERROR_CHECKING_BEHAVIOR_OOB": "raise", "NVIDIA_TF32_OVERRIDE": "1",
    "OMP_NUM_THREADS": "1", "PYTHONHASHSEED": "12345", "PYTHONOPTIMIZE": "2", "TZ": "Asia/Kathmandu",
    "JAX_DEFAULT_DTYPE_BITS": "32", "JAX_TRACEBACK_FILTERING": "off", "JAX_TRANSFER_GUARD": "log",
    "JAX_ENABLE_CHECKS": "1",
    "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "PYTHONWARNINGS": "error", "PYTHONDEVMODE": "1",
    "SLURM_STEP_NUM_TASKS": "", "JAX_COORDINATOR_ADDRESS": "", "MPLBACKEND": "none", "COLUMNS": "1", "TERM": "dumb",
    "LC_ALL": "de_DE.UTF-8", "XLA_FLAGS": f"{emulated.QUICK} --xla_gpu_enable_fast_min_max=true "
                                          "--xla_force_host_platform_device_count=2"}


def test_a_run_is_the_same_bytes_in_any_environment(store, tmp_path):
    def run(name, added):
        env = {k: v for k, v in os.environ.items() if not k.startswith("JAX_ENABLE_X64")} | {
            "JAX_PLATFORMS": "cpu", "XLA_FLAGS": emulated.QUICK, "PYTHONPATH": os.pathsep.join(
                [str(ROOT), str(ROOT / "tests")])} | added
        done = subprocess.run([sys.executable, emulated.PROGRAMS / "one_epoch.py", store, tmp_path / name], env=env,
                              capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[-3000:]
        return (tmp_path / name / "metrics.csv").read_bytes(), run_files.read_json(tmp_path / name / "run.json")

    (plain, about), (changed, about_changed) = run("plain", {}), run("changed", WITHOUT_EFFECT)
    assert changed == plain
    assert len(plain.splitlines()) == 2
    assert about["environment"] == about_changed["environment"] == {
        f"XLA_FLAGS {flag.partition('=')[0]}": flag.partition("=")[2] for flag in emulated.QUICK.split()}


@contextlib.contextmanager
def option(name, value):
    """As a user's script has it before it calls this library."""
    before = jax.config.values[name]
    jax.config.update(name, value)
    try:
        yield
    finally:
        jax.config.update(name, before)


def test_a_library_s_user_draws_the_same_numbers_by_any_generator(tiny):
    def drawn():
        built = program.Program(tiny(), 10, make_mesh(tiny()))
        return jax.tree.map(np.asarray, built.init(np.uint32(5)).params)

    plain = drawn()
    assert np.std(plain["conv1"]["kernel"]) > 0
    for name, value in (("jax_threefry_partitionable", False), ("jax_default_prng_impl", "rbg"),
                        ("jax_random_seed_offset", 7), ("jax_numpy_rank_promotion", "raise")):
        with option(name, value):
            jax.tree.map(np.testing.assert_array_equal, plain, drawn())


@pytest.mark.parametrize("seed", [0, 1, 2**31 - 1])
def test_a_seed_s_key_is_jax_s(seed):
    np.testing.assert_array_equal(jax.random.key_data(numerics.key(np.uint32(seed))),
                                  jax.random.key_data(jax.random.key(seed, impl="threefry2x32")))


def test_64_bit_mode_is_float64_s_alone(tiny, tmp_path):
    with jax.enable_x64(True):
        for precision in ("float32", "bfloat16"):
            with pytest.raises(ConfigError, match=rf"config.train.precision: {precision} needs JAX_ENABLE_X64=0"):
                go(tiny(train__precision=precision), tmp_path / "run")
        numerics.check("float64")
        with pytest.raises(ConfigError, match="JAX_ENABLE_X64=0"):  # evaluation, analyses, whoever builds a program
            program.Program(tiny(), 10, make_mesh(tiny()))
    with pytest.raises(ConfigError, match=r"config\.train\.precision: float64 needs JAX_ENABLE_X64=1"):
        go(tiny(train__precision="float64"), tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", sorted(numerics.REFUSED))
def test_what_jax_cannot_train_with_is_refused(tiny, tmp_path, name):
    with option(name, numerics.REFUSED[name][-1]), pytest.raises(ConfigError, match=f"{name.upper()} is "):
        go(tiny(), tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("variables", "platform", "expected"), [
    ({}, "cpu", {}),
    ({"XLA_FLAGS": "--xla_cpu_enable_fast_math"}, "cpu", {"XLA_FLAGS --xla_cpu_enable_fast_math": "true"}),
    ({"XLA_FLAGS": "--xla_cpu_enable_fast_math=false --xla_cpu_enable_fast_math=True"}, "cpu",
     {"XLA_FLAGS --xla_cpu_enable_fast_math": "true"}),  # the last one counts
    ({"XLA_FLAGS": "--xla_cpu_enable_fast_math"}, "cuda", {}),
    ({"XLA_FLAGS": "--xla_gpu_deterministic_ops=true --xla_allow_excess_precision=false"}, "cuda",
     {"XLA_FLAGS --xla_gpu_deterministic_ops": "true", "XLA_FLAGS --xla_allow_excess_precision": "false"}),
    ({"XLA_FLAGS": "--xla_gpu_deterministic_ops=true --xla_allow_excess_precision=false"}, "cpu",
     {"XLA_FLAGS --xla_allow_excess_precision": "false"}),
    ({"XLA_FLAGS": "--xla_dump_to=/tmp --xla_force_host_platform_device_count=4 "
                   "--xla_cpu_collective_timeout_seconds=240 --xla_gpu_cuda_data_dir=/usr"}, "cpu", {}),
    ({"XLA_FLAGS": "FILE"}, "cpu", {"XLA_FLAGS --xla_cpu_enable_fast_math": "true"}),
    ({"XLA_FLAGS": "--xla_dump_to='a folder' --xla_new='1 2'"}, "tpu", {"XLA_FLAGS --xla_new": "1 2"}),
    ({"NVIDIA_TF32_OVERRIDE": "0", "NCCL_ALGO": "Ring"}, "rocm", {"NVIDIA_TF32_OVERRIDE": "0", "NCCL_ALGO": "Ring"}),
    ({"NVIDIA_TF32_OVERRIDE": "0", "NPROC": "1"}, "cpu", {"NPROC": "1"}),
    ({"CUBLAS_WORKSPACE_CONFIG": ":8:8", "CUDNN_LOGDEST_DBG": "x", "NCCL_DEBUG": "INFO"}, "cuda",
     {"CUBLAS_WORKSPACE_CONFIG": ":8:8"}),
    ({"LIBTPU_INIT_ARGS": "--xla_x=1"}, "tpu", {"LIBTPU_INIT_ARGS": "--xla_x=1"}),
    ({"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1:glibc.cpu.hwcaps=-AVX2"}, "cpu",
     {"GLIBC_TUNABLES": "glibc.cpu.hwcaps=-AVX2"}),
    ({"ALEXNET_DATA_DIR": "/x", "JAX_PLATFORMS": "cpu", "TF_CPP_MIN_LOG_LEVEL": "0"}, "cpu", {}),
])
def test_what_the_environment_asks_for(monkeypatch, tmp_path, variables, platform, expected):
    (tmp_path / "flags").write_text("--xla_cpu_enable_fast_math\n")
    usual = environment.xla_flags()
    monkeypatch.delenv("XLA_FLAGS", raising=False)
    for name, text in variables.items():
        monkeypatch.setenv(name, text)
    text = os.environ.get("XLA_FLAGS", "")
    if text == "FILE":
        (tmp_path / "flags").write_text(f"{usual} --xla_cpu_enable_fast_math\n")
        monkeypatch.setenv("XLA_FLAGS", str(tmp_path / "flags"))
    else:
        monkeypatch.setenv("XLA_FLAGS", f"{text} {usual}")
    assert numerics.asked(platform) == expected


# Of jax 0.10.2 and 0.11.2: what checks, caches, logs, chooses devices or is pinned, seen to leave a run's bytes alone
# where that can be tried on a CPU.
NO_NUMBERS = """
    check_vma jax2tf_associative_scan_reductions jax2tf_default_native_serialization jax_array_garbage_collection_guard
    jax_auto_pcast jax_backend_target jax_captured_constants_report_frames jax_captured_constants_warn_bytes
    jax_check_proxy_envs jax_check_static_indices jax_check_tracer_leaks jax_compilation_cache_check_contents
    jax_compilation_cache_dir jax_compilation_cache_expect_pgle jax_compilation_cache_include_metadata_in_key
    jax_compilation_cache_max_size jax_compiler_detailed_logging_min_ops jax_cpu_collectives_implementation
    jax_cpu_enable_async_dispatch jax_cpu_get_global_topology_timeout_minutes
    jax_cpu_get_local_topology_timeout_minutes jax_cross_host_transfer_socket_address
    jax_cross_host_transfer_timeout_seconds jax_cross_host_transfer_transfer_size jax_cross_host_transport_addresses
    jax_cuda_visible_devices jax_debug_infs jax_debug_key_reuse jax_debug_leaked_clients_on_clear_backends
    jax_debug_log_modules jax_debug_nans jax_default_device jax_default_prng_impl jax_disable_bwd_checks
    jax_disable_vmap_shmap_error jax_disallow_mesh_context_manager jax_distributed_debug
    jax_distributed_verify_secure_credentials jax_dump_ir_modes jax_dump_ir_to jax_embedded_constants_max_bytes
    jax_enable_checks jax_enable_compilation_cache jax_enable_custom_prng jax_enable_preemption_service
    jax_enable_recoverability jax_enable_x64 jax_error_checking_behavior_oob jax_experimental_unsafe_xla_runtime_errors
    jax_explain_cache_misses jax_explicit_x64_dtypes jax_export_calling_convention_version
    jax_export_deserialize_expired_versions jax_export_ignore_forward_compatibility jax_force_dcn_cross_host_transfers
    jax_high_dynamic_range_gumbel jax_hlo_source_file_canonicalization_regex jax_include_debug_info_in_dumps
    jax_include_full_tracebacks_in_locations jax_legacy_prng_key jax_log_checkpoint_residuals jax_log_compiles
    jax_logging_level jax_mock_gpu_topology jax_mosaic_allow_hlo jax_mtls_ca_file jax_mtls_cert_file jax_mtls_key_file
    jax_mtls_peer_uri_prefix jax_mutable_array_checks jax_num_cpu_devices jax_numpy_dtype_promotion
    jax_numpy_rank_promotion jax_oneapi_visible_devices jax_pallas_auto_assign_collective_ids
    jax_pallas_auto_assign_collective_ids_limit jax_pallas_enable_debug_checks jax_pallas_verbose_errors
    jax_persistent_cache_enable_xla_caches jax_persistent_cache_min_compile_time_secs
    jax_persistent_cache_min_entry_size_bytes jax_pgle_aggregation_percentile jax_pgle_profiling_runs jax_platform_name
    jax_platforms jax_pprint_use_color jax_raise_on_ppermute_sort_diff jax_raise_persistent_cache_errors
    jax_random_seed_offset jax_refs_to_pins jax_remove_custom_partitioning_ptr_from_cache_key
    jax_remove_size_one_mesh_axis_from_type jax_rocm_visible_devices jax_send_traceback_to_runtime
    jax_serialization_version jax_share_binary_between_hosts jax_share_binary_between_hosts_timeout_ms
    jax_sort_devices_by_process_index jax_source_url_schema jax_thread_guard jax_threefry_partitionable
    jax_traceback_filtering jax_traceback_in_locations_limit jax_tracer_error_num_traceback_frames
    jax_use_cpp_shard_args jax_use_emit_pipeline_primitive jax_xla_backend mock_num_gpu_processes
"""


def test_every_option_of_jax_is_judged():
    judged = {*numerics._OPTIONS, *numerics._ON_ACCELERATORS, *numerics.REFUSED}
    new = set(jax.config.values) - judged - set(NO_NUMBERS.split())
    assert not new, "can they change a number? alexnet_jax/numerics.py or NO_NUMBERS"
    for name, value in (numerics._OPTIONS | numerics._ON_ACCELERATORS).items():
        assert name not in jax.config.values or jax.config.values[name] == value, name


def test_what_was_asked_of_jax(monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", environment.xla_flags())
    with option("jax_default_matmul_precision", "bfloat16"):
        assert numerics.asked("cpu") == {}  # CPUs have nothing less exact
        assert numerics.asked("cuda") == {"JAX_DEFAULT_MATMUL_PRECISION": "bfloat16"}
    with option("jax_optimization_level", "O1"):
        assert numerics.asked("cpu") == {"JAX_OPTIMIZATION_LEVEL": "O1"}
    if environment.xla_flags():  # left out by a script that doesn't call environment.prepare
        monkeypatch.delenv("XLA_FLAGS")
        assert numerics.asked("cpu") == {"XLA_FLAGS --xla_cpu_experimental_ynn_fusion_type": "unset"}
        assert numerics.asked("cuda") == {}


# On record, and compared at a resume.


def test_a_run_is_not_resumed_in_another_environment(tiny, unfinished, finished, monkeypatch):
    before = run_files.read_json(unfinished / "run.json")
    assert before["environment"] == numerics.asked("cpu")
    files = sorted(str(path) for path in unfinished.rglob("*"))
    with monkeypatch.context() as patch:
        patch.setenv("XLA_FLAGS", os.environ["XLA_FLAGS"] + " --xla_cpu_enable_fast_math=true")
        with pytest.raises(WorkdirError, match="XLA_FLAGS --xla_cpu_enable_fast_math was 'unset' and is 'true' now"):
            go(tiny(), unfinished)
    # A run.json that recorded nothing of it counts as one of the defaults.
    run_files.write_json(unfinished / "run.json", {k: v for k, v in before.items() if k != "environment"})
    with monkeypatch.context() as patch:
        patch.setenv("XLA_FLAGS", f"{environment.xla_flags()} --xla_cpu_enable_fast_math=true")
        with pytest.raises(WorkdirError, match="was 'unset' and is 'true' now; set it as it was, or choose another"):
            go(tiny(), unfinished)
    assert sorted(str(path) for path in unfinished.rglob("*")) == files
    monkeypatch.setenv("XLA_FLAGS", environment.xla_flags())
    go(tiny(), unfinished)
    assert (unfinished / "metrics.csv").read_bytes() == (finished / "metrics.csv").read_bytes()


def test_an_analysis_in_another_environment_says_so_and_adds_nothing_to_a_result(finished, monkeypatch, capsys):
    said = []
    assert trained.Trained(finished, said.append).program
    assert said == []
    monkeypatch.setenv("XLA_FLAGS", os.environ["XLA_FLAGS"] + " --xla_cpu_enable_fast_math=true")
    assert trained.Trained(finished, said.append).program
    differs = ("this run was made in another environment: XLA_FLAGS --xla_cpu_enable_fast_math was 'unset' and is "
               "'true' now")
    assert said == [f"note: {finished}: {differs}; numbers computed here may differ"]
    with pytest.raises(WorkdirError, match=f"{differs}; set it as it was to add to its result"):
        evaluate.main([str(finished), "--record"])


# Provenance.


def test_each_resume_says_what_was_other_than_at_the_beginning(tiny, tmp_path, monkeypatch):
    for step in (1, 2):
        with monkeypatch.context() as patch:
            tiny_run.at(patch, step, interrupt)
            with pytest.raises(Interrupted):
                go(tiny(), tmp_path)
    monkeypatch.setattr(provenance, "git_state", lambda: {"revision": "f" * 40, "dirty": False})
    monkeypatch.setattr(provenance, "cores", lambda: range(77))
    real = provenance.versions()
    monkeypatch.setattr(provenance, "versions", lambda: real | {"jax": "0.99"})
    go(tiny(), tmp_path)
    about = run_files.read_json(tmp_path / "run.json")
    same, other = about["resumed"]
    assert isinstance(same, str)
    assert other == {"at": other["at"], "git": {"revision": "f" * 40, "dirty": False}, "versions": {"jax": "0.99"},
                     "device": {"cores": 77}}
    assert "note: changed since this run began: git, versions, device" in (tmp_path / "log.txt").read_text()
    first, second, third = provenance.stretches(about)
    assert first == second == about
    assert third["versions"] == real | {"jax": "0.99"}
    assert third["device"] == about["device"] | {"cores": 77}


def git(folder, *arguments):
    return subprocess.run(["git", "-C", str(folder), "-c", "user.name=a", "-c", "user.email=a@b", *arguments],
                          capture_output=True, text=True, check=True).stdout.strip()


def test_the_revision_or_why_it_is_not_known(tmp_path, monkeypatch):
    root = tmp_path / "checkout"
    (root / "alexnet_jax").mkdir(parents=True)
    (root / "alexnet_jax" / "__init__.py").touch()
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))
    assert provenance.git_state(root) == {"unknown": "not a git checkout"}  # a tarball
    git(root, "init", "-q")
    assert provenance.git_state(root) == {"unknown": "not a git checkout"}  # installed within another project's
    git(root, "add", ".")
    assert provenance.git_state(root)["unknown"].startswith("git: fatal: ")  # no commit yet
    git(root, "commit", "-qm", "one")
    known = {"revision": git(root, "rev-parse", "HEAD"), "dirty": False}
    assert provenance.git_state(root) == known
    with monkeypatch.context() as patch:  # as in a hook of another repository
        patch.setenv("GIT_DIR", str(tmp_path / "elsewhere"))
        assert provenance.git_state(root) == known
    with monkeypatch.context() as patch:
        patch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
        assert "belongs to another user" in provenance.git_state(root)["unknown"]
    (root / "alexnet_jax" / "__init__.py").write_text("changed")
    assert provenance.git_state(root) == known | {"dirty": True}
    monkeypatch.setenv("PATH", str(tmp_path))
    assert provenance.git_state(root) == {"unknown": "git is not installed"}
