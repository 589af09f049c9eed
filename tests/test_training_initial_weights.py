"""Fine-tuning: a run that starts from another run's weights or a file, and its id."""

import hashlib
import json
import pathlib
import re
import runpy
import shutil
import tarfile
import types

import emulated
import jax
import numpy as np
import pytest
import tiny_run
from data_files import encoded, pixels, write_tree

from alexnet_jax import config as config_lib
from alexnet_jax import data, describe, notes, run_files
from alexnet_jax.errors import CheckpointError, ConfigError
from alexnet_jax.inspect.trained import Trained
from alexnet_jax.parallel.mesh import make_mesh
from alexnet_jax.training import initial_weights, optim
from alexnet_jax.training import loop as train_lib
from alexnet_jax.weights import exporting
from experiments.sweep import ablations, plan

_tiny, store, tiny, finished = tiny_run.use_tiny, tiny_run.store, tiny_run.tiny, tiny_run.finished
go, at = tiny_run.go, tiny_run.at


@pytest.fixture(scope="module")
def file(finished, tmp_path_factory):
    """The finished run's weights as a file."""
    path = tmp_path_factory.mktemp("weights") / "one.safetensors"
    exporting.write(exporting.of_run(finished), path)
    return path


@pytest.fixture
def pets(tmp_path, monkeypatch):
    """A dataset of three other classes. The fields that choose it."""
    write_tree(tmp_path / "data" / "pets", {
        f"{split}/{name}/{i}.png": encoded(pixels(100 * j + i, 16, 16)) for split, count in (("train", 7), ("val", 2))
        for j, name in enumerate(("cat", "dog", "emu")) for i in range(count)})
    monkeypatch.setenv("ALEXNET_DATA_DIR", str(tmp_path / "data"))
    return {"data__name": "image_folder:pets", "data__train_split": "train", "data__eval_split": "val"}


def images_of(c, known):
    return types.SimpleNamespace(classes=len(known), train=types.SimpleNamespace(known=known),
                                 eval=data.open_split(c.data, "test"))


def begun(c, known, say=lambda line: None):
    """(the state as initialised, as the run begins), of a filled config."""
    built = train_lib.Program(c, len(known), make_mesh(c))
    before = jax.device_get(built.init(np.uint32(c.seed)))
    return before, initial_weights.begin(c, built, built.init(np.uint32(c.seed)), images_of(c, known), say)


@pytest.mark.parametrize("altered", [
    {"model": {"colums": 2}}, {"model": {"columns": "two"}}, {"model": 3}, [1], {"data": {"name": ["shapes"]}}])
def test_a_config_that_cannot_be_read_is_said(finished, tiny, tmp_path, altered):
    shutil.copytree(finished, tmp_path / "source")
    about = run_files.read_json(tmp_path / "source" / "run.json") | {"config": altered}
    run_files.write_json(tmp_path / "source" / "run.json", about)
    c = initial_weights.filled(tiny(init__weights=str(tmp_path / "source")))
    said = []
    begun(c, Trained(finished).known, said.append)
    assert len(said) == 2
    assert re.fullmatch(r"note: config\.init\.weights: the config of that network cannot be read \(.+\), so it is "
                        "not known whether it differs, nor whether it learnt from images that are reported on here",
                        said[1])


@pytest.mark.parametrize("kind", ["run", "file"])
def test_a_run_begins_from_the_weights(finished, file, tiny, kind):
    source = Trained(finished)
    c = initial_weights.filled(tiny(init__weights=str(finished if kind == "run" else file), init__skip=("conv2",)))
    said = []
    before, after = begun(c, source.known, said.append)
    assert said[0].endswith(": conv1, fc6, fc8; as initialised: conv2")
    for name, leaves in after.params.items():
        for leaf, array in leaves.items():
            expected = before.params if name == "conv2" else source.params
            np.testing.assert_array_equal(np.asarray(array), np.asarray(expected[name][leaf]), err_msg=name)
            assert not np.asarray(after.velocity[name][leaf]).any()


def test_they_lie_on_the_mesh_as_any_runs(file, tiny):
    c = tiny(init__weights=str(file), mesh__data="2", mesh__column="2")
    assert emulated.run("initial_weights.py", 4, json.dumps(config_lib.to_json(c))) == [True, 8, True, [4, 1, 2]]


def test_frozen_layers_and_other_classes(finished, tiny, pets, tmp_path):
    c = tiny(**pets, init__weights=str(finished), optim__freeze=("conv1", "conv2"))
    result = go(c, tmp_path / "run")
    assert result["status"] == "finished"
    log = (tmp_path / "run" / "log.txt").read_text(encoding="utf-8")
    assert ": conv1, conv2, fc6; as initialised: fc8 (it has 10 outputs there and 3 here)" in log
    there, here = Trained(finished).params, Trained(tmp_path / "run").params
    for name in ("conv1", "conv2", "fc6"):
        same = [np.array_equal(there[name][leaf], here[name][leaf]) for leaf in ("kernel", "bias")]
        assert same == [name != "fc6"] * 2
    kept = run_files.read_json(tmp_path / "run" / "run.json")["config"]["init"]
    assert (kept["weights"], kept["sha256"]) == (str(finished), initial_weights.digest(finished))
    assert tiny_run.steps_of(tmp_path / "run")  # a checkpoint of the same form, which `Trained` has read


def test_as_many_outputs_of_other_classes_or_in_another_order_are_not_taken(finished, tiny):
    source = Trained(finished)
    c = initial_weights.filled(tiny(init__weights=str(finished)))
    for keys, why in ((tuple("abcdefghij"), "of other classes"), (source.known.keys[::-1], "in another order")):
        said = []
        before, after = begun(c, type(source.known)(keys, keys), said.append)
        assert f"fc8 (its outputs there are {why}" in said[0]
        np.testing.assert_array_equal(np.asarray(after.params["fc8"]["kernel"]), before.params["fc8"]["kernel"])


def test_interrupted_and_resumed_it_is_the_same_run_without_its_source(finished, tiny, tmp_path, monkeypatch):
    shutil.copytree(finished, tmp_path / "source")
    c = tiny(init__weights=str(tmp_path / "source"), optim__freeze=("conv1",), checkpoint__every_seconds=0.0)
    go(c, tmp_path / "whole")
    with monkeypatch.context() as patch:
        at(patch, 5, tiny_run.kill)
        with pytest.raises(tiny_run.Killed):
            go(c, tmp_path / "run")
    shutil.rmtree(tmp_path / "source")
    go(c, tmp_path / "run")
    tiny_run.assert_same_run(c, tmp_path / "run", tmp_path / "whole")
    with pytest.raises(ConfigError, match=r"config\.init\.weights: .*source"):
        go(c, tmp_path / "another")
    assert not (tmp_path / "another").exists()


def test_the_id_is_of_the_weights_wherever_they_lie(finished, file, tiny, tmp_path):
    shutil.copytree(finished, tmp_path / "copy")
    other = shutil.copy(file, tmp_path / "a.safetensors")

    def id_of(path):
        return config_lib.run_id(initial_weights.filled(tiny(init__weights=str(path))))

    assert id_of(finished) == id_of(tmp_path / "copy")
    assert id_of(file) == id_of(other)
    assert len({id_of(finished), id_of(file), config_lib.run_id(tiny())}) == 3
    assert initial_weights.digest(file) == hashlib.sha256(file.read_bytes()).hexdigest()
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    pathlib.Path(other).write_bytes(content)
    assert id_of(file) != id_of(other)
    # Another network with other classes is another network, of which the files of arrays needn't be others.
    about = run_files.read_json(tmp_path / "copy" / "run.json")
    about["classes"]["keys"][0] = "another"
    run_files.write_json(tmp_path / "copy" / "run.json", about)
    assert id_of(finished) != id_of(tmp_path / "copy")
    assert config_lib.run_id(tiny(init__weights=str(file))) == config_lib.run_id(tiny())  # the path is no part of it


def test_what_is_wrong_is_one_line_before_anything_is_written(finished, file, tiny, tmp_path):
    shutil.copytree(finished, tmp_path / "unfinished")
    (tmp_path / "unfinished" / "result.json").unlink()
    (tmp_path / "empty").mkdir()
    right = initial_weights.digest(file)
    wrong = "0" * 64
    for fields, part in (
            ({"weights": str(tmp_path / "none.pth")}, r"config\.init\.weights: .*none\.pth"),
            ({"weights": str(tmp_path / "empty")}, "not a run"),
            ({"weights": str(tmp_path / "unfinished")}, "has not finished"),
            ({"weights": str(file), "sha256": "abc"}, r"config\.init\.sha256: 'abc' is not a SHA-256"),
            ({"weights": str(file), "sha256": wrong}, f"config.init.sha256: .* has {right}, not {wrong}"),
            ({"sha256": right}, r"config\.init\.weights is empty; set both")):
        with pytest.raises(ConfigError, match=part) as error:
            go(tiny(**{f"init__{name}": value for name, value in fields.items()}), tmp_path / "run")
        assert "\n" not in str(error.value)
        left = {p.name for p in (tmp_path / "run").iterdir()} if (tmp_path / "run").exists() else set()
        assert left <= {".lock"}
    (tmp_path / "cut.safetensors").write_bytes(file.read_bytes()[:300])
    with pytest.raises(CheckpointError, match=r"cut\.safetensors"):
        go(tiny(init__weights=str(tmp_path / "cut.safetensors")), tmp_path / "run2")
    with pytest.raises(CheckpointError, match=r"fc6's weights are .* in the file and .* in the config's network"):
        go(tiny(init__weights=str(file), model__fc6__features=16), tmp_path / "run3")
    for fields, part in (({"optim__freeze": ("conv3",)}, r"config\.optim\.freeze: conv3: the network has no such"),
                         ({"init__skip": ("fc7",)}, r"config\.init\.skip: fc7"),
                         ({"optim__freeze": ("conv1", "conv2", "fc6", "fc8")}, "leaves nothing to train"),
                         ({"optim__freeze": ("conv9",)}, "conv9")):
        with pytest.raises(ConfigError, match=part):
            tiny(**fields)


def test_frozen_parameters_stay_and_the_others_are_as_without(tiny):
    params = {"conv1": {"kernel": np.float32([1, 2])}, "fc6": {"kernel": np.float32([3]), "bias": np.float32([4])}}
    grads = jax.tree.map(np.ones_like, params)
    rates = dict.fromkeys(optim.GROUPS, 0.1)
    results = []
    for frozen in ((), ("fc6",)):
        tx = optim.paper_sgd(0.9, 0.01, True, frozen=frozen)
        results.append(tx.update(grads, tx.init(params), params, rates=rates))
    (free, _), (held, velocity) = results
    np.testing.assert_allclose(held["conv1"]["kernel"], -0.1 - 0.01 * 0.1 * params["conv1"]["kernel"], rtol=1e-6)
    np.testing.assert_array_equal(held["conv1"]["kernel"], free["conv1"]["kernel"])
    for leaf in ("kernel", "bias"):
        assert not np.asarray(held["fc6"][leaf]).any()
        assert not np.asarray(velocity["fc6"][leaf]).any()
        assert np.asarray(free["fc6"][leaf]).all()


def test_a_sweep_of_fine_tuned_and_from_scratch(finished, file, tiny):
    base = tiny(init__weights=str(finished), optim__freeze=("conv1",))
    arms = ablations.arms_of(["init_from"], base)
    made = plan.build(base, "base.py", "", arms, (0, 1))
    ids = {arm.name: arm.runs for arm in made.arms}
    assert set(ids) == {"baseline", "from_scratch", "only_fc8"}
    assert ids["from_scratch"] == config_lib.run_ids(tiny(), (0, 1))
    assert ids["baseline"][1] == config_lib.run_id(config_lib.override(initial_weights.filled(base), {"seed": 1}))
    only = made.runs[ids["only_fc8"][0]].config
    assert tuple(only["optim"]["freeze"]) == ("conv1", "conv2", "fc6")
    assert only["init"]["sha256"] == initial_weights.digest(finished)
    with pytest.raises(ConfigError, match="yields no arm for this config"):
        ablations.arms_of(["init_from"], tiny())
    with pytest.raises(ConfigError, match=r"config\.init\.sha256: .* has "):
        plan.build(config_lib.override(base, {"init.sha256": "0" * 64}), "base.py", "", arms, (0,))
    # A run of the sweep is started by what plan.json says of it.
    again = config_lib.from_json(json.loads(json.dumps(only)))
    assert config_lib.run_id(initial_weights.filled(again)) == ids["only_fc8"][0]


@pytest.mark.parametrize("packed", [False, True])
def test_classes_of_a_folder_as_folders_of_their_own(tmp_path, packed, monkeypatch, tiny, capsys):
    source = tmp_path / "all"
    write_tree(source, {f"{split}/{name}/{name}_{i}.png": encoded(pixels(20 * j + i, 16, 16))
                        for split, count in (("train", 11), ("val", 2)) for j, name in enumerate("abcd")
                        for i in range(count)} | {"labels.txt": "".join(f"{c}\tclass {c}\n" for c in "abcd").encode()})
    if packed:
        for split, ending in (("train", "tar.gz"), ("val", "tar")):
            with tarfile.open(source / f"{split}.{ending}", "w:gz" if ending == "tar.gz" else "w") as tar:
                tar.add(source / split, split)
            shutil.rmtree(source / split)
    main = runpy.run_path(str(emulated.ROOT / "examples" / "class_subset.py"))["main"]
    main([str(source), str(tmp_path / "half"), "--classes=::2"])
    main([str(source), str(tmp_path / "few"), "--classes=1::2", "--images=3"])
    assert "few/train: 6 images of 2 classes" in capsys.readouterr().out
    monkeypatch.setenv("ALEXNET_DATA_DIR", str(tmp_path))
    for name, classes, count in (("half", ("a", "c"), 22), ("few", ("b", "d"), 6)):
        split = data.open_split(tiny(data__name=f"image_folder:{name}").data, "train")
        assert (split.class_keys, len(split)) == (classes, count)
        assert split.classes == tuple(f"class {key}" for key in classes)
        assert len(data.open_split(tiny(data__name=f"image_folder:{name}").data, "val")) == 4
    assert sorted(p.name for p in (tmp_path / "few" / "train" / "b").iterdir()) == ["b_0.png", "b_1.png", "b_2.png"]
    new = str(tmp_path / "new")
    for arguments, part in (([str(tmp_path / "few")], "is there already"), ([new, "--classes=9:"], "none of the"),
                            ([new, "--classes=1"], "a slice such as")):
        with pytest.raises(SystemExit, match=f"error: .*{part}"):
            main([str(source), *arguments])


def test_it_is_described(file, tiny):
    c = tiny(init__weights=str(file), init__skip=("fc6",), optim__freeze=("conv1", "fc6"))
    said = describe.describe(c)
    assert f"training begins from the weights of {file}; fc6 as initialised; fc8 as initialised if the" in said
    own = {row["name"]: row["parameters"] for row in describe.table(c, 10)}
    assert f"{own['conv1'] + own['fc6']:,} parameters are not updated: conv1, fc6 (config.optim.freeze)" in said
    assert "note: config.optim.freeze: fc6 stays random, as initialised (config.init.skip has it too)" in said
    assert "training begins" not in describe.describe(tiny())
    alone = tiny(optim__freeze=("conv1",), init__skip=("fc6",))
    assert notes.of(alone, {"init.skip": ("fc6",), "optim.conv1.at": (1.0,)}) == [
        "config.optim.freeze: conv1 stays random, as initialised (config.init.weights is empty)",
        "config.init.skip: has no effect, as config.init.weights is empty",
        "config.optim.conv1.at: has no effect, as config.optim.freeze has conv1"]


def test_what_does_not_go_together_is_said(finished, tiny, tmp_path):
    c = tiny(init__weights=str(finished), model__lrn__k=3.0, augment__mean="channel", data__eval_split="train[10:30]",
             data__train_split="train[32:64]", train__epochs=1)
    go(c, tmp_path / "run")
    log = (tmp_path / "run" / "log.txt").read_text(encoding="utf-8")
    assert "that network differs in config.model.lrn.k (2.0 there), config.augment.mean ('pixel' there)" in log
    assert "those weights have learnt from 20 of the 20 images that are reported on" in log
