"""The views that errors are reported and compared by: one rule for every command; five or fewer classes."""

import csv
import json
import pathlib
import shutil

import fake_sweep
import numpy as np
import pytest
import tiny_run
from PIL import Image

from alexnet_jax import cli, run_files
from alexnet_jax import config as config_lib
from alexnet_jax import evaluate as evaluate_command
from alexnet_jax.errors import ConfigError, WorkdirError
from alexnet_jax.inspect.trained import Trained
from alexnet_jax.training import augment, evaluate, loop, views
from experiments import ensemble, recording, repeats, report, retrieval
from experiments.analysis import workdirs
from experiments.claims import summary
from experiments.claims.rows import rows as claim_rows
from experiments.figures import curves
from experiments.figures import differences as differences_figure
from experiments.launch import display

BOTH = {(arm, seed) for arm in ("baseline", "no_lrn") for seed in range(2)}
ONE = {("no_lrn", 1)}
# (does the baseline's training mirror, does the arm's, which runs are records of before five views were counted)
CASES = {
    "both mirror": (True, True, set(), "ten_view"), "the arm doesn't": (True, False, set(), "ten_view"),
    "the baseline doesn't": (False, True, set(), "ten_view"), "neither mirrors": (False, False, set(), "five_view"),
    "neither, one old": (False, False, ONE, "ten_view"), "neither, all old": (False, False, BOTH, "ten_view")}


def _sweep(folder, baseline, arm, old=(), **options):
    arms = {"baseline": ("", {"augment.mirror": baseline}, 0.0, 0.0),
            "no_lrn": ("lrn", {"model.lrn.layers": (), "augment.mirror": arm}, 1.4, 1.2)}
    return fake_sweep.write_sweep(folder, arms=arms, seeds=range(2), epochs=2, old=old, **options)


@pytest.mark.parametrize("case", CASES)
def test_all_arms_are_told_and_compared_by_the_same_views(case, tmp_path):
    baseline, arm, old, expected = CASES[case]
    workdir = _sweep(tmp_path / "one" / "sweep", baseline, arm, old, outcomes=True)
    sweep, name = workdirs.read_sweep(workdir), views.NAMES[expected]
    by = {part.name: [100 * run.result["eval"][expected]["top1_wrong"] / 10_000 for run in part.runs.values()]
          for part in sweep.arms}
    difference = np.mean(np.subtract(by["no_lrn"], by["baseline"]))
    # The table, its files, its picture.
    found = summary.summarise(sweep)
    assert found["views"] == expected
    for part in found["arms"]:
        assert part["top1"]["mean"] == pytest.approx(np.mean(by[part["name"]]))
    assert found["arms"][1]["difference"]["top1"]["mean"] == pytest.approx(difference)
    assert found["arms"][1]["difference"]["over_images"]["images"] == 10_000
    text = report.write_report(workdir, plots=False)
    assert f"(10,000 images), {name}; stored" in text
    with (workdir / "report.csv").open(newline="") as file:
        assert {row["views"] for row in csv.DictReader(file)} == {name}
    words = [text.get_text().replace("\n", " ") for text in differences_figure.draw(found).texts]
    assert any(f"top-1 error by {name}, paired" in line for line in words)
    # The note that a reader needs: none, which run lacks five views and how to get them, or what centre crops say.
    note = next((line for line in found["notes"] if "mirror images" in line), "")
    assert bool(note) == (expected == "ten_view" and not (baseline and arm))
    if old:
        assert all((f"{arm} seed {seed}" in note) == ((arm, seed) in old) for arm, seed in BOTH)
        assert "`python -m alexnet_jax.evaluate --record FOLDER`" in note
    elif note:
        centre = np.mean([run.counts("centre")["top1_wrong"] / 100 * sign for part, sign in zip(sweep.arms, (-1, 1),
                                                                                               strict=True)
                          for run in part.runs.values()]) * 2
        assert f"By centre crops: no_lrn {centre:+.2f} [".replace("-", "−") in note
    # What is copied, claimed and paired is by the same views.
    recording.copy_sweep(workdir, tmp_path / "kept" / "sweep")
    assert report.render(tmp_path / "kept" / "sweep") == report.render(workdir)
    row = next(row for row in claim_rows(tmp_path / "kept")[0] if row.id == "lrn" and row.measured)
    assert row.value == pytest.approx(-difference)  # with − without
    assert row.quantity == "top-1 error" + (", five views" if expected == "five_view" else "")
    assert repeats.pairs(*[repeats.finished(workdir)] * 2)["views"] == expected
    crops = [row for row in claim_rows(tmp_path / "kept")[0] if row.id == "crops" and row.measured]
    assert bool(crops) == baseline  # ten views of a network that has seen no mirror images are no measure of the claim


def test_the_views_stay_as_a_sweep_goes_on(tmp_path):
    under_way = {("no_lrn", 0): "unfinished", ("no_lrn", 1): "not started"}
    for mirrors, expected in ((True, "ten_view"), (False, "five_view")):
        sweep = workdirs.read_sweep(_sweep(tmp_path / str(mirrors), False, mirrors, states=under_way))
        assert workdirs.default_views(sweep.runs.values()) == expected


def test_views_can_be_asked_for(tmp_path):
    workdir = _sweep(tmp_path / "w", False, False)
    assert "(10,000 images), ten views; stored" in report.render(workdir, "ten_view")
    assert "`--views=five_view` shows the five that are none" in report.render(workdir, "ten_view")
    assert "(10,000 images), centre crop; stored" in report.render(workdir, "centre")
    with pytest.raises(ConfigError, match="invalid choice: 'two'"):
        report.main([f"--workdir={workdir}", "--views=two"])


@pytest.mark.parametrize(("names", "expected"), [
    (("centre", "ten_view", "five_view"), "five views"), (("centre", "ten_view"), "ten views"),
    (("centre",), "centre crop")])
def test_the_line_of_a_run_names_its_views(names, expected):
    counts = {name: {"top1_wrong": n, "top5_wrong": 0, "total": 10} for n, name in enumerate(names, start=1)}
    result = {"status": "finished", "message": "", "eval": counts}
    assert display.describe_result(result) == f"finished: error {len(names)}0.0% ({expected})"


@pytest.mark.parametrize(("classes", "told"), [(2, False), (5, False), (6, True), (None, True)])
def test_no_top_5_error_of_five_or_fewer_classes(classes, told, tmp_path):
    workdir = _sweep(tmp_path / "results" / "sweep", True, True, classes=classes)
    text = report.write_report(workdir, plots=False)
    assert ("| Top-5 error, % |" in text) == ("Δ top-5" in text) == told
    assert ("among five or fewer classes five guesses miss none" in text) != told
    header = (workdir / "report.csv").read_text().splitlines()[0].split(",")
    assert {"top5_error_mean", "top5_difference_mean"} <= set(header) if told else not any(
        name.startswith("top5") for name in header)
    found = json.loads((workdir / "report.json").read_text())
    assert all((arm["top5"] is not None) == told for arm in found["arms"])
    row = next(row for row in claim_rows(tmp_path / "results")[0] if row.id == "lrn" and row.measured)
    assert ("top-5" in row.measured) == (row.value_top5 is not None) == told
    if told:
        curves.draw(workdir, panels=("eval_top5_error",))
    else:
        with pytest.raises(ConfigError, match="panel 'eval_top5_error': among five or fewer classes"):
            curves.draw(workdir, panels=("eval_top5_error",))
    curves.draw(workdir)


def test_the_five_views_are_the_first_five_of_the_ten():
    c = config_lib.override(config_lib.default(), {"data.size": 40, "data.crop": 32})
    np.testing.assert_array_equal(augment.five_views(c), augment.ten_views(c)[:5])
    np.testing.assert_array_equal(augment.ten_views(c)[5:] - [0, 0, 1], augment.five_views(c))
    assert [len(evaluate.places(c, name)) for name in ("centre", "five_view", "ten_view")] == [1, 5, 10]
    whole = config_lib.override(c, {"data.size": 32})
    assert [len(evaluate.places(whole, name)) for name in ("centre", "five_view", "ten_view")] == [1, 1, 2]


# Two classes that are mirror images of one another, and LeNet, whose training never mirrors.

IMAGES = {"train": 48, "val": 20}  # a class


def _draw(rng) -> np.ndarray:
    """Bright on the left, dark on the right, with noise: uint8 [36, 36, 3]."""
    image = rng.integers(0, 60, (36, 36, 3))
    image[:, : rng.integers(14, 22)] += 150
    return image.astype(np.uint8)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """`sides`: a folder of images; `swapped`: the same with the classes of `val` exchanged."""
    root, rng = tmp_path_factory.mktemp("data"), np.random.default_rng(0)
    for split, count in IMAGES.items():
        for name in ("left", "right"):
            for number in range(count):
                image = _draw(rng)[:, :: 1 if name == "left" else -1]
                for dataset in ("sides", "swapped"):
                    other = {"left": "right", "right": "left"}[name] if (dataset, split) == ("swapped", "val") else name
                    path = root / dataset / split / other / f"{number}.png"
                    path.parent.mkdir(parents=True, exist_ok=True)
                    Image.fromarray(image).save(path)
    return root


def _lenet(folder, **fields):
    named = {name.replace("__", "."): value for name, value in fields.items()}
    return config_lib.resolve(config_lib.override(cli.load_config("configs/lenet.py"), {
        "data.name": "image_folder:sides", "data.dir": str(folder), "data.store": str(folder / "store"),
        "data.train_split": "train", "data.eval_split": "val", "data.size": 36, "train.batch_size": 16,
        "train.epochs": 10,
        "train.eval_every": 5, "optim.learning_rate": 0.1, "mesh.data": "1", "mesh.column": "1"} | named))


def _train(config, workdir) -> dict:
    """With the compiled programs of the runs before."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "Program", tiny_run.shared_program)
        return loop.train(config, workdir, show=False)


@pytest.fixture(scope="module")
def trained(folder, tmp_path_factory):
    """The folders of two seeds' runs; not to be changed."""
    root = tmp_path_factory.mktemp("runs")
    for seed in (0, 1):
        _train(_lenet(folder, seed=seed), root / str(seed))
    return root / "0", root / "1"


def test_five_views_are_right_where_half_of_ten_are_another_class(trained):
    result = run_files.read_json(trained[0] / "result.json")
    assert list(result["eval"]) == ["centre", "ten_view", "five_view"]
    five, ten = result["eval"]["five_view"], result["eval"]["ten_view"]
    assert {type(five[key]) for key in ("top1_wrong", "top5_wrong", "total")} == {int}
    assert (five["top1_wrong"], five["total"]) == (0, 40)
    assert ten["top1_wrong"] >= 8, "an image and its mirror image average to nothing"
    network = Trained(trained[0])
    split = network.open("val")
    probabilities = np.mean([np.exp(np.concatenate([np.asarray(evaluate.log_probs(
        network.program, network.params, network.consts, np.asarray(split.images[i:i + 8]), np.asarray([view])))
        for i in range(0, 40, 8)])) for view in augment.five_views(network.config)], axis=0)
    np.testing.assert_array_equal(fake_sweep.read_outcomes(trained[0], "five_view", five),
                                  probabilities.argmax(axis=1) != split.labels)
    log = (trained[0] / "log.txt").read_text()
    assert "finished: error centre crop 0.0% (0 of 40 wrong); five views 0.0% (0 of 40 wrong)" in log
    assert "top-5" not in log
    assert "WARNING: never" not in log
    written = b"".join(path.read_bytes() for path in trained[0].glob("events.out.tfevents.*"))
    assert b"eval/top1_error" in written
    assert b"top5" not in written


def test_a_checkpoint_counted_again(trained, capsys, tmp_path):
    kept = (trained[0] / "result.json").read_bytes()
    assert evaluate_command.main([str(trained[0])]) == 0
    told = capsys.readouterr().out
    counts = run_files.read_json(trained[0] / "result.json")["eval"]
    for name, words in views.NAMES.items():
        wrong = counts[name]["top1_wrong"]
        assert f"{words} {100 * wrong / 40:.1f}% ({wrong} of 40 wrong)" in told
    assert "top-5" not in told
    assert (trained[0] / "result.json").read_bytes() == kept
    assert evaluate_command.main([str(trained[0]), "--split=train"]) == 0
    assert "of 96 wrong" in capsys.readouterr().out
    assert evaluate_command.main([str(trained[0]), "--record"]) == 0
    assert "has nothing to add: it is there" in capsys.readouterr().out
    with pytest.raises(ConfigError, match="leave out --data and --split"):
        evaluate_command.main([str(trained[0]), "--record", "--split=train"])
    with pytest.raises(WorkdirError, match="not a run of"):
        evaluate_command.main([str(tmp_path)])


def _as_before(run: pathlib.Path, folder: pathlib.Path) -> pathlib.Path:
    """A copy of a run as it was before five views were counted."""
    shutil.copytree(run, folder)
    for name, part in (("result.json", "eval"), ("outcomes.json", None)):
        tree = run_files.read_json(folder / name)
        del (tree[part] if part else tree)["five_view"]
        run_files.write_json(folder / name, tree)
    return folder


def test_an_old_result_gets_its_five_views_from_the_checkpoint(trained, tmp_path, capsys):
    old = _as_before(trained[0], tmp_path / "old")
    assert workdirs.default_views([workdirs.read_run(old), workdirs.read_run(trained[1])]) == "ten_view"
    assert evaluate_command.main([str(old), "--record"]) == 0
    assert "has five views now" in capsys.readouterr().out
    for name in ("result.json", "outcomes.json"):
        assert (old / name).read_bytes() == (trained[0] / name).read_bytes()
    assert workdirs.default_views([workdirs.read_run(old), workdirs.read_run(trained[1])]) == "five_view"


def test_counts_of_another_checkpoint_are_not_added(trained, tmp_path):
    old = _as_before(trained[0], tmp_path / "old")
    tree = run_files.read_json(old / "result.json")
    tree["eval"]["centre"]["top1_wrong"] += 1
    run_files.write_json(old / "result.json", tree)
    before = (old / "result.json").read_bytes()
    with pytest.raises(WorkdirError, match="centre crop 1 of 40 wrong there and 0 of 40 by this checkpoint"):
        evaluate_command.main([str(old), "--record"])
    assert (old / "result.json").read_bytes() == before
    (old / "result.json").unlink()
    with pytest.raises(WorkdirError, match="has no finished result to add to"):
        evaluate_command.main([str(old), "--record"])


def test_averages_of_networks_that_never_saw_a_mirror_image(trained, tmp_path, capsys):
    for options, expected in (((), "five_view"), (("--views=ten_view",), "ten_view")):
        assert ensemble.main([*map(str, trained), *options, f"--record={tmp_path}"]) == 0
        told = capsys.readouterr().out
        assert "top-5" not in told
        tree = run_files.read_json(tmp_path / "ensemble.json")
        assert tree["ensemble"]["views"] == expected
        assert tree["measured"]["text"].endswith("; five views") == (expected == "five_view")
        one = next(row for row in tree["ensemble"]["sizes"] if row["networks"] == 1)
        assert one["top1_wrong"] == [run_files.read_json(run / "result.json")["eval"][expected]["top1_wrong"]
                                     for run in trained]


def test_the_picture_of_neighbours_has_as_many_guesses_as_classes(trained, tmp_path):
    assert retrieval.main([str(trained[0]), "--images=3", f"--record={tmp_path}"]) == 0
    assert (tmp_path / "retrieval.png").stat().st_size > 10_000


def test_a_run_that_learns_and_does_not_transfer(folder, tmp_path):
    result = _train(_lenet(folder, data__name="image_folder:swapped"), tmp_path / "run")
    message = result["message"]
    assert message.startswith("learns, but not for the reported images: error ")
    assert "100.0% on the 40 reported images, where naming one class always gives 50.0% and 50.0%" in message
    assert "are the labels and classes of 'val' those of the training images?" in message
    assert "learning_rate" not in message
    assert f"WARNING: {message}" in (tmp_path / "run" / "log.txt").read_text()
