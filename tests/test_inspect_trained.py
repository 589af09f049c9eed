"""Networks from checkpoints: predictions, the last hidden layer, kernels, ensembles, neighbours."""

import json
import pathlib
import re
import shutil
import types

import fake_sweep
import numpy as np
import pytest
import tiny_run
from scipy.spatial.distance import cdist
from scipy.special import log_softmax
from tiny_run import go

from alexnet_jax import run_files
from alexnet_jax.data import Classes
from alexnet_jax.errors import CheckpointError, ConfigError, DataError, WorkdirError
from alexnet_jax.inspect.trained import Trained
from alexnet_jax.training import inputs
from experiments import ensemble, kernels, retrieval
from experiments.analysis import neighbours

# Fixtures of this file too: pytest finds them by their names here.
_tiny, store, tiny, finished = tiny_run.use_tiny, tiny_run.store, tiny_run.tiny, tiny_run.finished
RECORDED = pathlib.Path(__file__).resolve().parents[1] / "experiments" / "results" / "cifar10_three"


@pytest.fixture
def other(tiny, tmp_path):
    """Another seed's run."""
    go(tiny(seed=1), tmp_path / "other")
    return tmp_path / "other"


def files(folder):
    return sorted((str(p), p.stat().st_mtime_ns) for p in folder.rglob("*"))


@pytest.mark.parametrize("views", ["centre", "ten_view"])
def test_predictions_are_those_that_the_run_reported(finished, views):
    before = files(finished / "checkpoints")
    network = Trained(finished)
    test = network.open("test")
    wrong = ensemble.wrong(network.log_probs(test, views), test.labels)
    counts = run_files.read_json(finished / "result.json")["eval"][views]
    assert list(wrong.sum(axis=1)) == [counts["top1_wrong"], counts["top5_wrong"]]
    for kept, expected in zip(("top1", "top5"), wrong, strict=True):  # image by image
        np.testing.assert_array_equal(fake_sweep.read_outcomes(finished, views, counts, kept), expected)
    assert files(finished / "checkpoints") == before


def test_the_output_layer_on_the_hidden_layer_gives_the_predictions(finished):
    network = Trained(finished)
    test = network.open("test")
    kernel, bias = (np.asarray(network.params["fc8"][name], np.float64) for name in ("kernel", "bias"))
    logits = network.hidden(test).astype(np.float64) @ kernel.reshape(-1, kernel.shape[-1]) + bias
    np.testing.assert_allclose(network.log_probs(test), log_softmax(logits, axis=1), atol=1e-5)


def test_the_newest_checkpoint_that_can_be_read_and_nothing_is_set_aside(tiny, finished, tmp_path):
    shutil.copytree(finished, tmp_path / "run")

    def cut(step):
        for path in (tmp_path / "run" / "checkpoints" / step).rglob("*"):
            if path.is_file():
                path.write_bytes(b"")
        return files(tmp_path / "run" / "checkpoints")

    before = cut("8")
    assert Trained(tmp_path / "run").step == 4
    assert files(tmp_path / "run" / "checkpoints") == before
    before = cut("4")
    with pytest.raises(CheckpointError, match=r"none of its checkpoints can be read .*; put a copy of a good one"):
        Trained(tmp_path / "run")
    assert files(tmp_path / "run" / "checkpoints") == before


@pytest.mark.parametrize(("name", "taken", "said"), [
    ("999", 4, "note: .*: the weights are those of step 4; newer ones can't be read .999: it is of step 8: its folder"),
    ("3", 4, ""), ("8 copy", 4, ""), ("08", 4, "")])
def test_a_renamed_checkpoint_is_not_taken_for_what_its_name_says(finished, tmp_path, capsys, name, taken, said):
    shutil.copytree(finished, tmp_path / "run")
    (tmp_path / "run" / "checkpoints" / "8").rename(tmp_path / "run" / "checkpoints" / name)
    before = files(tmp_path / "run" / "checkpoints")
    assert Trained(tmp_path / "run").step == taken
    assert re.match(said, capsys.readouterr().err)
    shutil.rmtree(tmp_path / "run" / "checkpoints" / "4")
    with pytest.raises(CheckpointError, match=r"its folder was renamed|no checkpoint there"):
        Trained(tmp_path / "run")
    assert set(files(tmp_path / "run" / "checkpoints")) < set(before)


def test_another_run_s_checkpoint_is_not_taken_for_this_run_s(finished, other, tmp_path, capsys):
    shutil.copytree(finished, tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "checkpoints" / "8")
    shutil.copytree(other / "checkpoints" / "8", tmp_path / "run" / "checkpoints" / "8")
    assert Trained(tmp_path / "run").step == 4
    assert "another run's checkpoint" in capsys.readouterr().err
    (tmp_path / "run" / "metrics.csv").unlink()  # nothing to hold it against
    assert Trained(tmp_path / "run").step == 8


def test_no_checkpoint_and_no_run_in_one_line(tmp_path):
    run = RECORDED.parent / "photographs" / "released"  # a run's folder as it was, but for its checkpoints
    with pytest.raises(CheckpointError, match="no checkpoint there; recorded results keep none"):
        Trained(run)
    with pytest.raises(CheckpointError, match="no checkpoint there"):
        kernels.main([f"--workdir={RECORDED}", f"--record={tmp_path}"])
    with pytest.raises(WorkdirError, match="not a run of"):
        Trained(tmp_path)
    for main in (kernels.main, ensemble.main, retrieval.main):
        with pytest.raises(ConfigError, match="name the runs' folders"):
            main([])
        with pytest.raises(WorkdirError, match="not a run of"):
            main([str(tmp_path)])


def test_kernels_of_a_run(tiny, finished, tmp_path, capsys):
    assert kernels.main([str(finished), f"--record={tmp_path}"]) == 0
    found, _ = kernels.load(tmp_path / "kernels.npz")
    arrays = tiny_run.arrays(tiny(), finished)
    expected = next(v for k, v in arrays.items() if "params" in k and "conv1" in k and "kernel" in k)
    np.testing.assert_array_equal(found["run"][0], expected.astype(np.float16))
    claim = json.loads((tmp_path / "kernels.json").read_text())
    assert (claim["claim"], claim["measured"]["n"], claim["verdict"]["word"]) == ("kernels", 1, "unresolved")
    assert claim["protocol"]["seeds"] == [0]
    assert str(finished.parent) not in (tmp_path / "kernels.json").read_text()
    assert (tmp_path / "kernels.png").stat().st_size > 10_000


# Ensembles.


def test_every_subset_or_some_of_them():
    assert ensemble.subsets(4, 2, 10) == [(0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)]
    some = ensemble.subsets(12, 6, 20)
    assert len(set(some)) == 20
    assert all(len(set(s)) == 6 and s == tuple(sorted(s)) for s in some)


def test_networks_that_err_on_different_images_mend_each_other():
    labels = np.zeros(3, np.int32)
    # Each is wrong about one image, and right, a little more surely, about two.
    probs = np.full((3, 3, 6), 0.02)
    for network in range(3):
        for image in range(3):
            probs[network, image, 1 if image == network else 0] = 0.88 if image == network else 0.9
    rows = ensemble.by_size(np.log(probs), labels, 10)
    assert [row["top1_wrong"] for row in rows] == [[1, 1, 1], [0, 0, 0], [0]]
    top1, _ = ensemble.gain(np.log(probs), labels)
    assert top1.mean == pytest.approx(-100 / 3)


def test_ensemble_of_two_runs(finished, other, tmp_path, capsys):
    assert ensemble.main([str(finished), str(other), f"--record={tmp_path / 'kept'}"]) == 0
    tree = json.loads((tmp_path / "kept" / "ensemble.json").read_text())
    one, two = tree["ensemble"]["sizes"]
    reported = [run_files.read_json(f / "result.json")["eval"]["ten_view"] for f in (finished, other)]
    assert one["top1_wrong"] == [r["top1_wrong"] for r in reported]
    assert one["top5_wrong"] == [r["top5_wrong"] for r in reported]
    networks = [Trained(f) for f in (finished, other)]
    test = networks[0].open("test")
    mean = np.mean([np.exp(n.log_probs(test, "ten_view")) for n in networks], axis=0)
    assert two["top1_wrong"] == [int((mean.argmax(axis=1) != test.labels).sum())]
    assert tree["claim"] == "2012-5"
    assert tree["measured"]["value"] == pytest.approx(
        100 * (two["top1_wrong"][0] - sum(one["top1_wrong"]) / 2) / tree["ensemble"]["total"])


def test_averages_of_what_does_not_belong_together(tiny, finished, tmp_path):
    with pytest.raises(ConfigError, match="one finished run"):
        ensemble.main([str(finished)])
    with pytest.raises(ConfigError, match="named twice"):
        ensemble.main([str(finished), str(finished)])
    go(tiny(data__eval_split="test[:20]"), tmp_path / "run")
    with pytest.raises(ConfigError, match=r"config\.data\.eval_split is 'test\[:20\]' there"):
        ensemble.main([str(finished), str(tmp_path / "run")])


def with_classes(run, folder, keys):
    """A copy of a run whose outputs are said to stand for these classes."""
    shutil.copytree(run, folder)
    about = json.loads((folder / "run.json").read_text())
    about["classes"] = {key: [*keys] for key in ("keys", "names")}
    (folder / "run.json").write_text(json.dumps(about))
    inputs.write(folder, Trained(run).consts, Classes(tuple(keys), tuple(keys)))
    return types.SimpleNamespace(folder=folder)


def test_averages_go_by_the_names_of_classes(finished, tmp_path):
    """A network whose outputs are in another order; one that has another class; images that were learnt from."""
    one, keys = types.SimpleNamespace(folder=finished), Trained(finished).known.keys
    turned = with_classes(finished, tmp_path / "turned", keys[::-1])
    said = []
    log_probs, labels, notes = ensemble.predict([one, turned], "train[:20]", "centre", said.append)
    np.testing.assert_array_equal(log_probs[1], log_probs[0][:, ::-1])
    np.testing.assert_array_equal(labels, Trained(finished).open("train[:20]").labels)
    assert notes[-1] == "20 of the images that the error is reported on were learnt from too (the same pixels)"
    assert f"turned: note: {notes[-1]}" in said
    strange = with_classes(finished, tmp_path / "strange", (*keys[:-1], "cow"))
    with pytest.raises(ConfigError, match=rf"strange: .* \(only in the former: cow; only in the latter: {keys[-1]}"):
        ensemble.predict([one, strange], "test", "centre", said.append)


@pytest.mark.parametrize(("field", "number"), [("images", 63), ("classes", 9)])
def test_an_older_run_s_classes_are_those_of_the_same_training_images(finished, tmp_path, field, number):
    shutil.copytree(finished, tmp_path / "run")
    path = tmp_path / "run" / "run.json"
    about = json.loads(path.read_text())
    del about["classes"]
    (tmp_path / "run" / "input.npz").unlink()
    version, about["images"]["train_split"]["version"] = about["images"]["train_split"]["version"], "another"
    path.write_text(json.dumps(about))
    said = []
    assert Trained(tmp_path / "run", said.append).known == Trained(finished).known
    assert f"training images were version another and are {version} now: the order of the classes" in " ".join(said)
    (tmp_path / "run" / "input.npz").unlink()
    about["images"]["train_split"][field] = number
    path.write_text(json.dumps(about))
    with pytest.raises(DataError, match=rf"train_split had {number} {field} when this run began and has"):
        _ = Trained(tmp_path / "run", said.append).known
    assert not (tmp_path / "run" / "input.npz").exists()


# Neighbours.


def test_neighbours_are_scipy_s():
    rng = np.random.default_rng(0)
    queries, gallery = rng.normal(size=(700, 5)), rng.normal(size=(300, 5))
    expected = np.argsort(cdist(queries, gallery), axis=1, kind="stable")[:, :4]
    assert (neighbours.nearest(queries, gallery, 4) == expected).mean() > 0.999  # float32 may turn near ties round


def test_fractions_of_the_same_class():
    labels, gallery = np.array([0, 1]), np.array([0, 0, 1, 2])
    found = np.array([[0, 1], [2, 3]])
    assert list(neighbours.same_class(labels, gallery, found)) == [1.0, 0.5]
    assert neighbours.chance(labels, gallery) == pytest.approx((0.5 + 0.25) / 2)


def test_retrieval_of_a_run(finished, tmp_path, capsys):
    assert retrieval.main([str(finished), f"--record={tmp_path}", "--images=3", "--neighbours=4"]) == 0
    tree = json.loads((tmp_path / "retrieval.json").read_text())
    network = Trained(finished)
    test, gallery = network.open("test"), network.open("train[:64]")
    by = cdist(network.hidden(test), network.hidden(gallery)).argsort(axis=1, kind="stable")[:, :4]
    row = tree["retrieval"]["runs"][0]
    assert row["hidden"] == pytest.approx((gallery.labels[by] == test.labels[:, None]).mean(), abs=0.01)
    assert tree["measured"]["value"] == pytest.approx(row["hidden"] - row["pixels"])
    assert (tree["claim"], tree["retrieval"]["gallery"], tree["retrieval"]["queries"]) == (
        "retrieval", ["train[:64]", 64], ["test", 30])
    assert (tmp_path / "retrieval.png").stat().st_size > 10_000


def test_neighbours_that_are_the_same_image_are_noted(finished, tmp_path, capsys):
    assert retrieval.main([str(finished), f"--record={tmp_path}", "--images=1", "--queries=train[:10]",
                           "--gallery=train[10:70]"]) == 0
    tree = json.loads((tmp_path / "retrieval.json").read_text())
    assert tree["retrieval"]["notes"] == ["10 of the 10 queries were learnt from"]
    assert tree["measured"]["text"].endswith("; 10 of the 10 queries were learnt from")
    assert "note: 10 of the 10 queries were learnt from" in capsys.readouterr().out


@pytest.mark.parametrize(("arguments", "part"), [
    (("--gallery=test[:10]",), "each its own nearest neighbour"), (("--images=many",), "write how many"),
    (("--images=50,",), "each below 30"), (("--neighbours=65",), "the gallery has 64"),
    (("--data=shaped",), "did you mean shapes"), (("--arm=none",), "--arm=none: only a sweep has arms")])
def test_bad_arguments_of_retrieval(finished, tmp_path, arguments, part):
    with pytest.raises(ConfigError, match=part):
        retrieval.main([str(finished), f"--record={tmp_path}", *arguments])
