"""Networks of others as runs: their outputs are those of their own framework, every command takes them, and what
doesn't fit is refused."""

import json
import math
import subprocess
import sys

import numpy as np
import pytest
import tiny_run
import weights_files as files
from oracle import needs_torch
from photographs import needs_photos, photographs
from safetensors.numpy import save_file
from scipy.special import log_softmax
from tiny_run import go

from alexnet_jax import cli, run_files, weights
from alexnet_jax import config as config_lib
from alexnet_jax import evaluate as evaluate_command
from alexnet_jax.errors import CheckpointError, ConfigError, DataError, WorkdirError
from alexnet_jax.inspect.trained import Trained
from alexnet_jax.models import geometry
from alexnet_jax.training import augment, inputs
from alexnet_jax.weight_files import fitting, state_dict, tensors
from alexnet_jax.weights import __main__ as command
from alexnet_jax.weights import importing
from experiments import ensemble, kernels, retrieval

try:
    import reference_networks as reference
except ImportError:
    reference = None

_tiny, store, tiny, finished = tiny_run.use_tiny, tiny_run.store, tiny_run.tiny, tiny_run.finished
FEATURES, DENSE, CLASSES = (8, 16, 16, 16, 8), 24, 12


def load(name, full=False, **overrides):
    small = {} if full else {**{f"model.conv{i}.features": n for i, n in enumerate(FEATURES, 1)},
                             "model.fc6.features": DENSE, "model.fc7.features": DENSE, "model.classes": CLASSES}
    return config_lib.resolve(config_lib.override(cli.load_config(f"configs/{name}.py"), small | overrides))


def nowhere(line):
    raise AssertionError(line)


def ours(folder, images):
    """Log-probabilities of the centre crops by the imported run."""
    network = Trained(folder)
    return np.asarray(network.program.view_log_probs(network.params, images, augment.centre_view(network.config)[0],
                                                     network.consts), np.float64)


def assert_same(logits, log_probs):
    assert logits.std(axis=0).max() > 0.03 * np.abs(logits).max(), "logits that don't tell images apart"
    expected = log_softmax(logits, axis=1)
    assert np.abs(log_probs - expected).max() <= 2e-5 * np.abs(logits).max()


def names_file(tmp_path, count=CLASSES):
    path = tmp_path / "words.txt"
    path.write_text("".join(f"n{i:08d} thing {i}, object\n" for i in range(count)), encoding="utf-8")
    return str(path)


def make_torchvision(tmp_path, features, dense, classes):
    state = files.torchvision_state(*reference.random_weights(reference.shapes(features, dense, classes, 1)))
    save_file(state, tmp_path / "a.safetensors")
    return tmp_path / "a.safetensors", state


@needs_torch
@needs_photos
@pytest.mark.parametrize("full", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_torchvision(tmp_path, full):
    sizes = ((64, 192, 384, 256, 256), 4096, 1000) if full else (FEATURES, DENSE, CLASSES)
    path, state = make_torchvision(tmp_path, *sizes)
    importing.run_folder(path, load("torchvision", full), tmp_path / "run", say=nowhere,
                         names=names_file(tmp_path, sizes[2]))
    photos = photographs(2, 256)
    assert_same(reference.torchvision(state, photos[:, 16:240, 16:240]), ours(tmp_path / "run", photos))
    assert Trained(tmp_path / "run").known.names[3] == "thing 3, object"


@needs_torch
@needs_photos
@pytest.mark.parametrize(("name", "generation"), [("bvlc_alexnet", "layer"), ("caffenet", "v1")])
def test_caffe(tmp_path, name, generation):
    kernels_, biases = reference.random_weights(reference.shapes(FEATURES, DENSE, CLASSES, 2))
    layers = files.caffe_layers(kernels_, biases, name == "caffenet")
    (tmp_path / "a.caffemodel").write_bytes(files.caffemodel(layers, generation))
    photos = photographs(2, 256)
    mean = photos.mean(0).transpose(2, 0, 1)[::-1].astype(np.float32)
    (tmp_path / "mean.binaryproto").write_bytes(files.blob(mean[None], old=True))
    importing.run_folder(tmp_path / "a.caffemodel", load(name), tmp_path / "run", names=names_file(tmp_path),
                         mean=str(tmp_path / "mean.binaryproto"), say=nowhere)
    assert_same(reference.caffe(kernels_, biases, photos, mean, name == "caffenet"), ours(tmp_path / "run", photos))
    # The other network has the same shapes.
    other = "caffenet" if name == "bvlc_alexnet" else "bvlc_alexnet"
    with pytest.raises(CheckpointError, match=r"conv1 is followed by .* in the file and by .* in the config"):
        weights.load(tmp_path / "a.caffemodel", load(other))
    if name == "bvlc_alexnet":
        return
    # The mean pixel, in place of the image.
    importing.run_folder(tmp_path / "a.caffemodel", load(name), tmp_path / "pixel", names=names_file(tmp_path),
                         mean="123,117,104", say=nowhere)
    pixel = np.full((3, 256, 256), 0.0) + np.array([104, 117, 123])[:, None, None]
    assert_same(reference.caffe(kernels_, biases, photos, pixel, True), ours(tmp_path / "pixel", photos))


@needs_torch
@needs_photos
def test_cuda_convnet(tmp_path):
    kernels_, biases = reference.random_weights(reference.shapes(FEATURES, DENSE, CLASSES, 2))
    (tmp_path / "91.1").write_bytes(files.checkpoint(files.two_columns(kernels_, biases)))
    photos = photographs(2, 256)
    mean = photos.mean(0).astype(np.float32)
    meta = files.python2({"data_mean": mean.transpose(2, 0, 1).reshape(-1, 1),
                          "label_names": [f"class {i}" for i in range(CLASSES)]})
    (tmp_path / "batches.meta").write_bytes(meta)
    importing.run_folder(tmp_path / "91.1", load("imagenet_released"), tmp_path / "run",
                         names=str(tmp_path / "batches.meta"), mean=str(tmp_path / "batches.meta"), say=nowhere)
    assert_same(reference.released(kernels_, biases, photos, mean), ours(tmp_path / "run", photos))
    assert Trained(tmp_path / "run").known.keys[5] == "class 5"
    with pytest.raises(CheckpointError, match=r"conv1 is followed by lrn-pool-relu in the file and by relu-lrn-pool"):
        weights.load(tmp_path / "91.1", load("imagenet_paper"))


# Orders of axes.


@pytest.mark.parametrize("name", ["torchvision", "caffenet", "imagenet_released", "four_layer", "lenet", "cifar10"])
def test_orders_of_axes_go_forth_and_back(name):
    config = config_lib.resolve(cli.load_config(f"configs/{name}.py"))
    for layer in geometry.layers(config, 10):
        order = fitting.orders(geometry.layers(config, 10), config.data.crop)[layer.name]
        assert order.ours == fitting.own_shapes(layer)["kernel"]
        assert np.prod(order.theirs) == np.prod(order.ours) == layer.parameters - layer.features * (
            1 if layer.is_output else layer.columns)
        if np.prod(order.theirs) < 1e6:
            kernel = np.arange(np.prod(order.theirs), dtype=np.float32).reshape(order.theirs)
            np.testing.assert_array_equal(order.to_theirs(order.to_ours(kernel)), kernel)


# What doesn't fit.


def small_state(**replace):
    rng = np.random.default_rng(0)
    shapes = {"conv1": (8, 3, 11, 11), "conv2": (16, 8, 5, 5), "conv3": (16, 16, 3, 3), "conv4": (16, 16, 3, 3),
              "conv5": (8, 16, 3, 3), "fc6": (24, 288), "fc7": (24, 24), "fc8": (12, 24)} | replace
    return {f"{state_dict.TORCHVISION[name]}.{leaf}": rng.standard_normal(s if leaf == "weight" else s[:1]
                                                                                 ).astype(np.float32)
            for name, s in shapes.items() if s for leaf in ("weight", "bias")}


def test_the_layer_and_both_shapes_are_named(tmp_path):
    save_file(small_state(conv4=(16, 12, 3, 3)), tmp_path / "a")
    with pytest.raises(CheckpointError, match=r"conv4's weights are \[16, 12, 3, 3\] in the file and \[16, 16, 3, 3\] "
                       r"in the config's network; change config\.model to the file's network, or name another file$"):
        weights.load(tmp_path / "a", load("torchvision"))
    with pytest.raises(CheckpointError, match=r"conv2's weights are \[16, 8, 5, 5\] in the file and \[16, 4, 5, 5\] "):
        weights.load(tmp_path / "a", load("imagenet_released"))
    broken = small_state()
    broken["features.3.bias"][5] = np.nan
    save_file(broken, tmp_path / "a")
    with pytest.raises(CheckpointError, match="conv2's biases have values that are not finite"):
        weights.load(tmp_path / "a", load("torchvision"))
    save_file(small_state(fc7=None), tmp_path / "a")
    with pytest.raises(CheckpointError, match=r"fc7 is in the config's network and not in the file; change"):
        weights.load(tmp_path / "a", load("torchvision"))
    save_file(small_state(), tmp_path / "a")
    with pytest.raises(CheckpointError, match=r"fc8 has 12 outputs in the file and 7 .* config\.model\.classes=12$"):
        weights.load(tmp_path / "a", load("torchvision", **{"model.classes": 7}))
    rest = weights.load(tmp_path / "a", load("torchvision", **{"model.classes": 7}), skip=("fc8",))
    assert list(rest) == ["conv1", "conv2", "conv3", "conv4", "conv5", "fc6", "fc7"]
    with pytest.raises(ConfigError, match=r"config\.model\.conv3\.unshared"):
        weights.load(tmp_path / "a", config_lib.resolve(cli.load_config("configs/conv_local.py:11")))


@needs_torch
def test_the_likely_config_is_named(tmp_path):
    sizes = reference.shapes((64, 192, 384, 256, 256), 4096, 1000, 1)
    header, end = {}, 0
    for name, size in sizes.items():
        for leaf, shape in (("weight", size), ("bias", size[:1])):
            header[f"{state_dict.TORCHVISION[name]}.{leaf}"] = {
                "dtype": "F32", "shape": list(shape), "data_offsets": [end, end := end + 4 * math.prod(shape)]}
    head = json.dumps(header).encode()
    head += b" " * (-len(head) % 8)
    with (tmp_path / "a.safetensors").open("wb") as file:
        file.write(len(head).to_bytes(8, "little") + head)
        file.truncate(8 + len(head) + end)  # zeros that take no room on the disk
    with pytest.raises(CheckpointError, match=r"it is the network of --config=configs/torchvision\.py$"):
        weights.load(tmp_path / "a.safetensors", load("caffenet", full=True))


@pytest.fixture
def imported(tmp_path):
    save_file(small_state(), tmp_path / "a.safetensors")

    def make(name="run", **options):
        config = load("torchvision", **options.pop("fields", {}))
        importing.run_folder(tmp_path / "a.safetensors", config, tmp_path / name, say=lambda line: None, **options)
        return tmp_path / name

    return make


@pytest.mark.parametrize(("options", "part"), [
    ({"fields": {"augment.mean": "pixel", "augment.mean_values": ()}},
     r"--mean=FILE or --mean=R,G,B .* is needed: .*a\.safetensors"),
    ({"mean": "1,2"}, "--mean=1,2: give one number, or three"), ({"mean": "nan"}, "one number, or three"),
    ({"mean": "some.binaryproto"}, "the config subtracts numbers of its own"),
    ({"mean": "a,b", "fields": {"augment.mean": "pixel", "augment.mean_values": ()}}, "--mean=a,b: neither a file nor"),
    ({"names": "few"}, "3 class names for 12 outputs; give"), ({"names": "twice"}, "more than once: a;"),
    ({"names": "none"}, "no names"), ({"names": "json"}, "not a list of names"), ({"names": "absent"}, "no such file")])
def test_means_and_names_that_do_not_do(imported, tmp_path, options, part, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, text in (("few", "a\nb\nc\n"), ("twice", "a\nb\na"), ("none", "\n"), ("json", '{"1": "a"}')):
        (tmp_path / name).write_text(text, encoding="utf-8")
    with pytest.raises((ConfigError, CheckpointError), match=part):
        imported(**options)
    assert not (tmp_path / "run").exists()
    assert not list(tmp_path.glob(".run*"))


@pytest.mark.parametrize(("text", "keys", "names"), [
    ("n01440764\ttench\nn01443537\tgoldfish, Carassius", ("n01440764", "n01443537"), ("tench", "goldfish, Carassius")),
    ("n01440764 tench\nn01443537 goldfish, Carassius", ("n01440764", "n01443537"), ("tench", "goldfish, Carassius")),
    ("tench\ngreat white shark\n", ("tench", "great white shark"), ("tench", "great white shark")),
    ('["tench", "goldfish"]', ("tench", "goldfish"), ("tench", "goldfish")),
    ('{"0": ["n01440764", "tench"], "1": ["n01443537", "goldfish"]}', ("n01440764", "n01443537"),
     ("tench", "goldfish"))])
def test_names_as_people_have_them(tmp_path, text, keys, names):
    (tmp_path / "names").write_text(text, encoding="utf-8")
    known = importing.read_names(tmp_path / "names")
    assert (known.keys, known.names) == (keys, names)


def test_a_mean_in_a_file_of_numpy(imported, tmp_path):
    image = np.random.default_rng(0).uniform(0, 255, (256, 256, 3)).astype(np.float32)
    pixel = {"augment.mean": "pixel", "augment.mean_values": ()}
    np.save(tmp_path / "rgb.npy", image)
    np.save(tmp_path / "ilsvrc_2012_mean.npy", image.transpose(2, 0, 1)[::-1])
    for name in ("rgb", "ilsvrc_2012_mean"):
        folder = imported(name, mean=str(tmp_path / f"{name}.npy"), fields=pixel)
        np.testing.assert_array_equal(Trained(folder).consts.mean, image)
    folder = imported("centre", mean=str(tmp_path / "rgb.npy"), fields=pixel | {"augment.mean": "centre"})
    np.testing.assert_array_equal(Trained(folder).consts.mean, image[16:240, 16:240])
    np.save(tmp_path / "small.npy", image[:224, :224])
    with pytest.raises(ConfigError, match=r"of the crop's size; add --config\.augment\.mean=centre"):
        imported(mean=str(tmp_path / "small.npy"), fields=pixel)
    np.save(tmp_path / "small.npy", image[:100, :100])
    with pytest.raises(ConfigError, match="an image of 100 × 100 pixels, and the config's images have 256 and"):
        imported(mean=str(tmp_path / "small.npy"), fields=pixel)


def test_the_folder_is_new_and_its_records_say_what_it_is(imported, tmp_path):
    folder = imported(names=names_file(tmp_path))
    with pytest.raises(WorkdirError, match="not an empty folder"):
        imported()
    (tmp_path / "empty").mkdir()
    other = imported("empty", fields={"seed": 1})
    about, result = (run_files.read_json(folder / name) for name in ("run.json", "result.json"))
    assert about["imported"] == {"file": "a.safetensors", "format": "safetensors", "sha256": tensors.digest(
        tmp_path / "a.safetensors")}
    assert about["id"] == result["id"] != run_files.read_json(other / "run.json")["id"]
    assert (result["status"], result["eval"]) == ("imported", None)
    with pytest.raises(WorkdirError, match="holds an imported network"):
        go(config_lib.override(Trained(folder).config, {}), folder)
    with pytest.raises(WorkdirError, match="holds an imported network"):
        go(load("torchvision"), folder)


def test_without_names_the_outputs_are_numbered_and_said_to_be(tmp_path):
    save_file(small_state(), tmp_path / "a")
    said = []
    importing.run_folder(tmp_path / "a", load("torchvision"), tmp_path / "run", say=said.append)
    assert "the outputs are called 0 to 11 and cannot be compared with a dataset's classes" in said[0]
    assert Trained(tmp_path / "run").known.keys[:2] == ("0", "1")


# Commands.


@pytest.fixture
def networks(tiny, finished, tmp_path):
    """Two imported networks of the tiny run's shape, of random weights: their folders."""
    config, params = tiny(), Trained(finished).params
    folders = []
    for seed in (0, 1):
        rng = np.random.default_rng(seed)
        order = fitting.orders(geometry.layers(config, 10), config.data.crop)
        state = {f"{name}.{leaf}": np.float32(0.1) * rng.standard_normal(
            order[name].theirs if leaf == "weight" else np.prod(np.shape(params[name]["bias"]))).astype(np.float32)
            for name in params for leaf in ("weight", "bias")}
        save_file(state, tmp_path / f"{seed}.safetensors")
        folders.append(tmp_path / f"imported{seed}")
        importing.run_folder(tmp_path / f"{seed}.safetensors", config, folders[-1], mean="127",
                             names=importing.OF_DATASET)
    return folders


def test_every_command_takes_an_imported_run(networks, finished, tmp_path, capsys):
    first, second = map(str, networks)
    trained, network = Trained(finished), Trained(networks[0])
    assert network.known == trained.known
    assert network.log_probs(network.open("test[:10]")).shape == (10, 10)
    assert evaluate_command.main([first, "--split=test[:10]"]) == 0
    said = capsys.readouterr().out
    assert "step 0, shapes test[:10]: error centre crop" in said
    assert "note: an imported network, whose training is not on record" in said
    assert kernels.main([first, f"--record={tmp_path / 'k'}"]) == 0
    assert "colour share by column" in capsys.readouterr().out
    assert retrieval.main([first, f"--record={tmp_path / 'r'}", "--images=3"]) == 0
    assert ensemble.main([first, second, f"--record={tmp_path / 'e'}"]) == 0
    for name in ("k/kernels.png", "r/retrieval.png", "e/ensemble.json"):
        assert (tmp_path / name).stat().st_size > 100
    assert str(tmp_path) not in (tmp_path / "e" / "ensemble.json").read_text(encoding="utf-8")


def test_the_command_line(tmp_path):
    save_file(small_state(), tmp_path / "a.safetensors")
    fields = {f"model.conv{i}.features": n for i, n in enumerate(FEATURES, 1)} | {
        "model.fc6.features": DENSE, "model.fc7.features": DENSE, "model.classes": CLASSES}
    flags = [f"--config.{name}={value}" for name, value in fields.items()]

    def run(*arguments):
        return subprocess.run([sys.executable, "-m", "alexnet_jax.weights", *arguments], capture_output=True, text=True)

    done = run("import", "--config=configs/torchvision.py", *flags, f"--from={tmp_path / 'a.safetensors'}",
               f"--workdir={tmp_path / 'run'}")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-1].endswith("a run's folder; every command takes it")
    np.testing.assert_array_equal(Trained(tmp_path / "run").params["fc8"]["bias"],
                                  small_state()["classifier.6.bias"])
    assert run("export", f"--workdir={tmp_path / 'run'}", f"--to={tmp_path / 'own.safetensors'}").returncode == 0
    again = run("import", f"--from={tmp_path / 'own.safetensors'}", f"--workdir={tmp_path / 'again'}")
    assert (again.returncode, again.stderr) == (0, "")


def test_the_command_line_s_mistakes(tmp_path, monkeypatch):
    save_file(small_state(), tmp_path / "a.safetensors")
    with pytest.raises(ConfigError, match=r"--config=FILE is needed: .*a\.safetensors does not say which"):
        command._config_of(tmp_path / "a.safetensors")
    for arguments in ([], ["imports"]):
        monkeypatch.setattr(sys, "argv", ["weights", *arguments])
        with pytest.raises(ConfigError, match=r"write python -m alexnet_jax\.weights import or export …"):
            command.main()


# What a run's folder keeps.


def test_training_keeps_what_prediction_needs(tiny, finished):
    network = Trained(finished)
    kept = inputs.read(finished, network.config)
    expected = augment.constants(network.config, network.training.statistics())
    np.testing.assert_array_equal(kept.consts.mean, expected.mean)
    np.testing.assert_array_equal(kept.consts.colour, expected.colour)
    assert kept.known == network.training.known
    assert "training" in vars(network)  # by this test, not by:
    other = Trained(finished)
    assert (other.known, other.consts.mean.shape) == (kept.known, (16, 16, 3))
    assert "training" not in vars(other)


def test_a_run_of_before_gets_it_from_its_store_the_first_time_or_says_what_is_missing(tiny, tmp_path):
    go(tiny(), tmp_path / "run")
    before = inputs.read(tmp_path / "run", tiny())
    tree = run_files.read_json(tmp_path / "run" / "run.json")
    del tree["classes"]
    for content in (None, b"damaged", (tmp_path / "run" / "input.npz").read_bytes()[:200]):
        run_files.write_json(tmp_path / "run" / "run.json", tree)
        (tmp_path / "run" / "input.npz").unlink()
        if content:
            (tmp_path / "run" / "input.npz").write_bytes(content)
        np.testing.assert_array_equal(Trained(tmp_path / "run").consts.mean, before.consts.mean)
    tree["config"]["data"]["name"] = "image_folder:/nowhere/at/all"
    run_files.write_json(tmp_path / "run" / "run.json", tree)
    gone = Trained(tmp_path / "run")
    assert gone.known == before.known  # kept by now
    assert "its training images are not available here" in gone.about_data(None)[0]
    (tmp_path / "run" / "input.npz").unlink()
    with pytest.raises((ConfigError, DataError), match=r"input\.npz is missing or damaged, and the training images .*"
                       "/nowhere/at/all"):
        _ = Trained(tmp_path / "run").consts


def test_an_imported_network_whose_mean_is_lost(imported):
    folder = imported()
    (folder / "input.npz").unlink()
    with pytest.raises(DataError, match=r"input\.npz is missing or damaged; import the network again"):
        _ = Trained(folder).consts
    assert json.loads((folder / "result.json").read_text(encoding="utf-8"))["status"] == "imported"
