"""What `pip install .` installs: every command and config, found from any folder."""

import os
import pathlib
import shutil
import subprocess
import sys
import zipfile

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[1]
PACKAGES = ("alexnet_jax", "experiments", "configs", "benchmarks")
DATA = ("alexnet_jax/inspect/targets/h100.txtpb", "experiments/convergence.ipynb",
        "experiments/columns.ipynb", "experiments/executors/slurm.sh")
BUILD = "import setuptools.build_meta, sys; setuptools.build_meta.build_wheel(sys.argv[1])"
COMMANDS = {
    "main": (["alexnet_jax.main", "--help"], "--config=configs/shapes.py"),
    "prepare": (["alexnet_jax.data.prepare", "--help"], "--config=configs/shapes.py"),
    "describe": (["alexnet_jax.describe", "--config=configs/imagenet_released.py"], "60,965,224 parameters"),
    "sweep": (["experiments.run", "--sweep=configs/sweeps/three.py", "--dry_run"], "16 runs, 16 to do"),
    "own": (["experiments.run", "--config=mine.py", "--dry_run"], "mine: base mine.py"),
    "list": (["experiments.run", "--list"], "Response normalisation"),
    "worker": (["experiments.launch.worker", "--help"], "one run of a sweep"),
}


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The content of the wheel, unpacked as it would be among a user's packages."""
    tmp = tmp_path_factory.mktemp("wheel")
    for name in PACKAGES:
        shutil.copytree(ROOT / name, tmp / "source" / name, ignore=shutil.ignore_patterns("results", "__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tmp / "source")
    (tmp / "wheel").mkdir()
    done = subprocess.run([sys.executable, "-c", BUILD, str(tmp / "wheel")], cwd=tmp / "source", capture_output=True,
                          encoding="utf-8", check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    [wheel] = (tmp / "wheel").glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp / "installed")
    return tmp / "installed"


def test_every_module_and_what_they_read_is_installed(installed):
    wanted = {path.relative_to(ROOT).as_posix() for name in PACKAGES for path in (ROOT / name).rglob("*.py")}
    found = {path.relative_to(installed).as_posix() for path in installed.rglob("*") if path.is_file()}
    assert len(wanted) > 100
    assert wanted | set(DATA) <= found
    assert {name.split("/")[0] for name in found if ".dist-info" not in name} == set(PACKAGES)
    assert not any("/results/" in name for name in found)  # megabytes that a clone has


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_and_configs_are_found_from_any_folder(installed, tmp_path, command):
    arguments, words = COMMANDS[command]
    (tmp_path / "mine.py").write_text("from configs.shapes import get_config\n", encoding="utf-8")
    done = subprocess.run([sys.executable, "-m", *arguments], cwd=tmp_path, capture_output=True, encoding="utf-8",
                          check=False, env=os.environ | {"PYTHONPATH": str(installed)})
    assert (done.returncode, done.stderr) == (0, "")
    assert words in done.stdout
