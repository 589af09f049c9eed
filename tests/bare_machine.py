"""Does the project run where an accelerator is usually lent: no internet, a few packages, no TFDS? By hand or weekly.

    python tests/bare_machine.py --python=python3.12
    make bare PYTHON=python3.12 ARGS="--venv=/tmp/bare --cuts=5"

Makes a virtual environment of `PACKAGES`, two wheels and PyTorch, where JAX for CPUs stands for that for a card, and
tries in it what is done on such a machine: pytest with the plugins that are there, a plain folder of images, a packed
store without that folder, a small sweep, and `benchmarks.accelerator --quick`, killed at random moments and started
again until it has finished. A quarter of an hour or so on two idle cores; --venv keeps the environment.
"""

import argparse
import json
import os
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent
sys.path.insert(0, str(HERE))

import emulated  # noqa: E402

PACKAGES = ("jax<0.12", "flax", "optax", "orbax-checkpoint", "numpy", "scipy", "pandas", "matplotlib", "pillow", "rich",
            "filelock", "absl-py", "msgpack", "pytest", "pytest-xdist", "pytest-timeout", "pytest-benchmark")
WHEELS = ("ml_collections", "tensorboardX")  # brought along, without what they would like to have
TORCH = ("torch", "--index-url=https://download.pytorch.org/whl/cpu")
ABSENT = ("tensorflow_datasets", "array_record", "tensorflow", "safetensors", "anyascii", "hypothesis", "jupyterlab")
TINY = ["--config.train.epochs=1", "--config.train.batch_size=8", "--config.augment.chunk=1",
        *(f"--config.model.{layer}.features=8" for layer in
          ("conv1", "conv2", "conv3", "conv4", "conv5", "fc6", "fc7"))]
FOLDER = """
import pathlib, sys
import numpy as np
from PIL import Image
rng = np.random.default_rng(0)
for split, count in (("train", 24), ("val", 8)):
    for name in ("one", "two"):
        folder = pathlib.Path(sys.argv[1], "things", split, name)
        folder.mkdir(parents=True)
        for number in range(count):
            Image.fromarray(rng.integers(0, 256, (70, 90, 3), np.uint8)).save(folder / f"{number}.jpg")
"""


class Failed(Exception):
    """A check that has failed."""


class Machine:
    """The environment, and a folder for everything else: its home, data, stores and workdirs."""

    def __init__(self, venv, folder, python):
        self.venv, self.folder, self.python = venv, folder, venv / "bin" / "python"
        self.log = folder / "output.txt"
        if not self.python.exists():
            self.say(f"making {venv}")
            self.call([python, "-m", "venv", str(venv)])
            pip = [str(self.python), "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
            self.call([*pip, *PACKAGES], env=dict(os.environ))
            self.call([*pip, "--no-deps", *WHEELS], env=dict(os.environ))
            try:
                self.call([*pip, *TORCH], env=dict(os.environ))
            except Failed:
                self.say("PyTorch for CPUs cannot be had here: this project will be measured alone")

    def say(self, line):
        print(f"{time.strftime('%H:%M:%S')}  {line}", flush=True)

    @property
    def env(self):
        """Nothing of this user's: no settings, no caches, no data; and no way out."""
        nowhere = dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), "http://127.0.0.1:9")
        return {"PATH": os.environ["PATH"], "HOME": str(self.folder / "home"), "PYTHONPATH": str(ROOT),
                "ALEXNET_DATA_DIR": str(self.folder / "data"), "ALEXNET_STORE_DIR": str(self.folder / "store"),
                "PYTHONUNBUFFERED": "1", "JAX_PLATFORMS": "cpu", "XLA_FLAGS": emulated.QUICK, **nowhere}

    def call(self, command, seconds=1800.0, env=None):
        """Runs a command to its end; its output is in output.txt. Raises Failed unless it ends with 0."""
        with self.log.open("a", encoding="utf-8") as out:
            out.write(f"\n$ {' '.join(command)}\n")
            out.flush()
            try:
                code = subprocess.run(command, stdout=out, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
                                      timeout=seconds, check=False, cwd=ROOT, env=env or self.env).returncode
            except subprocess.TimeoutExpired:
                code = f"none within {seconds:.0f} s"
        if code:
            raise Failed(f"{' '.join(command[:6])} …: exit code {code}; see {self.log}")

    def module(self, name, *arguments):
        self.call([str(self.python), "-m", name, *arguments])

    # What is tried.

    def packages(self):
        found = subprocess.run([str(self.python), "-c", "import importlib.util, sys; print(*[name for name in sys.argv"
                                "[1:] if importlib.util.find_spec(name)])", *ABSENT], capture_output=True, text=True,
                               check=True, cwd=self.folder).stdout.split()
        if found:
            raise Failed(f"{self.venv} has {', '.join(found)}, which a bare machine lacks")

    def tests(self):
        for more in ((), ("-n", "2")):
            self.module("pytest", "-q", *more, "tests/test_accelerator.py", "tests/test_ground_files.py")

    def plain_folder(self):
        self.call([str(self.python), "-c", FOLDER, str(self.folder / "data")])
        self._train("from-folder")

    def packed_store(self):
        shutil.rmtree(self.folder / "data" / "things")
        self._train("from-store")
        rows = [(self.folder / name / "metrics.csv").read_text() for name in ("from-folder", "from-store")]
        if rows[0] != rows[1]:
            raise Failed("a run from the packed store alone is another one than that from the folder")

    def _train(self, name):
        self.module("alexnet_jax.main", "--config=configs/image_folder.py", "--config.data.name=image_folder:things",
                    f"--workdir={self.folder / name}", *TINY)

    def sweep(self):
        self.module("experiments.run", "--config=configs/shapes.py", "--ablations=lrn.no_lrn", "--seeds=1",
                    "--config.data.train_split=train[:64]", "--config.data.eval_split=test[:32]", "--jobs=2",
                    f"--workdir={self.folder / 'sweep'}", *TINY)
        if not (self.folder / "sweep" / "report.md").exists():
            raise Failed("the sweep has no report")

    def accelerator(self, cuts, chance):
        out = self.folder / "accelerator"
        command = [str(self.python), "-m", "benchmarks.accelerator", "--quick", "--minutes=60", f"--out={out}"]
        for number in range(cuts):
            with self.log.open("a", encoding="utf-8") as log:
                child = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
                                         cwd=ROOT, env=self.env)
            moment = chance.uniform(1, 90)
            try:
                child.wait(moment)
                break
            except subprocess.TimeoutExpired:
                child.send_signal(chance.choice((signal.SIGKILL, signal.SIGTERM)))
                child.wait()
            files = {path.name: json.loads(path.read_text("utf-8")) for path in sorted(out.glob("*.json"))}
            steps = {name: len(found.get("steps", ())) for name, found in files.items()}
            self.say(f"cut off after {moment:.0f} s, {number + 1} of {cuts}; steps so far: {steps}")
        self.module(*command[2:])
        for path in sorted(out.glob("*.json")):
            found = json.loads(path.read_text("utf-8"))
            if found["status"] != "finished":
                raise Failed(f"{path}: {found['status']}: {found.get('error')}")
            self.say(f"{path.name}: {len(found['steps'])} steps")
        time.sleep(5.0)
        left = [number for number in os.listdir("/proc") if number.isdecimal() and str(out).encode() in _words(number)]
        if left:
            raise Failed(f"still running: {left}")


def _words(process):
    try:
        return pathlib.Path("/proc", process, "cmdline").read_bytes()
    except OSError:
        return b""


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python", default="python3.12", help="of which the environment is made")
    parser.add_argument("--venv", type=pathlib.Path, help="the environment, made if absent and kept")
    parser.add_argument("--cuts", type=int, default=4, help="how often benchmarks.accelerator is killed")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    options = parser.parse_args(argv)
    folder = pathlib.Path(tempfile.mkdtemp(prefix="bare-"))
    for name in ("home", "data", "store"):
        (folder / name).mkdir()
    machine = Machine((options.venv or folder / "venv").absolute(), folder, options.python)
    failed = []
    for check, arguments in ((machine.packages, ()), (machine.tests, ()), (machine.plain_folder, ()),
                             (machine.packed_store, ()), (machine.sweep, ()),
                             (machine.accelerator, (options.cuts, random.Random(options.seed)))):
        try:
            check(*arguments)
            machine.say(f"{check.__name__}: right")
        except Failed as why:
            failed.append(check.__name__)
            machine.say(f"{check.__name__}: FAILED: {why}")
    if not failed:
        shutil.rmtree(folder)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
