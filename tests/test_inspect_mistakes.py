"""A trained network's mistakes by class, as a matrix and by file, compared with independently computed numbers."""

import csv
import json

import numpy as np
import pytest
import tiny_run
from data_files import encoded, pixels, write_tree
from PIL import Image

from alexnet_jax import evaluate
from alexnet_jax.errors import ConfigError
from alexnet_jax.inspect import mistakes
from alexnet_jax.inspect.trained import Trained

_tiny, store, tiny, finished = tiny_run.use_tiny, tiny_run.store, tiny_run.tiny, tiny_run.finished


@pytest.fixture
def pets(finished, tmp_path, monkeypatch):
    """A folder of images of the run's classes, of which the last has none; their names tell their order in a class."""
    keys = Trained(finished).known.keys
    write_tree(tmp_path / "data" / "pets", {f"val/{key}/{key} ü{i}.png": encoded(pixels(10 * j + i, 16, 16))
                                            for j, key in enumerate(keys[:-1]) for i in range(3)})
    monkeypatch.setenv("ALEXNET_DATA_DIR", str(tmp_path / "data"))
    return ["--data=image_folder:pets", "--split=val"]


def expected(folder, name, split):
    """(files, labels, probabilities of ten views [n, 10]) by `Trained.log_probs`."""
    network = Trained(folder)
    images = network.open(split, name)
    return images.names_of(np.arange(len(images))), images.labels, np.exp(
        network.log_probs(images, "ten_view").astype(np.float64)), images.class_keys


def test_json_csv_and_sheet(finished, pets, tmp_path, capsys, monkeypatch):
    titles, draw = [], mistakes.draw
    monkeypatch.setattr(mistakes, "draw", lambda answers, title, *rest: titles.append(title) or draw(
        answers, title, *rest))
    assert evaluate.main([str(finished), *pets, "--json", "--worst=4", f"--confusion={tmp_path / 'c.csv'}",
                          f"--sheet={tmp_path / 'worst.png'}"]) == 0
    assert titles == [f"{finished.name}: the worst mistakes on image_folder:pets val, ten views"]  # no machine's folder
    (told,) = json.loads(capsys.readouterr().out)["runs"]
    called, labels, probabilities, keys = expected(finished, "image_folder:pets", "val")
    best = np.argsort(-probabilities, axis=1)
    assert (told["views"], told["split"], told["step"]) == ("ten_view", "val", 8)
    assert told["counts"]["ten_view"]["top1_wrong"] == sum(row["wrong"] for row in told["classes"]) == np.sum(
        best[:, 0] != labels)
    assert told["counts"]["ten_view"]["top5_wrong"] == sum(row["wrong_at_five"] for row in told["classes"])
    matrix = np.zeros((10, 10), int)
    for label, given in zip(labels, best[:, 0], strict=True):
        matrix[label, given] += 1
    with (tmp_path / "c.csv").open(encoding="utf-8", newline="") as file:
        head, *rows = csv.reader(file)
    assert head == ["key", "name", "images", "wrong", "wrong_at_five", *keys]
    assert [[int(x) for x in row[5:]] for row in rows] == matrix.tolist()
    assert [int(row[2]) for row in rows] == [3] * 9 + [0]
    for i, row in enumerate(told["classes"]):
        assert (row["key"], row["images"]) == (keys[i], matrix[i].sum())
        assert row["given"] == {keys[j]: n for j, n in enumerate(matrix[i].tolist()) if n}
        assert row["wrong"] == matrix[i].sum() - matrix[i, i]
    own = probabilities[np.arange(27), labels]
    wrong = np.flatnonzero(best[:, 0] != labels)
    order = wrong[np.argsort(own[wrong])][:4]
    assert [row["file"] for row in told["worst"]] == [called[i] for i in order]
    for row, i in zip(told["worst"], order.tolist(), strict=True):
        assert row["file"].endswith(".png")
        assert (row["place"], row["right"]["key"]) == (i, keys[labels[i]])
        assert row["right"]["probability"] == pytest.approx(own[i], rel=1e-5)
        assert [guess["key"] for guess in row["given"]] == [keys[j] for j in best[i, :5]]
    with Image.open(tmp_path / "worst.png") as picture:
        colours = np.asarray(picture.convert("RGB")).astype(int)
    assert picture.size[0] > 1000
    assert (np.abs(colours - (0xA3, 0x2A, 0x1F)).max(axis=-1) < 30).sum() > 100  # the right classes, in red


def test_the_text(finished, pets, capsys):
    assert evaluate.main([str(finished), *pets]) == 0
    out = capsys.readouterr().out.splitlines()
    assert out[0].startswith(f"{finished}: step 8, image_folder:pets val: error centre crop ")
    assert "by the ten views:" in out
    assert sum(line.split()[1:2] == ["3"] for line in out) >= 9  # a line a class with images
    assert "confusion matrix: a row a class, a column what it was taken for" in out
    assert any(line.startswith("the 12 worst of ") for line in out)
    called, labels, probabilities, _ = expected(finished, "image_folder:pets", "val")
    wrong = np.flatnonzero(probabilities.argmax(axis=1) != labels)
    worst = wrong[np.argmin(probabilities[wrong, labels[wrong]])]
    assert out[-12].startswith(f"{called[worst]}  ")


def test_one_line_of_several_runs_and_of_images_without_names(finished, capsys):
    assert evaluate.main([str(finished), str(finished)]) == 0
    assert evaluate.main([str(finished), "--worst=0"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 3
    assert evaluate.main([str(finished), "--worst=1"]) == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith("image ")


def test_refused(finished, tmp_path):
    for options, part in ((["--sheet=x.txt"], r"--sheet=x\.txt: the name has to end in"),
                          (["--confusion=x.png"], r"--confusion=x\.png: the name has to end in \.csv"),
                          ([str(finished), "--sheet=x.png"], "--sheet: needs exactly one run"),
                          (["--record", "--json"], "--json: has no document to print"),
                          (["--worst=-1"], "--worst=-1"),
                          (["--worst=0", "--sheet=x.png"], "--worst=0: leaves nothing")):
        with pytest.raises(ConfigError, match=part):
            evaluate.main([str(finished), *options])


class _Split:
    labels = np.array([1, 0, 2], np.int32)

    def __len__(self):
        return 3


def test_outputs_that_are_no_numbers_and_ties():
    answers = mistakes.Answers(_Split(), 3)
    answers.add(np.log([[0.25, 0.5, 0.25], [0.4, 0.4, 0.2]]))
    answers.add(np.log([[1 / 3, 1 / 3, 1 / 3]]))
    assert answers.finite
    assert answers.top.tolist() == [[1, 0, 2], [0, 1, 2], [0, 1, 2]]  # of equal ones the lower
    assert answers.wrong.tolist() == [False, False, True]
    answers = mistakes.Answers(_Split(), 3)
    answers.add(np.full((3, 3), np.nan))
    assert not answers.finite
