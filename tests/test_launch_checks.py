"""A dry run refuses whatever a run's start refuses, in the same line and before anything is written."""

import json
import os
import pathlib
import subprocess
import sys

import pytest
from fake_driver import ROOT

from alexnet_jax import cli
from alexnet_jax import config as config_lib
from alexnet_jax.errors import ConfigError, DataError
from alexnet_jax.training import checks
from experiments import run
from experiments.executors import Unasked, devices
from experiments.sweep import plan as plan_lib
from experiments.sweep.arms import Arm

WRONG = [
    # As configs/sweeps/dropout_by_images.py had it: an arm with fewer images than the base's `fit_split` names.
    ({"data.train_split": "train[:3000]"}, r"config\.data\.fit_split: 2,000 images of 'train\[:5000\]' are not in"),
    ({"data.train_split": "train[:90]", "data.fit_split": "train[:90]"},
     r"config\.train\.batch_size: 128 is more than the 90 images of 'train\[:90\]'"),
    ({"data.fold_split": "train[:100]", "data.fold_at": 0.5}, r"config\.train\.batch_size: 128 is more than the 100"),
    ({"data.eval_split": "train[90000:]"}, r"config\.data\.eval_split: 'train\[90000:\]' reaches beyond train"),
    ({"data.tune_split": "train[:500]"}, r"config\.data\.tune_split: 500 images of 'train\[:500\]' are in"),
    ({"model.classes": 3}, r"config\.model\.classes: 3 outputs for the \d+ classes of shapes"),
    # The mesh is no part of what a run is, so it is the base's.
    ({"mesh.data": 3}, r"config\.mesh\.data: a batch of 128 does not divide over 3 devices"),
    ({"mesh.column": 3}, r"config\.mesh\.column: 2 columns do not divide over 3 devices"),
]


def _config(tmp_path, **overrides):
    base = config_lib.override(cli.load_config("configs/shapes.py"), {
        "data.fit_split": "train[:5000]", "data.train_split": "train[:8000]", "data.store": str(tmp_path / "store"),
        "train.batch_size": 128, **overrides})
    return config_lib.resolve(base)


@pytest.mark.parametrize(("overrides", "message"), WRONG)
def test_a_dry_run_refuses_what_a_start_refuses(tmp_path, overrides, message):
    whole = any(name.startswith("mesh") for name in overrides)
    base, arms = _config(tmp_path, **overrides if whole else {}), [] if whole else [Arm("wrong", overrides)]
    asked = plan_lib.build(base, "configs/shapes.py", "mine", arms, (0, 1))
    with pytest.raises(ConfigError, match=f"^{'' if whole else 'arm wrong: '}{message}") as dry:
        run.check_runs(asked, None, run._check)
    workdir = tmp_path / "w"
    with pytest.raises(ConfigError) as started:
        run.carry_out(asked, workdir, Unasked(1))
    assert str(started.value) == str(dry.value)
    assert not list(tmp_path.iterdir())
    config = _config(tmp_path, **overrides)
    with pytest.raises(ConfigError, match=message):  # as a single run's start
        _ = checks.layers(config), checks.images(config)


def test_a_dry_run_looks_where_packed_images_and_runs_would_go(tmp_path):
    (tmp_path / "file").touch()
    asked = plan_lib.build(_config(tmp_path, **{"data.store": str(tmp_path / "file" / "store")}), "", "mine", [], (0,))
    with pytest.raises(DataError, match=r"file/store: no folder that this user may write to \(config\.data\.store or"):
        run.check_runs(asked, None, run._check)
    command = ["experiments.run", "--config=configs/shapes.py", "--dry_run", f"--workdir={tmp_path / 'file' / 'w'}"]
    done = subprocess.run([sys.executable, "-m", *command], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.stderr == (f"error: --workdir={tmp_path / 'file' / 'w'}: a part of this path is a file, not a folder; "
                           "choose another place\n")


def test_a_dry_run_knows_how_many_devices_a_run_has(tmp_path):
    asked = plan_lib.build(_config(tmp_path, **{"mesh.data": 2}), "configs/shapes.py", "mine", [], (0,))
    run.check_runs(asked, None, run._check)  # on a cluster it has as many as it asks for
    with pytest.raises(ConfigError, match=r"2 × 1 devices are needed and 1 device is present"):
        run.check_runs(asked, None, run._check, devices=1)
    assert devices.of_a_cpu({"JAX_PLATFORMS": "cpu"}) == 1
    assert devices.of_a_cpu({"JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": "4"}) == 4
    assert devices.of_a_cpu({"JAX_PLATFORMS": "cpu", "XLA_FLAGS": "--xla_force_host_platform_device_count=4"}) is None


def test_the_command_line_says_it_too(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "experiments.run", "--config=configs/shapes.py", "--dry_run", "--seeds=1",
         "--config.train.batch_size=64000", f"--config.data.store={tmp_path / 'store'}"],
        capture_output=True, text=True, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, check=False)
    assert done.returncode == ConfigError.exit_code
    assert done.stderr.startswith("error: config.train.batch_size: 64000 is more than the ")
    assert len(done.stderr.splitlines()) == 1


def test_the_device_of_a_run_is_that_of_all_its_stretches():
    first = {"platform": "gpu", "kind": "NVIDIA H200", "count": 1, "cores": 16}
    about = {"device": first, "resumed": ["2026-01-01", {"at": "2026-01-02", "device": {"kind": "Xeon", "cores": 1,
                                                                                     "platform": "cpu"}}]}
    card, cpu = devices.Device("NVIDIA H200", 0), devices.Device("Xeon", 1)
    assert devices.all_of({"device": first, "resumed": ["2026-01-01"]}) == [card]
    assert devices.all_of(about) == [card, cpu]
    assert devices.all_of({}) == devices.all_of({"device": "none"}) == []
    assert str(devices.Device("Xeon", 2)) == "Xeon, 2 cores a run"
    assert str(devices.Device("NVIDIA H200", 0, 2)) == "2 × NVIDIA H200 a run"
    recorded = pathlib.Path(ROOT) / "experiments" / "results" / "paper_like_cpu" / "runs.jsonl"
    kind = json.loads(recorded.read_text().splitlines()[0])["run"]["device"]["kind"]
    assert kind == "AMD EPYC"
