"""Messages of libraries that this project parses: fails when a library changes one."""

import os
import pathlib
import subprocess
import sys

import jax
import jax.numpy as jnp
import ports
import pytest
from absl import flags

from alexnet_jax import messages

PROGRAMS = pathlib.Path(__file__).parent / "programs"


def _last_line(*arguments, **environment):
    done = subprocess.run([sys.executable, *map(str, arguments)], capture_output=True, text=True, check=False,
                          env=os.environ | {"JAX_PLATFORMS": "cpu"} | environment)
    return (done.stdout + done.stderr).strip().splitlines()[-1]


@pytest.mark.parametrize(("variable", "value"), [("JAX_ENABLE_X64", "perhaps"), ("JAX_NUM_CPU_DEVICES", "many")])
def test_a_variable_that_jax_does_not_know(variable, value):
    kind, _, said = _last_line("-c", "import jax", **{variable: value}).partition(": ")
    assert kind == "ValueError"
    assert messages.is_about_a_variable(ValueError(said))
    assert not messages.is_about_a_variable(RuntimeError(said))


def test_a_device_without_room():
    with pytest.raises(jax.errors.JaxRuntimeError) as caught:
        jnp.zeros(1 << 50).block_until_ready()
    assert messages.is_out_of_memory(caught.value)
    with pytest.raises(jax.errors.JaxRuntimeError) as caught:  # another failure of the same type
        jax.jit(lambda: jax.pure_callback(lambda: 1 / 0, jax.ShapeDtypeStruct((), jnp.int32)))().block_until_ready()
    assert not messages.is_out_of_memory(caught.value)


@pytest.mark.skipif(sys.platform != "linux", reason="limits the open files of a process")
@pytest.mark.parametrize(("how", "now"), [("full", True), ("damaged", False)])
def test_a_file_that_cannot_be_had_now(how, now):
    folder, kind, said = _last_line(PROGRAMS / "limited_reading.py", how).split(" ", 2)
    assert kind == "ValueError"
    assert messages.is_for_now(ValueError(said), folder) == now


def test_a_process_that_does_not_answer():
    """Gloo's own words, when a process is killed, are in test_parallel_distributed.py."""
    from jax._src.lib import _jax

    address = f"localhost:{ports.free()}"
    service = _jax.get_distributed_runtime_service(address, 1)
    try:
        client = _jax.get_distributed_runtime_client(address, 0, init_timeout=240)
        client.connect()
        with pytest.raises(jax.errors.JaxRuntimeError) as caught:
            client.blocking_key_value_get("what nobody says", 50)
        client.shutdown()
    finally:
        service.shutdown()
    assert messages.is_loss(caught.value)
    assert not messages.is_out_of_memory(caught.value)


@pytest.mark.parametrize(("argument", "words"), [
    ("--number=x", "--number=x: 'x' is not a whole number"), ("--switch=x", "--switch=x: 'x' is not True or False"),
    ("--other=x", "Unknown command line flag 'other'")])
def test_flags(argument, words):
    own = flags.FlagValues()
    flags.DEFINE_integer("number", 1, "", flag_values=own)
    flags.DEFINE_bool("switch", False, "", flag_values=own)
    with pytest.raises(flags.Error) as caught:
        own(["command", argument])
    assert messages.of_flag(caught.value).startswith(words)


@pytest.mark.parametrize(("given", "said"), [((), []), (("--verbosity=0",), ["line"])])
def test_no_library_logs_unless_requested(given, said):
    # Matplotlib told of its new list of fonts so, in the middle of a user's first sweep.
    program = ("import logging\nfrom absl import app\nfrom alexnet_jax import cli\n"
               "app.run(lambda _: logging.getLogger('some.library').info('line'), flags_parser=cli.parse_flags)")
    done = subprocess.run([sys.executable, "-c", program, *given], capture_output=True, text=True, check=True)
    assert [line.rpartition("] ")[2] for line in done.stderr.splitlines()] == said
