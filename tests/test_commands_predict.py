"""Photographs in, guesses and features out: the same numbers as the evaluation's and PyTorch's."""

import json
import os
import shutil

import numpy as np
import pytest
import tiny_run
from data_files import encoded, pixels, write_tree
from oracle import needs_torch
from PIL import Image
from safetensors import safe_open
from safetensors.numpy import save_file

from alexnet_jax import cli, features, predict, run_files
from alexnet_jax import config as config_lib
from alexnet_jax.data import Classes
from alexnet_jax.data.readers import photographs
from alexnet_jax.errors import CheckpointError, ConfigError, DataError
from alexnet_jax.inspect import figure4
from alexnet_jax.inspect.trained import Trained
from alexnet_jax.training import inputs
from alexnet_jax.weights import importing

try:
    import torch
    import torch.nn.functional as F
except ImportError:
    torch = None

_tiny, store, tiny, finished = tiny_run.use_tiny, tiny_run.store, tiny_run.tiny, tiny_run.finished


def turned(image, orientation):
    exif = Image.Exif()
    exif[274] = orientation
    return encoded(image, "JPEG", exif=exif.tobytes(), quality=95)


@pytest.fixture
def run(finished, tmp_path):
    """A copy of the run; run(orientation="exif") sets a field of its config.data."""
    def make(**fields):
        folder = tmp_path / ("run" + "".join(map(str, fields.values())))
        shutil.copytree(finished, folder)
        about = run_files.read_json(folder / "run.json")
        about["config"]["data"].update(fields)
        about["id"] = config_lib.recorded_id(about["config"])
        run_files.write_json(folder / "run.json", about)
        return folder

    return make


@pytest.fixture
def photos(tmp_path):
    """A folder of images of several sizes and kinds, and of other files."""
    tree = {"b/tall.png": encoded(pixels(1, 40, 20)), "b/wide.jpg": encoded(pixels(2, 9, 50), "JPEG"),
            "a/grey.png": encoded(Image.fromarray(pixels(3, 16, 16)[..., 0])),
            "turned.jpg": turned(pixels(4, 30, 20), 6), "unnamed": encoded(pixels(5, 16, 20)),
            ".hidden.png": encoded(pixels(6)), ".git/x.png": encoded(pixels(7)),
            "notes.txt": b"no image"}
    write_tree(tmp_path / "photos", tree)
    return tmp_path / "photos"


IN_ORDER = ["a/grey.png", "b/tall.png", "b/wide.jpg", "turned.jpg", "unnamed"]


def asked(capsys, *arguments):
    code = predict.main([str(a) for a in arguments])
    out, err = capsys.readouterr()
    return code, out, err


@pytest.mark.parametrize(("orientation", "resize", "views"), [
    ("stored", "shorter", "ten_view"), ("exif", "warp", "centre"), ("stored", "torchvision", "five_view")])
def test_the_same_as_of_the_same_images_in_a_dataset(run, photos, tmp_path, capsys, monkeypatch, orientation, resize,
                                                         views):
    folder = run(orientation=orientation, resize=resize)
    network = Trained(folder)
    data = tmp_path / "data"
    for number, name in enumerate(IN_ORDER):
        place = data / "toy" / "val" / network.known.keys[number] / (photos / name).name
        place.parent.mkdir(parents=True)
        shutil.copy(photos / name, place)
    for key in network.known.keys:
        write_tree(data / "toy" / "train" / key, {"x.png": encoded(pixels(8))})
    monkeypatch.setenv("ALEXNET_DATA_DIR", str(data))
    split = network.open("val", "image_folder:toy")
    expected = {name.rpartition("/")[2]: row for name, row in zip(features.of_split(split)["names"],
                                                                 network.log_probs(split, views), strict=True)}
    code, out, err = asked(capsys, f"--workdir={folder}", "--json", f"--views={views}", photos)
    told = json.loads(out)
    assert (code, err) == (0, "note: left out of the folders: 1 text file\n")
    assert [row["file"] for row in told["images"]] == [str(photos / name) for name in IN_ORDER]
    assert (told["views"], told["step"], told["refused"]) == (views, 8, [])
    for row in told["images"]:
        probabilities = np.exp(expected[row["file"].rpartition("/")[2]].astype(np.float64))
        best = np.argsort(-probabilities)[:5]
        assert [guess["key"] for guess in row["top"]] == [network.known.keys[i] for i in best]
        np.testing.assert_allclose([guess["probability"] for guess in row["top"]], probabilities[best], rtol=1e-5)


def test_turned_as_the_config_says(run, photos):
    stored, exif = (Trained(run(orientation=o)).photographs([photos / "turned.jpg"]).images[0]
                    for o in ("stored", "exif"))
    assert np.abs(stored.astype(int) - exif).max() > 20
    np.testing.assert_allclose(np.rot90(stored, -1).astype(int), exif, atol=3)


def test_the_table(finished, photos, capsys):
    code, out, _ = asked(capsys, f"--workdir={finished}", photos / "unnamed", photos / "b")
    lines = out.splitlines()
    assert code == 0
    assert lines[0] == f"{finished}: step 8, ten views"
    assert lines[1::6] == [str(photos / name) for name in ("unnamed", "b/tall.png", "b/wide.jpg")]
    shares = [float(line.split("%")[0]) for line in lines[2:7]]
    assert shares == sorted(shares, reverse=True)
    assert 100 / 10 * 5 <= sum(shares) <= 100.3


def test_unreadable_ones_are_named_and_the_others_go_on(finished, photos, capsys):
    write_tree(photos, {"b/cut.jpg": encoded(pixels(1), "JPEG")[:200], "b/new\nline.png": b"no image",
                        "b/phone.heic": b"\0\0\0\x18ftypheic" + bytes(50)})
    (photos / "b" / "gone.png").symlink_to(photos / "nowhere")
    (photos / "b" / "loop").symlink_to(photos / "b")
    os.mkfifo(photos / "pipe.jpg")
    code, out, err = asked(capsys, f"--workdir={finished}", "--json", photos / "b", photos / "*.jpg", photos / "none",
                           photos / "pipe.jpg", photos / "notes.txt")
    assert code == 1
    told = json.loads(out)
    assert [row["file"].rpartition("/")[2] for row in told["images"]] == ["tall.png", "wide.jpg"]
    lines = err.splitlines()
    assert lines[0] == "note: left out of the folders: 1 HEIC (convert them to JPEG or PNG) file"
    assert lines[1:4] == [f"error: {photos}/*.jpg: nothing matches it",
                          f"error: {photos}/none: no such file or folder",
                          f"error: {photos}/pipe.jpg: not a regular file; save its content as one"]
    assert len(lines) == 8
    assert any("new\\nline.png: " in line for line in lines)
    assert any(line.startswith(f"error: {photos}/b/gone.png: cannot be read") for line in lines)
    assert [f"error: {row['file']}: {row['reason']}".replace("\n", "\\n") for row in told["refused"]] == lines[1:]


def test_a_palette_with_transparency_warns_of_nothing(finished, tmp_path, capsys):
    image = Image.fromarray(pixels(1, 20, 30)).quantize(16)
    image.save(tmp_path / "a.png", transparency=bytes(range(0, 256, 16)))
    code, out, err = asked(capsys, f"--workdir={finished}", "--json", tmp_path / "a.png")
    assert (code, err, len(json.loads(out)["images"])) == (0, "", 1)


def test_no_image_at_all_is_one_line(finished, tmp_path):
    (tmp_path / "empty").mkdir()
    write_tree(tmp_path, {"text/a.txt": b"text"})
    for path, part in (("empty", "no image to look at; name"), ("text", "only 1 text file"),
                       ("*.jpg", r"\*\.jpg: nothing matches it")):
        with pytest.raises(DataError, match=part):
            predict.main([f"--workdir={finished}", str(tmp_path / path)])
    with pytest.raises(DataError, match=r"text/a\.txt: "):
        Trained(finished).photographs(tmp_path / "text" / "a.txt")


def test_a_run_without_its_mean_says_so(run, photos, monkeypatch):
    folder = run(store="/nowhere/at/all", name="cifar10", dir="/nowhere")
    assert predict.main([f"--workdir={folder}", str(photos / "unnamed")]) == 0  # no training images are needed
    (folder / inputs.FILE).unlink()
    with pytest.raises((ConfigError, DataError), match=r"its input\.npz is missing or damaged, and the training image"):
        predict.main([f"--workdir={folder}", str(photos / "unnamed")])


def test_one_program_for_all_images(finished, photos, capsys):
    network = Trained(finished)
    for number in range(30):
        shutil.copy(photos / "unnamed", photos / f"{number}.png")
    before = network.program.view_log_probs._cache_size()
    made = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("alexnet_jax.inspect.trained.Trained", lambda folder: made.append(Trained(folder)) or made[0])
        assert asked(capsys, f"--workdir={finished}", "--views=centre", photos)[0] == 0
    assert (before, made[0].program.view_log_probs._cache_size()) == (0, 1)


def test_fewer_classes_equal_names_and_outputs_beyond_them():
    known = Classes(("n1", "n2", "n3"), ("crane", "crane", "$a$ [b]"))
    found = predict.guesses(np.log([0.3, 0.3, 0.15, 0.25]), known)
    assert [(guess.key, guess.name) for guess in found] == [
        ("n1", "crane (n1)"), ("n2", "crane (n2)"), ("output 3", "output 3"), ("n3", "$a$ [b]")]
    with pytest.raises(CheckpointError, match="are not finite"):
        predict.guesses(np.full(3, np.nan), known)


def test_the_picture(finished, photos, tmp_path, capsys):
    assert asked(capsys, f"--workdir={finished}", f"--picture={tmp_path / 'a.png'}", photos)[0] == 0
    with Image.open(tmp_path / "a.png") as picture:  # four images side by side, and one below
        assert picture.width == 4 * 288 + 14
        assert picture.height > 2 * 288
    for wrong in ("a.gif", "none/a.png"):
        with pytest.raises(ConfigError, match="--picture="):
            predict.main([f"--workdir={finished}", f"--picture={tmp_path / wrong}", str(photos)])
    hard = [("a$b$[c]\n_.png", pixels(i, 16, 16), [figure4.Guess("k", "$x^2$ \\frac\n[red]", 0.5)]) for i in range(2)]
    figure4.draw(hard, "$title$", 90, tmp_path / "b.svg")
    assert b"svg" in (tmp_path / "b.svg").read_bytes()


# Features.


@needs_torch
def test_features_are_those_of_pytorch(finished, photos):
    network = Trained(finished)
    images = network.photographs([photos]).images
    x = torch.tensor(images[:, 2:14, 2:14] - np.asarray(network.consts.mean)[2:14, 2:14]).permute(0, 3, 1, 2)
    params, lrn = network.params, network.config.model.lrn
    columns = []
    for column in range(2):
        y = x
        for name, padding in (("conv1", 1), ("conv2", 1)):
            kernel = torch.tensor(np.asarray(params[name]["kernel"][column])).permute(3, 2, 0, 1)
            y = F.relu(F.conv2d(y, kernel, torch.tensor(np.asarray(params[name]["bias"][column])), padding=padding))
            if name == "conv1":
                assert (lrn.order[0], lrn.alpha_over_n) == ("relu-lrn-pool", False)
                y = F.local_response_norm(y, lrn.n, lrn.alpha * lrn.n, lrn.beta, lrn.k)
            y = F.max_pool2d(y, 3, 2, ceil_mode=True)
        columns.append(y)
    expected = torch.cat(columns, 1).permute(0, 2, 3, 1).numpy()
    found = network.features("conv2", images)
    assert found.dtype == np.float32
    assert expected.std() > 0.01
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max())


@needs_torch
def test_conv5_of_an_imported_network_in_three_lines(tmp_path, photos):
    fields = {f"model.conv{i}.features": 8 for i in range(1, 6)} | {
        "model.fc6.features": 8, "model.fc7.features": 8, "model.classes": 3, "data.size": 80, "data.crop": 67}
    config = config_lib.resolve(config_lib.override(cli.load_config("configs/torchvision.py"), fields))
    rng = np.random.default_rng(0)
    torchs = torch.nn.Sequential(*(torch.nn.Conv2d(i, 8, k, s, p) for i, k, s, p in (
        (3, 11, 4, 2), (8, 5, 1, 2), (8, 3, 1, 1), (8, 3, 1, 1), (8, 3, 1, 1))))
    shapes = {"fc6": (8, 8), "fc7": (8, 8), "fc8": (3, 8)}
    state = {f"conv{i}.{k}": 3 * v.detach().numpy() for i, m in enumerate(torchs, 1) for k, v in m.named_parameters()}
    state |= {f"{name}.{leaf}": rng.standard_normal(shape[:2 if leaf == "weight" else 1]).astype(np.float32)
              for name, shape in shapes.items() for leaf in ("weight", "bias")}
    save_file(state, tmp_path / "a.safetensors")
    importing.run_folder(tmp_path / "a.safetensors", config, tmp_path / "run", say=lambda line: None)

    network = Trained(tmp_path / "run")
    found, names = network.features_of_files("conv5", [photos])

    mine = network.photographs([photos])
    assert names == mine.names == [str(photos / name) for name in IN_ORDER]
    assert found.shape == (5, 1, 1, 8)
    x = (mine.images[:, 6:73, 6:73] / 255.0 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    x = torch.tensor(x).permute(0, 3, 1, 2).float()
    for i in range(5):
        x = F.relu(F.conv2d(x, torch.tensor(state[f"conv{i + 1}.weight"]), torch.tensor(state[f"conv{i + 1}.bias"]),
                            torchs[i].stride, torchs[i].padding))
        x = F.max_pool2d(x, 3, 2) if i in (0, 1, 4) else x
    expected = x.permute(0, 2, 3, 1).numpy()
    assert expected.std(axis=0).max() > 0.01
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5 * expected.max())
    assert predict.main([f"--workdir={tmp_path / 'run'}", str(photos)]) == 0


def test_features_of_files_that_cannot_all_be_read(finished, photos, tmp_path):
    write_tree(photos, {"b/cut.jpg": encoded(pixels(1), "JPEG")[:200]})
    said = []
    network = Trained(finished, said.append)
    found, names = network.features_of_files("conv2", photos)
    assert (len(found), names) == (5, [str(photos / name) for name in IN_ORDER])
    assert len(said) == 1
    assert said[0].startswith(f"error: {photos}/b/cut.jpg: ")
    with pytest.raises(ConfigError, match="layer 'conv9': this network has"):  # before a file is looked at
        network.features_of_files("conv9", tmp_path / "none.png")
    with pytest.raises(DataError, match=r"no image to look at .*none\.png: no such file or folder"):
        network.features_of_files("conv2", [tmp_path / "none.png"])


def test_dense_layers_and_logits(finished):
    network = Trained(finished)
    test = network.open("test")
    np.testing.assert_array_equal(network.features("fc6", test), network.hidden(test))
    logits = network.features("fc8", test).astype(np.float64)
    np.testing.assert_allclose(logits - np.log(np.exp(logits).sum(axis=1, keepdims=True)), network.log_probs(test),
                               atol=1e-5)
    np.testing.assert_allclose(network.features("conv1", test.images[:3]), network.features("conv1", test)[:3],
                               rtol=1e-5, atol=1e-6)


def test_features_that_no_memory_holds(finished, monkeypatch):
    network = Trained(finished)
    test = network.open("test")
    monkeypatch.setattr(type(test), "__len__", lambda self: 10**15)
    monkeypatch.setattr(network, "_batches", lambda images, progress: [(test.images[:16], np.ones(16))])
    with pytest.raises(DataError, match=r"of 1,000,000,000,000,000 images take 32,000,000 GB of memory"):
        network.features("fc6", test)


def test_features_as_files(finished, photos, tmp_path, capsys):
    network = Trained(finished)
    arguments = [f"--workdir={finished}", "--layer=conv2"]
    assert features.main([*arguments, "--split=test[:20]", f"--out={tmp_path / 'a.npz'}"]) == 0
    split = network.open("test[:20]")
    with np.load(tmp_path / "a.npz", allow_pickle=False) as found:
        np.testing.assert_array_equal(found["features"], network.features("conv2", split))
        np.testing.assert_array_equal(found["labels"], split.labels)
        assert found["class_keys"].tolist() == list(split.class_keys)
        assert (found["layer"], found["images"], found["step"]) == ("conv2", "shapes test[:20]", 8)
        assert len(found["names"]) == 20
    assert "conv2 of shapes test[:20], float32 [20, 3, 3, 4]" in capsys.readouterr().out
    write_tree(photos, {"b/cut.jpg": encoded(pixels(1), "JPEG")[:200]})
    assert features.main([*arguments, f"--out={tmp_path / 'a.safetensors'}", str(photos)]) == 1
    assert "cut.jpg: " in capsys.readouterr().err
    with safe_open(tmp_path / "a.safetensors", "np") as found:
        read = photographs.read([photos], network.config.data)
        np.testing.assert_array_equal(found.get_tensor("features"), network.features("conv2", read.images))
        assert json.loads(found.metadata()["names"]) == read.names == [str(photos / name) for name in IN_ORDER]


@pytest.mark.parametrize(("arguments", "part"), [
    (["--layer=conv9", "--out=a.npz"], "--layer=conv9: this network has conv1, conv2, fc6, fc8"),
    (["--layer=conv1", "--out=a.csv"], r"--out=a\.csv: the name has to end in \.npz, \.safetensors"),
    (["--layer=conv1", "--out=none/a.npz"], "there is no folder none"),
    (["--layer=conv1", "--out=a.npz", "--split=test", "x.png"], "give image files, or a dataset by --data")])
def test_what_features_cannot_be_of(finished, tmp_path, monkeypatch, arguments, part):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=part):
        features.main([f"--workdir={finished}", *arguments])
    network = Trained(finished)
    with pytest.raises(ConfigError, match="layer 'conv9': this network has"):
        network.features("conv9", network.open("test"))
    with pytest.raises(DataError, match=r"uint8 \[n, 16, 16, 3\] for this network, not float32 \[2, 16, 16, 3\]"):
        network.log_probs(np.zeros((2, 16, 16, 3), np.float32))
