"""The command line: every mistake gives one line on stderr and an exit code, and costs nothing."""

import json
import os
import pathlib
import subprocess
import sys

import pytest
import tiny_run

ROOT = pathlib.Path(__file__).resolve().parents[1]
USAGE, RUN = 2, 1
SHAPES = "--config=configs/shapes.py"
WORKDIR = "--workdir=TMP/run"

FILES = {
    "syntax.py": "def get_config():\n    return (\n",
    "raises.py": "import alexnet_jax.config\n\n1 / 0\n",
    "raises_later.py": "def get_config():\n    return {}['x']\n",
    "empty.py": "",
    "a_dict.py": "def get_config():\n    return {'seed': 0}\n",
    "nothing.py": "def get_config():\n    pass\n",
    "misspelt.py": "from configs import shapes\n\ndef get_config():\n    c = shapes.get_config()\n"
                   "    c.train.epoch = 3\n    return c\n",
    "a_file": "",
}

# name: (arguments, exit code, what the line says)
CASES = {
    "no_config": ([WORKDIR], USAGE, "--config=FILE is needed"),
    "no_workdir": ([SHAPES], USAGE, "--workdir=FOLDER is needed"),
    "empty_workdir": ([SHAPES, "--workdir="], USAGE, "--workdir=FOLDER is needed"),
    "config_apart": (["--config", "configs/shapes.py", WORKDIR], USAGE, "--config: write it as --config=FILE"),
    "no_such_file": (["--config=configs/shape.py", WORKDIR], USAGE,
                     "--config=configs/shape.py: no such file (did you mean shapes.py?); "),
    "syntax": (["--config=TMP/syntax.py", WORKDIR], USAGE, "syntax.py: line 2: SyntaxError"),
    "raises": (["--config=TMP/raises.py", WORKDIR], USAGE, "raises.py: line 3: ZeroDivisionError"),
    "raises_later": (["--config=TMP/raises_later.py", WORKDIR], USAGE, "raises_later.py: line 2: KeyError"),
    "empty": (["--config=TMP/empty.py", WORKDIR], USAGE, "the file defines no get_config()"),
    "nothing": (["--config=TMP/nothing.py", WORKDIR], USAGE, "get_config() returns NoneType; it should return"),
    "a_dict": (["--config=TMP/a_dict.py", WORKDIR], USAGE, "get_config() returns dict"),
    "misspelt": (["--config=TMP/misspelt.py", WORKDIR], USAGE, "epoch"),
    "recipe": ([f"{SHAPES}:papr", WORKDIR], USAGE, "'papr': not one of paper, released"),
    "field": ([SHAPES, WORKDIR, "--config.train.epoch=3"], USAGE,
              "config.train.epoch: no such field; did you mean config.train.epochs"),
    "group": ([SHAPES, WORKDIR, "--config.train=3"], USAGE, "config.train is a group of fields"),
    "no_value": ([SHAPES, WORKDIR, "--config.train.epochs"], USAGE, "write it as --config.train.epochs=VALUE"),
    "field_alone": ([WORKDIR, "--config.train.epochs=3"], USAGE, "--config=FILE is needed too"),
    "type": ([SHAPES, WORKDIR, "--config.train.epochs=many"], USAGE, "config.train.epochs"),
    "fraction": ([SHAPES, WORKDIR, "--config.train.epochs=2.5"], USAGE, "config.train.epochs"),
    "boolean": ([SHAPES, WORKDIR, "--config.augment.mirror=perhaps"], USAGE, "config.augment.mirror"),
    "tuple": ([SHAPES, WORKDIR, "--config.model.lrn.layers=(1,"], USAGE, "config.model.lrn.layers"),
    "range": ([SHAPES, WORKDIR, "--config.optim.momentum=2"], USAGE, "config.optim.momentum: 2.0 is above 0.9999"),
    "float64": ([SHAPES, WORKDIR, "--config.train.precision=float64"], USAGE,
                "config.train.precision: float64 needs JAX_ENABLE_X64=1"),
    "no_such_devices": (["JAX_PLATFORMS=rocm", SHAPES, WORKDIR], USAGE, "JAX_PLATFORMS=rocm: no such devices here"),
    "choice": ([SHAPES, WORKDIR, "--config.model.activation=rel"], USAGE, "did you mean relu?"),
    "together": ([SHAPES, WORKDIR, "--config.data.crop=33"], USAGE, "config.data.crop: 33 is larger than"),
    "flag": ([SHAPES, "--workdri=x"], USAGE, "workdri"),
    "junk": ([SHAPES, WORKDIR, "train.epochs=3"], USAGE, "'train.epochs=3': not understood"),
    # These come as far as JAX.
    "shapes": ([SHAPES, WORKDIR, "--config.model.pool.window=30"], USAGE, "config.model.pool: a window of 30"),
    "data": (["--config=configs/image_folder.py", WORKDIR, "--config.data.dir=TMP/none"], RUN,
             "none: no such folder; name the one that holds the datasets"),
    "workdir_is_a_file": ([SHAPES, "--workdir=TMP/a_file/run"], RUN, "a_file"),
}


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """{case: (exit code, stdout, stderr, files in the workdir)}."""
    tmp = tmp_path_factory.mktemp("main")
    for name, content in FILES.items():
        (tmp / name).write_text(content)
    cases = {}
    for name, (arguments, _, _) in CASES.items():
        cases[name] = [a.replace("TMP/run", f"{tmp}/runs/{name}").replace("TMP", str(tmp)) for a in arguments]
    env = os.environ | {"PYTHONPATH": str(ROOT), "XDG_CACHE_HOME": str(tmp / "cache"), "JAX_PLATFORMS": "cpu",
                        "ALEXNET_STORE_DIR": str(tmp / "store")}
    env.pop("ALEXNET_DATA_DIR", None)
    done = subprocess.run([sys.executable, ROOT / "tests/programs/main_forked.py"], input=json.dumps(cases),
                          capture_output=True, text=True, cwd=tmp, env=env, check=True)
    codes = json.loads(done.stdout)
    return {name: (codes[name], *((tmp / f"{name}.{fd}").read_text() for fd in (1, 2)),
                   sorted(p.name for p in (tmp / "runs" / name).glob("[!.]*"))) for name in cases}


@pytest.mark.parametrize("case", CASES)
def test_a_mistake_is_one_line(results, case):
    _, expected, words = CASES[case]
    code, out, err, files = results[case]
    assert "Traceback" not in out + err
    assert len(err.splitlines()) == 1, err
    assert err.startswith("error: ")
    assert words in err
    assert code == expected
    assert set(files) <= {"log.txt"}  # nothing was begun


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write everywhere")
def test_a_workdir_without_permission(tmp_path):
    tmp_path.joinpath("locked").mkdir(mode=0o500)
    done = subprocess.run([sys.executable, "-m", "alexnet_jax.main", SHAPES, f"--workdir={tmp_path}/locked/run"],
                          capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == RUN
    assert "permission denied; choose a place" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_run_that_diverges_has_failed_and_says_so_again(tmp_path):
    fields = tiny_run.TINY | {"optim.learning_rate": 1e9, "augment.chunk": 8, "data.store": tmp_path / "store"}
    for words in ("given up: the loss was not finite", "run: nothing left to do; given up: the loss was not finite"):
        done = subprocess.run(
            [sys.executable, "-m", "alexnet_jax.main", SHAPES, f"--workdir={tmp_path / 'run'}",
             *(f"--config.{name}={value}" for name, value in fields.items())],
            capture_output=True, text=True, cwd=ROOT, env=os.environ | {"JAX_PLATFORMS": "cpu"}, check=False)
        assert done.returncode == RUN
        assert words in done.stdout.splitlines()[-1]
        assert "Traceback" not in done.stderr
