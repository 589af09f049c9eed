"""Labels go by class names, whatever the splits are called, wherever the images are, whoever packed them."""

import contextlib
import json
import shutil

import numpy as np
import pytest
import tiny_run
from data_files import data_config, encoded, pixels, write_tree

from alexnet_jax import config
from alexnet_jax.data import Classes, classes, duplicates, loader, open_split, open_splits, store
from alexnet_jax.data.comparing import about_data, about_data_words, learnt_too
from alexnet_jax.errors import ConfigError, DataError, WorkdirError
from alexnet_jax.parallel import distributed
from alexnet_jax.parallel.mesh import make_mesh
from alexnet_jax.training import feed, loop, workdir

COLOUR = {"ant": (250, 0, 0), "cat": (0, 250, 0), "dog": (0, 0, 250), "elk": (250, 250, 0), "fox": (0, 250, 250)}


def tree(root, **splits):
    """root/<split>/<class>/<n>.png, each image of its class's colour: splits = {split: {class: how many}}."""
    write_tree(root, {f"{split}/{key}/{n}.png": encoded(image(key, n)) for split, found in splits.items()
                      for key, number in found.items() for n in range(number)})


def image(key, n=0):
    picture = np.full((9, 9, 3), COLOUR[key], np.uint8)
    picture[0, 0] = 20 * n  # no two of a class are the same image
    return picture


def opened(tmp_path, train="training", report=lambda line: None, **fields):
    return open_splits(data_config(tmp_path / "store", dir=tmp_path, name="image_folder:x", train_split=train,
                                   **{"eval_split": "validation", **fields}), report=report)


def assert_right(split, known):
    """Every image has the label of its colour."""
    assert len(split.images) == len(split.labels) == len(split)
    for picture, label in zip(np.asarray(split.images), split.labels, strict=True):
        assert tuple(picture[4, 4]) == COLOUR[known[label]]


@pytest.mark.parametrize("field", ["eval_split", "tune_split", "fold_split"])
@pytest.mark.parametrize("order", ["stored", "spread"])
@pytest.mark.parametrize("other", [{"dog": 2, "elk": 3}, {"elk": 1}, {"cat": 1, "dog": 1, "elk": 4}])
def test_the_classes_are_those_of_training(tmp_path, field, order, other):
    tree(tmp_path / "x", training={"cat": 3, "dog": 2, "elk": 4}, validation=other)
    found = opened(tmp_path, **{"eval_split": "training", field: "validation"}, order=order)
    assert found["train_split"].class_keys == found[field].class_keys == ("cat", "dog", "elk")
    for split in found.values():
        assert_right(split, ("cat", "dog", "elk"))
    part = found["train_split"].part(np.array([8, 0, 3]))
    assert_right(part, ("cat", "dog", "elk"))


NAMES = [("training", "validation"), ("train", "val"), ("val", "train"), ("learn", "look")]
CLASSES = [({"cat": 3, "dog": 2, "elk": 4}, {"dog": 2, "elk": 3}), ({"ant": 2, "fox": 5}, {"fox": 1, "ant": 1}),
           ({"ant": 1, "cat": 4, "dog": 2, "elk": 1, "fox": 2}, {"elk": 3})]


@pytest.mark.parametrize("alone", [False, True], ids=["together", "packed alone before"])
@pytest.mark.parametrize("order", ["stored", "spread"])
@pytest.mark.parametrize("of", CLASSES, ids=["last", "same", "one"])
@pytest.mark.parametrize("called", NAMES, ids="-".join)
def test_every_image_has_its_label_on_the_host_and_on_the_device(tmp_path, called, of, order, alone):
    tree(tmp_path / "x", **dict(zip(called, of, strict=True)))
    if alone:  # each with a numbering of its own, as stores of before have
        for split in reversed(called):
            open_split(data_config(tmp_path / "store", dir=tmp_path, name="image_folder:x"), split,
                       report=lambda line: None)
    found = opened(tmp_path, called[0], eval_split=called[1], order=order)
    learnt, reported = found["train_split"], found["eval_split"]
    known = tuple(of[0])
    assert learnt.class_keys == reported.class_keys == known

    def right(images, labels):
        assert len(images) == len(labels)
        return all(tuple(image[4, 4]) == COLOUR[known[label]] for image, label in zip(images, labels, strict=True))

    with contextlib.closing(loader.training_batches(loader.Course(learnt, 2, 1), 0, 0, len(learnt) // 2)) as batches:
        assert all(right(batch.images, batch.labels) for batch in batches)
    with contextlib.closing(loader.evaluation_batches(reported, 4)) as batches:
        assert all(right(images[weight > 0], labels[weight > 0]) for images, labels, weight in batches)
    mesh = make_mesh(config.resolve(config.override(config.default(), tiny_run.TINY)))
    placed = feed._place("device", mesh, [learnt, reported], lambda line: None)
    for split in (learnt, reported):
        source, first = placed[split.store.folder]
        places = split.places(np.arange(len(split))) - first
        images, labels = (np.asarray(array)[places] for array in source)
        np.testing.assert_array_equal(images, split.images)
        np.testing.assert_array_equal(labels, split.labels)
        assert right(images, labels)


def test_a_store_with_a_numbering_of_its_own_is_mapped(tmp_path):
    tree(tmp_path / "x", training={"cat": 1, "dog": 1, "elk": 1}, validation={"dog": 2, "elk": 2})
    alone = open_split(data_config(tmp_path / "store", dir=tmp_path, name="image_folder:x"), "validation",
                       report=lambda line: None)
    assert alone.class_keys == ("dog", "elk")
    assert sorted(alone.labels) == [0, 0, 1, 1]
    before = sorted(p.name for p in (tmp_path / "store").iterdir())
    found = opened(tmp_path)
    assert_right(found["eval_split"], ("cat", "dog", "elk"))
    assert set(before) < {p.name for p in (tmp_path / "store").iterdir()}  # not packed again


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("other", [{"cat": 1, "fox": 2}, {"ant": 2, "cat": 1, "dog": 1, "elk": 1}])
def test_a_class_that_training_lacks_is_refused_by_name(tmp_path, other, packed):
    tree(tmp_path / "x", training={"cat": 3, "dog": 2, "elk": 4}, validation=other)
    if packed:
        for split in ("training", "validation"):
            open_split(data_config(tmp_path / "store", dir=tmp_path, name="image_folder:x"), split,
                       report=lambda line: None)
    strange = next(key for key in other if key in ("ant", "fox"))
    said = []
    with pytest.raises(DataError, match=rf"validation: classes that training does not have: {strange}; "
                                        "training has cat"):
        opened(tmp_path, report=said.append)
    assert not said  # before anything was decoded
    if not packed:
        assert not (tmp_path / "store").exists()


@pytest.mark.parametrize("packed", [False, True])
def test_a_split_called_train_that_is_not_trained_on_has_no_say(tmp_path, packed):
    tree(tmp_path / "x", train={"cat": 1, "fox": 1}, extra={"ant": 2, "cat": 2, "elk": 1}, val={"elk": 2, "ant": 1})
    if packed:
        for split in ("train", "val"):
            open_split(data_config(tmp_path / "store", dir=tmp_path, name="image_folder:x"), split,
                       report=lambda line: None)
    found = opened(tmp_path, "extra", eval_split="val")
    for split in found.values():
        assert_right(split, ("ant", "cat", "elk"))


def test_a_class_whose_training_images_are_all_corrupt_is_one_of_training(tmp_path):
    """The second start, which finds the stores, says what the first did."""
    tree(tmp_path / "x", training={"cat": 2, "dog": 2}, validation={"cat": 1, "fox": 2})
    write_tree(tmp_path / "x" / "training" / "fox", {"1.png": b"\x89PNG\r\n\x1a\nnothing more"})
    for _ in range(2):
        found = opened(tmp_path)
        assert found["train_split"].class_keys == ("cat", "dog", "fox")
        assert_right(found["eval_split"], ("cat", "dog", "fox"))
        assert about_data([found["train_split"]], found["eval_split"])["classes"]["not_learnt_keys"] == ["fox"]


def test_another_dataset_is_refused_before_it_is_packed(tmp_path):
    tree(tmp_path / "x", train={"cat": 1, "dog": 1})
    tree(tmp_path / "y", test={"dog": 1, "cat": 2, "ant": 1})
    data = data_config(tmp_path / "store", dir=tmp_path, name="image_folder:x")
    known = open_split(data, "train", report=lambda line: None).known
    said = []
    for name, strange in (("image_folder:y", "ant"), ("shapes", "disc"), ("cifar10", "airplane")):
        other = data_config(tmp_path / "store", name=name, **(
            {"dir": tmp_path} if "folder" in name else {"dir": cifar10(tmp_path)} if name == "cifar10" else {}))
        with pytest.raises(DataError, match=rf"test: classes that training does not have: {strange}.*has cat, dog"):
            open_split(other, "test", report=said.append, classes=known)
    assert not said
    tree(tmp_path / "z", test={"dog": 1, "cat": 2})
    assert_right(open_split(data_config(tmp_path / "store", dir=tmp_path, name="image_folder:z"), "test",
                            report=said.append, classes=known), known.keys)


def cifar10(tmp_path):
    """A folder of CIFAR-10's files, which nobody reads."""
    from alexnet_jax.data.readers.cifar10 import FOLDER, TEST, TRAIN

    write_tree(tmp_path / FOLDER, dict.fromkeys((*TRAIN, *TEST), b""))
    return tmp_path


def test_the_same_number_of_classes_of_other_names(tmp_path):
    tree(tmp_path / "x", training={"cat": 1, "dog": 1}, validation={"elk": 1, "fox": 1})
    with pytest.raises(DataError, match=r"does not have: elk, fox; training has cat, dog"):
        opened(tmp_path)


def test_one_class_is_refused(tmp_path):
    tree(tmp_path / "x", training={"cat": 5}, validation={"cat": 5})
    with pytest.raises(DataError, match=r"only one class \(cat\)"):
        opened(tmp_path)


def test_what_an_error_leaves_out_is_counted_and_reported(tmp_path):
    tree(tmp_path / "x", training={"ant": 2, "cat": 3, "dog": 2, "elk": 4}, validation={"ant": 1, "cat": 2, "dog": 3})
    keys = ("ant", "cat", "dog", "elk")
    found = opened(tmp_path)
    order = np.argsort(found["train_split"].labels, kind="stable")
    learnt = found["train_split"].part(order[2:])  # none of the ants
    assert learnt.class_keys == keys
    about = about_data([learnt], found["eval_split"])
    assert about == {"classes": {"not_learnt": 1, "not_learnt_keys": ["ant"], "not_learnt_images": 1,
                                 "not_reported": 1, "not_reported_keys": ["elk"]}, "seen": 4}
    words = " ".join(about_data_words(about))
    assert "1 class that the error is reported on (ant) has no training image (1 image that can only be wrong)" in words
    assert "1 class that training has (elk) is not among" in words
    assert "4 of the images that the error is reported on were learnt from too" in words
    assert about_data([learnt], learnt.part(np.arange(3)).of(learnt.known))["seen"] == 3


def test_images_of_both_splits_are_counted_once_and_not_read(tmp_path, monkeypatch):
    tree(tmp_path / "x", train={"ant": 3, "cat": 4, "dog": 5}, val={"ant": 2, "cat": 1, "elk": 0, "dog": 6})
    found = opened(tmp_path, "train", eval_split="val")
    train, val = found["train_split"], found["eval_split"]
    assert learnt_too([train, train.part(slice(0, 4))], val) == 2 + 1 + 5  # by their pixels
    assert learnt_too([train.part(slice(0, 4)), train], train) == len(train)
    monkeypatch.setattr(duplicates._Images, "__getitem__", None)
    assert learnt_too([train.part(np.array([8, 0, 3])), train.part(slice(2, 6))], train) == len({8, 0, 3, 2, 4, 5})


def test_a_thousand_classes_are_named_by_the_first():
    learnt, reported = np.zeros(1000, int), np.arange(1000) % 2
    found = classes.uneven(learnt, reported, [f"c{i}" for i in range(1000)])
    one, two = classes.words(found)
    assert one.startswith("500 classes that the error is reported on (c1, c3, c5, c7, c9 and 495 more) have no")
    assert "(500 images that can only be wrong)" in one
    assert two.startswith("500 classes of the dataset (c0, ")


def test_there_is_no_note_if_nothing_is_wrong():
    assert classes.uneven(np.array([1, 2]), np.array([3, 4]), ("a", "b")) == {}
    assert about_data_words({}) == []


@pytest.mark.parametrize(("split", "most"), [("train[:50%]", 1), ("train[50%:]", 1), ("train[20%:60%]", 2)])
def test_a_slice_of_a_spread_split_holds_each_class_s_share(tmp_path, split, most):
    tree(tmp_path / "x", train={"ant": 9, "cat": 2, "dog": 5, "elk": 13})
    data = data_config(tmp_path / "store", dir=tmp_path, name="image_folder:x", order="spread")
    whole, part = (open_split(data, text, report=lambda line: None) for text in ("train", split))
    share = whole.per_class * len(part) / len(whole)
    assert (np.abs(part.per_class - share) < most).all()
    assert_right(part, part.class_keys)
    assert part.overlap(whole) == len(part)
    other = open_split(data, "train[:50%]" if split == "train[50%:]" else "train[60%:]", report=lambda line: None)
    assert part.overlap(other) == 0
    mean = np.asarray(part.images).astype(np.float64).mean(axis=0)
    np.testing.assert_allclose(part.statistics().mean, mean, rtol=1e-6)
    assert part.statistics_file != whole.statistics_file


def test_a_validation_set_is_cut_off_by_class(tmp_path):
    tree(tmp_path / "x", train={"ant": 10, "cat": 1, "dog": 5})

    def cut(**fields):
        return opened(tmp_path, **{"train": "train", "eval_split": "val", "val_fraction": 0.2, **fields})

    found = cut()
    train, val = found["train_split"], found["eval_split"]
    assert list(val.per_class) == [2, 0, 1]
    assert train.overlap(val) == 0
    assert len(train) + len(val) == 16
    assert train.store.folder == val.store.folder  # packed once
    for split in (train, val):
        assert_right(split, ("ant", "cat", "dog"))
    assert list(cut()["eval_split"].rows) == list(val.rows)
    others = {tuple(cut(val_seed=seed)["eval_split"].rows) for seed in range(6)}
    assert len(others) > 1
    assert len(cut(train="train[:50%]")["train_split"]) == 6
    with pytest.raises(ConfigError, match=r"config\.data\.eval_split: 'val\[5:\]' reaches beyond val; .*val \(3 im"):
        cut(eval_split="val[5:]")


def test_a_dataset_with_a_validation_set_keeps_it(tmp_path):
    tree(tmp_path / "x", train={"ant": 2, "cat": 2}, val={"ant": 1})
    with pytest.raises(ConfigError, match=r"config\.data\.val_fraction: image_folder:x has a split of its own"):
        opened(tmp_path, train="train", eval_split="val", val_fraction=0.2)
    c = config.override(config.default(), {"data.val_fraction": 0.2})
    with pytest.raises(ConfigError, match=r"config\.data\.val_fraction: makes a split val, which no field uses"):
        config.resolve(c)
    with pytest.raises(ConfigError, match=r"config\.data\.val_seed: chooses the images that .*val_fraction cuts off"):
        config.resolve(config.override(config.default(), {"data.val_seed": 3}))


def test_names_of_classes(tmp_path):
    tree(tmp_path / "x", training={"cat": 1, "dog": 1}, validation={"dog": 1})
    file = tmp_path / "names.txt"
    file.write_text("dog\tGood dog\nowl\tOwl\n\n", encoding="utf-8")
    said = []
    found = opened(tmp_path, names=str(file), report=said.append)
    assert found["train_split"].classes == found["eval_split"].classes == ("cat", "Good dog")
    assert "note: config.data.names: no class is called owl" in said
    for content, message in (("dog good\n", r"names\.txt, line 1: 'dog good' is not of the form id, tab, name"),
                             ("a\tb\na\tc\n", r"names\.txt, line 2: two names for 'a', 'b' and 'c'; keep one")):
        file.write_text(content, encoding="utf-8")
        with pytest.raises(ConfigError, match=r"config\.data\.names: .*" + message):
            opened(tmp_path, names=str(file))
    with pytest.raises(ConfigError, match=r"config\.data\.names: .*absent\.txt: no such file"):
        opened(tmp_path, names=str(tmp_path / "absent.txt"))


def test_a_store_s_own_numbering_isn_t_trusted_even_if_it_is_altered(tmp_path):
    tree(tmp_path / "x", training={"cat": 2, "dog": 2}, validation={"cat": 1, "dog": 1})
    found = opened(tmp_path)
    meta = found["eval_split"].store.folder / store.META
    content = json.loads(meta.read_text(encoding="utf-8"))
    labels = found["eval_split"].store.labels
    # As another version might have packed it: the other way round.
    swapped = (1 - labels).astype("<i4")
    (meta.parent / store.LABELS).write_bytes(swapped.tobytes())
    content["class_keys"] = content["classes"] = ["dog", "cat"]
    content["crc32"][store.LABELS] = store.crc32(swapped)
    meta.write_text(json.dumps(content), encoding="utf-8")
    assert_right(opened(tmp_path)["eval_split"], ("cat", "dog"))


def test_spellings_of_an_accent_are_one_class(tmp_path):
    composed, apart = "caf\u00e9", "cafe\u0301"
    write_tree(tmp_path / "x", {f"{split}/{key}/{n}.png": encoded(image("cat" if key == "tea" else "dog", n))
                                for split, key in (("training", apart), ("validation", composed), ("training", "tea"))
                                for n in range(2)})
    names = tmp_path / "names.txt"
    names.write_text(f"{composed}\tCoffee\n", encoding="utf-8")
    found = opened(tmp_path, names=str(names))
    assert tuple(map(classes.same, found["train_split"].class_keys)) == (composed, "tea")
    assert found["train_split"].classes == ("Coffee", "tea")
    assert list(found["eval_split"].labels) == [0, 0]


def test_processes_have_the_same_images_labels_and_classes(tmp_path, monkeypatch):
    tree(tmp_path / "x", training={"cat": 3, "dog": 2}, validation={"dog": 1})
    found = opened(tmp_path)
    train = found["train_split"]
    prints = {name: workdir.fingerprints({"train_split": split})["config.data.train_split"] for name, split in {
        "": train, "again": train.part(np.arange(5)), "order": train.part(np.array([1, 0, 2, 3, 4])),
        "fewer": train.part(slice(0, 4)), "classes": train.of(Classes(("dog", "cat"), ("dog", "cat")))}.items()}
    assert prints["again"] == prints[""]
    assert len(set(prints.values())) == 4
    monkeypatch.setattr(distributed, "everywhere", lambda value: value)
    monkeypatch.setattr(distributed, "text_from_first", lambda text: text)
    distributed.meet_over("images", workdir.fingerprints(found))
    monkeypatch.setattr(distributed, "text_from_first", lambda text: text.replace("5 images", "6 images"))
    with pytest.raises(ConfigError, match=r"config\.data\.train_split = '6 images .* in process 0, '5 images .* here; "
                                          "give all processes of a run the same images"):
        distributed.meet_over("images", workdir.fingerprints(found))
    monkeypatch.setattr(distributed, "text_from_first", lambda text: text)
    monkeypatch.setattr(distributed, "everywhere", lambda value: False)  # another process is the one that differs
    with pytest.raises(ConfigError, match="another process has different images"):
        distributed.meet_over("images", workdir.fingerprints(found))


def test_classes_side_by_side():
    a, b = Classes(("x", "y"), ("X", "Y")), Classes(("y", "z"), ("why", "Z"))
    assert a.extended(b) == Classes(("x", "y", "z"), ("X", "Y", "Z"))


@pytest.mark.parametrize("placement", ["host", "device"])
def test_a_network_learns_and_is_judged_as_with_images_arranged_by_hand(tmp_path, placement, monkeypatch):
    """`training` has four classes, `validation` two of them in other positions; by hand both have all four."""
    monkeypatch.setattr(loop, "Program", tiny_run.shared_program)
    tiny = tiny_run.TINY | {"data.size": 16, "data.crop": 12, "data.store": str(tmp_path / "store"),
                            "data.dir": str(tmp_path), "data.placement": placement, "train.epochs": 1}
    held = {"dog": 6, "fox": 5}
    tree(tmp_path / "x", training={"ant": 9, "cat": 9, "dog": 9, "fox": 9}, validation=held)
    tree(tmp_path / "y", train={"ant": 9, "cat": 9, "dog": 9, "fox": 9}, val=held)

    def of(name, learnt, reported):
        return config.resolve(config.override(config.default(), tiny | {
            "data.name": f"image_folder:{name}", "data.train_split": learnt, "data.eval_split": reported}))

    results = [tiny_run.go(of(*each), tmp_path / "runs" / each[0])
               for each in (("x", "training", "validation"), ("y", "train", "val"))]
    assert results[0]["eval"] == results[1]["eval"]
    assert results[0]["data"]["classes"] == {"not_reported": 2, "not_reported_keys": ["ant", "cat"]}
    kept = json.loads((tmp_path / "runs" / "x" / "run.json").read_text(encoding="utf-8"))
    assert kept["classes"]["keys"] == ["ant", "cat", "dog", "fox"]
    assert kept["about_data"] == {key: results[0]["data"][key] for key in ("classes", "seen")}
    assert kept["about_data"]["seen"] == 11
    # Another class since then: outputs would mean something else.
    (tmp_path / "runs" / "x" / "result.json").unlink()
    shutil.move(tmp_path / "x" / "training" / "cat", tmp_path / "x" / "training" / "cow")
    with pytest.raises(WorkdirError, match=r"the classes differ from those when this run began \(cat then, cow now\)"):
        tiny_run.go(of("x", "training", "validation"), tmp_path / "runs" / "x")


def test_a_network_learns_the_same_from_a_list_as_from_class_folders(tmp_path, monkeypatch):
    """The same images, in the same order of the store, by `train.csv` and `val.csv` or arranged by hand."""
    monkeypatch.setattr(loop, "Program", tiny_run.shared_program)
    rows, files = {"train": "file;who\r\n", "val": "file;who\r\n"}, {}
    for number in range(60):
        split, name = ("val" if number % 3 == 2 else "train"), ("gnu", "ant", "zebra", "bee")[number % 4]
        rows[split] += f"{number:02}.png;{name}\r\n"
        content = encoded(pixels(1000 + number))
        files |= {f"listed/pool/{number:02}.png": content, f"folders/{split}/{name}/{number:02}.png": content}
    write_tree(tmp_path, files | {f"listed/{split}.csv": text.encode("utf-8-sig") for split, text in rows.items()})
    results = [tiny_run.go(config.resolve(config.override(config.default(), tiny_run.TINY | {
        "data.name": f"image_folder:{name}", "data.dir": str(tmp_path), "data.store": str(tmp_path / "store"),
        "data.train_split": "train", "data.eval_split": "val", "train.epochs": 1})), tmp_path / "runs" / name)
        for name in ("listed", "folders")]
    assert results[0]["eval"] == results[1]["eval"]
    assert results[0]["train"] == results[1]["train"]
    assert (results[0]["data"]["train_images"], results[0]["eval"]["centre"]["total"]) == (40, 20)
