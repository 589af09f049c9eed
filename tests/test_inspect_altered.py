"""Truncated or altered run folders: the right answer or one line, from every command that reads their network."""

import json
import shutil

import jax
import numpy as np
import pytest
import tiny_run
from data_files import encoded, pixels

from alexnet_jax import config as config_lib
from alexnet_jax import evaluate, features, predict, run_files
from alexnet_jax.data import Classes
from alexnet_jax.errors import CheckpointError, UserError, WorkdirError
from alexnet_jax.inspect import trained
from alexnet_jax.inspect.trained import Trained
from alexnet_jax.training import inputs, workdir
from alexnet_jax.weights import exporting

_tiny, store, tiny, finished = tiny_run.use_tiny, tiny_run.store, tiny_run.tiny, tiny_run.finished
PUT_BACK = "put (it|the file) back as it was"


@pytest.fixture(autouse=True)
def _shared(monkeypatch):
    monkeypatch.setattr(trained, "Program", tiny_run.shared_program)


@pytest.fixture
def run(finished, tmp_path):
    """A copy of the run: run("config.data.size", 20) sets a value of its run.json, run("classes") takes a key away."""
    def make(place="", *value):
        shutil.copytree(finished, tmp_path / "run")
        about = run_files.read_json(tmp_path / "run" / "run.json")
        *groups, last = place.split(".")
        part = about
        for group in groups:
            part = part[group]
        if value:
            part[last] = value[0]
        elif place:
            del part[last]
        (tmp_path / "run" / "run.json").write_text(json.dumps(about))
        return tmp_path / "run"

    return make


def everything(folder, tmp_path, commands_=4):
    """What each command, or the first of them, says of the folder: '' where it answers, else its error."""
    (tmp_path / "photo.png").write_bytes(encoded(pixels(1, 20, 30)))
    said = []
    for main, arguments in (
            (predict.main, [f"--workdir={folder}", tmp_path / "photo.png"]), (evaluate.main, [folder, "--worst=1"]),
            (features.main, [f"--workdir={folder}", "--layer=conv2", f"--out={tmp_path / 'f.npz'}",
                             tmp_path / "photo.png"]),
            (exporting.main, [f"--workdir={folder}", f"--to={tmp_path / 'x.safetensors'}"]))[:commands_]:
        try:
            main([str(x) for x in arguments])
            said.append("")
        except UserError as error:
            said.append(str(error))
    assert all("\n" not in line and len(line) < 500 for line in said)
    return said


def keys(count):
    return [f"k{i}" for i in range(count)]


@pytest.mark.parametrize(("classes", "part"), [
    (keys(10), "its run.json and its input.npz name different classes, or order them differently"),
    (keys(9), "its run.json and its input.npz name different classes"), (["a"] * 10, "without a repeated key"),
    (["a\u0301", "\u00e1", *keys(8)], "without a repeated key"), ([*range(10)], "lists of strings, equally long")])
def test_altered_classes(run, classes, part):
    with pytest.raises(WorkdirError, match=f"{part}.*{PUT_BACK}"):
        _ = Trained(run("classes", {"keys": classes, "names": classes})).known


@pytest.mark.parametrize("count", [9, 11])
def test_another_number_of_classes_than_of_outputs(run, count):
    folder = run("classes", {key: keys(count) for key in ("keys", "names")})
    inputs.write(folder, Trained(folder).consts, Classes(tuple(keys(count)), tuple(keys(count))))
    with pytest.raises(WorkdirError, match=f"it names {count} classes, and the network has 10 outputs.*{PUT_BACK}"):
        _ = Trained(folder).known


def test_differing_names_are_noted_and_lost_classes_are_found_in_the_other_file(run, finished, capsys):
    known = Trained(finished).known
    folder = run("classes", {"keys": [*known.keys], "names": keys(10)})
    assert Trained(folder).known == Classes(known.keys, tuple(keys(10)))
    assert capsys.readouterr().err == (f"note: {folder}: its run.json gives classes other names than its input.npz; "
                                       "those of run.json are used\n")
    shutil.rmtree(folder)
    assert Trained(run("classes")).known == known


@pytest.mark.parametrize(("field", "value", "part"), [
    ("model.conv1.features", 8, r"conv1\.kernel is \[2, 3, 3, 3, 2\] in the checkpoint and \[2, 3, 3, 3, 4\] by"),
    ("model.columns", 1, r"conv1\.kernel is"), ("model.pool.layers", [1], r"fc6\.kernel is \[2, 36, 4\] in"),
    ("model.classes", 20, r"fc8\.kernel is"), ("model.fc6.features", 0, r"fc8\.kernel is \[2, 4, 10\] in"),
    ("model.fc7.features", 4, r"fc7\.kernel is absent in the checkpoint")])
def test_a_config_of_another_network(run, field, value, part):
    with pytest.raises(CheckpointError, match=f"{part}.*one of the two has been altered; {PUT_BACK}"):
        Trained(run(f"config.{field}", value))


@pytest.mark.parametrize(("field", "value"), [("model.lrn.layers", []), ("augment.mean", "channel"), ("data.crop", 14)])
def test_a_config_of_another_network_with_the_same_shapes_is_noted(run, field, value):
    said = []
    Trained(run(f"config.{field}", value), said.append)
    assert len(said) == 1
    assert said[0].endswith("the config in its run.json is not the one that the run was trained with: it has been "
                            "altered, and the network's outputs may be wrong")


def test_what_is_no_part_of_a_run_and_other_spellings_alter_nothing(run, finished):
    about = run_files.read_json(finished / "run.json")
    assert not workdir.altered_config(about)
    for field, value in (("data.dir", "/elsewhere"), ("mesh.column", "2"), ("model.dropout", 0.25)):
        about["config"] = config_lib.to_json(config_lib.override(config_lib.from_json(about["config"]), {field: value}))
        assert workdir.altered_config(about) == (field == "model.dropout")
    for spelt in (True, False):  # an id of before, when one thing had two spellings
        about["id"] = config_lib.recorded_id(about["config"], respelt=spelt)
        assert not workdir.altered_config(about)
    about |= {"imported": {"sha256": "0"}, "id": workdir.imported_id(about["id"], "0")}
    assert not workdir.altered_config(about)
    assert workdir.altered_config(about | {"imported": {"sha256": "1"}})


@pytest.mark.parametrize("mean", [np.full((16, 16, 3), np.nan, np.float32), np.zeros((16, 16, 3), np.int64),
                                  np.full((16, 16, 3), "x"), np.zeros((12, 12, 3), np.float32)],
                         ids=["not finite", "whole numbers", "texts", "another size"])
def test_a_damaged_mean_is_recomputed_from_the_training_images(run, finished, mean):
    folder = run()
    with np.load(folder / "input.npz") as whole:
        np.savez(folder / "input.npz", **{**whole, "mean": mean})
    network = Trained(folder)
    np.testing.assert_array_equal(network.consts.mean, Trained(finished).consts.mean)
    assert network.consts.mean.dtype == np.float32


@pytest.mark.parametrize(("place", "value"), [("git", "x"), ("id", [1]), ("images", "x"), ("environment", [1]),
                                              ("device", 3)])
def test_what_answers_do_not_depend_on_may_be_anything(run, tmp_path, place, value):
    assert everything(run(place, value), tmp_path) == [""] * 4


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b"\xff", b"[" * 100_000], ids=range(5))
def test_a_run_json_that_is_none(run, tmp_path, content):
    folder = run()
    (folder / "run.json").write_bytes(content)
    assert [f"{folder}: not a run of" in line for line in everything(folder, tmp_path)] == [True] * 4


def test_weights_that_are_not_finite(finished, tmp_path):
    network = Trained(finished)
    network.params = jax.tree.map(lambda x: x * np.float32("nan"), network.params)
    with pytest.raises(CheckpointError, match="the outputs of conv2 are not finite"):
        network.features("conv2", np.zeros((1, 16, 16, 3), np.uint8))


def test_files_cut_and_altered_at_random(finished, tmp_path, capsys):
    rng = np.random.default_rng(3)
    named = sorted(path.relative_to(finished) for path in finished.rglob("*") if path.is_file())
    beside = [path for path in named if path.name in ("run.json", "input.npz", "metrics.csv", "result.json")]
    refused = 0
    for number in range(16):
        folder = tmp_path / "run"
        shutil.copytree(finished, folder)
        shutil.rmtree(folder / "checkpoints" / "4")  # so that none is left to fall back on
        files = [path for path in named if path.parts[:2] == ("checkpoints", "8")] if number % 2 else beside
        path = folder / files[int(rng.integers(len(files)))]
        content = bytearray(path.read_bytes())
        place = int(rng.integers(len(content))) if content else 0
        if number % 4 < 2 or not content:
            del content[place:]
        else:
            content[place] ^= int(rng.integers(1, 256))
        path.write_bytes(content)
        refused += any(everything(folder, tmp_path, 1))
        err = capsys.readouterr().err
        assert all(line.startswith("note: ") for line in err.splitlines()), err
        shutil.rmtree(folder)
    assert refused > 2
