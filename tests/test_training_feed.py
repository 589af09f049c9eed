"""Images on the device or streamed, one step per call or many: the same run."""

import dataclasses

import emulated
import jax
import numpy as np
import pytest
import tiny_run
from tiny_run import STEPS, Killed, arrays, assert_same_run, at, go, interrupt, kill

from alexnet_jax import data, run_files
from alexnet_jax.data import loader
from alexnet_jax.errors import ConfigError, Interrupted
from alexnet_jax.parallel.mesh import make_mesh, put_whole
from alexnet_jax.training import augment, evaluate, optim
from alexnet_jax.training import feed as feed_lib
from alexnet_jax.training import loop as train_lib
from alexnet_jax.training.program import Moment

# Fixtures of this file too: pytest finds them by their names here.
_tiny, store, tiny, finished = tiny_run.use_tiny, tiny_run.store, tiny_run.tiny, tiny_run.finished


@pytest.fixture(scope="module")
def in_calls(store, tmp_path_factory):
    """A finished run of three steps a call: 3 and 1 of each epoch's four."""
    folder = tmp_path_factory.mktemp("in_calls") / "run"
    with pytest.MonkeyPatch.context() as patch:
        tiny_run._patch(patch)
        go(tiny_run._config(store, data__placement="device", train__steps_per_call=3), folder, name="baseline")
    return folder


def _numbers(row):
    return {name: value for name, value in row.items() if value is not None}


# Whole runs.


def test_a_run_on_the_device_is_the_streamed_run(tiny, finished, tmp_path):
    c = tiny(data__placement="device")
    go(c, tmp_path, name="baseline")
    assert "images on the device: 72.6 kB" in (tmp_path / "log.txt").read_text()
    assert_same_run(c, tmp_path, finished)


def test_folded_images_and_those_tuned_on_come_from_the_device_too(tiny, tmp_path):
    fields = {"data__train_split": "train[16:64]", "data__tune_split": "train[64:]", "data__fold_split": "train[16:]",
              "data__fold_at": 1.0, "train__epochs": 3}
    for placement, steps in (("host", 0), ("device", 0), ("device", 2)):
        c = tiny(data__placement=placement, train__steps_per_call=steps, **fields)
        go(c, tmp_path / f"{placement}{steps}")
    assert_same_run(c, tmp_path / "device0", tmp_path / "host0")
    rows = [run_files.read_rows(tmp_path / name / "metrics.csv") for name in ("host0", "device2")]
    assert [row["step"] for row in rows[0]] == [3, 7, 11]
    assert rows[0][0]["tune_loss"] > 0
    for row, other in zip(*rows, strict=True):
        assert _numbers(other) == pytest.approx(_numbers(row), rel=1e-5)


def test_spread_and_cut_off_images_are_the_same_from_the_device(tiny, tmp_path):
    """Rows of a store in an order of their own; `shapes` is cut into train and val, as it has no val."""
    fields = {"data__train_split": "train[:48]", "data__eval_split": "val", "data__val_fraction": 0.2,
              "data__order": "spread", "train__epochs": 1}
    for placement, steps in (("host", 0), ("device", 0), ("device", 3)):
        go(tiny(data__placement=placement, train__steps_per_call=steps, **fields), tmp_path / f"{placement}{steps}")
    assert_same_run(tiny(**fields), tmp_path / "device0", tmp_path / "host0")
    outcomes = {(folder / "outcomes.json").read_bytes() for folder in tmp_path.iterdir()}
    assert len(outcomes) == 1


def test_many_steps_a_call_are_the_single_steps(tiny, finished, in_calls):
    c = tiny()
    rows = [run_files.read_rows(folder / "metrics.csv") for folder in (finished, in_calls)]
    for row, other in zip(*rows, strict=True):
        assert _numbers(other) == pytest.approx(_numbers(row), rel=1e-5)
    single, many = arrays(c, finished), arrays(c, in_calls)
    assert single.keys() == many.keys()
    for path, leaf in single.items():
        np.testing.assert_allclose(many[path], leaf, rtol=1e-4, atol=1e-6 * np.abs(leaf).max(initial=0), err_msg=path)
    mine, theirs = (run_files.read_json(folder / "result.json")["eval"] for folder in (in_calls, finished))
    for views in ("centre", "ten_view"):
        assert mine[views] == pytest.approx(theirs[views], rel=1e-5)
    assert (in_calls / "outcomes.json").read_bytes() == (finished / "outcomes.json").read_bytes()


@pytest.mark.parametrize("steps", [2, 1000])
def test_however_a_run_is_cut_into_calls(tiny, in_calls, tmp_path, steps):
    c = tiny(data__placement="device", train__steps_per_call=steps)
    go(c, tmp_path, name="baseline")
    assert_same_run(c, tmp_path, in_calls)


def test_a_resume_with_other_calls_is_the_same_run(tiny, in_calls, tmp_path, monkeypatch):
    """Interrupted after a call of 2 steps, killed at 7, where calls of 3 never end, then to the end by 3."""
    def run(steps):
        return tiny(data__placement="device", train__steps_per_call=steps, checkpoint__every_seconds=0.0)

    with monkeypatch.context() as patch:
        at(patch, 0, interrupt)
        with pytest.raises(Interrupted, match="stopped at step 2 of 8"):
            go(run(2), tmp_path, name="baseline")
    with monkeypatch.context() as patch:
        real = feed_lib.Feed.boundary
        patch.setattr(feed_lib.Feed, "boundary", lambda self, step: min(real(self, step), 7 if step < 7 else 8))
        at(patch, 7, kill)
        with pytest.raises(Killed):
            go(run(4), tmp_path, name="baseline")
    go(run(3), tmp_path, name="baseline")
    log = (tmp_path / "log.txt").read_text()
    assert "resuming at step 2 of 8" in log
    assert "resuming at step 7 of 8" in log
    assert_same_run(run(3), tmp_path, in_calls)


def test_the_step_that_is_not_finite_is_named_whatever_the_calls(tiny, tmp_path):
    for rate in (1e6, 1e12):
        texts, messages = set(), []
        for steps in (0, 3, 4):
            c = tiny(data__placement="device", train__steps_per_call=steps, optim__learning_rate=rate)
            messages.append(go(c, tmp_path / f"{rate}{steps}")["message"])
            texts.add((tmp_path / f"{rate}{steps}" / "result.json").read_text())
        assert len(texts) == 1, messages
        assert "the loss was not finite at step" in messages[0]


# Calls.


def _feed(c, say=lambda line: None):
    train, test = (data.open_split(c.data, name) for name in (c.data.train_split, "test"))
    built = train_lib.Program(c, 10, make_mesh(c))
    course = loader.Course(train, c.train.batch_size, c.train.epochs)
    return feed_lib.Feed(c, built, course, [test], say), course, test


def test_no_call_goes_beyond_a_change(tiny):
    c = tiny(data__placement="device", train__steps_per_call=50, train__epochs=6, train__schedule_unit="run",
             optim__schedule="table", optim__table__at=(0.1, 0.55, 0.73, 0.9),
             optim__table__factors=(0.5, 0.1, 0.5, 0.1), optim__conv1__at=(0.38,), optim__conv1__factors=(0.0,),
             augment__pca__off_at=0.77)
    feed, course, _ = _feed(c)

    def now(step):
        done = course.epochs_done(step)
        return (course.place(step)[0], optim.rates(c, done, optim.Plateau()), optim.noise_amount(c, done))

    expected = [step for step in range(1, course.steps) if now(step) != now(step - 1)]
    assert len(expected) == 5 + 6  # the epochs' ends and the six changes
    step, ends = 0, []
    for call in feed.training(0, 0):
        step += call.steps
        ends.append(step)
    assert ends == [*expected, course.steps]


def test_calls_of_the_device_hold_the_loaders_batches(tiny):
    c = tiny(data__placement="device")
    feed, course, _ = _feed(c)
    streamed = list(loader.training_batches(course, 5, 2, STEPS))
    calls = list(feed.training(5, 2))
    assert len(calls) == len(streamed) == STEPS - 2
    for call, batch in zip(calls, streamed, strict=True):
        assert call.steps == 1
        for mine, theirs in zip(call.batch, batch, strict=True):
            np.testing.assert_array_equal(mine, theirs)


def test_memory_that_is_used_again_changes_no_number(tiny, monkeypatch):
    """The host is some calls ahead of the devices, whose arrays on a CPU lie on the memory that was read into."""
    c = tiny(train__epochs=20)
    feed, course, _ = _feed(c)
    consts = put_whole(feed._mesh, augment.constants(c, course.splits[0].statistics()))
    rates = {name: np.float32(rate) for name, rate in optim.rates(c, 0.0, optim.Plateau()).items()}

    def end():
        state, sums = feed._program.init(np.uint32(0)), feed._program.zero_sums()
        under_way = feed_lib.UnderWay(feed.pace)
        for step, call in enumerate(feed.training(0, 0)):
            moment = Moment(np.uint32(0), np.int32(step), rates, np.float32(0))
            state, sums = feed.train(call, state, sums, consts, moment)
            under_way.add(1, sums)
        return [np.asarray(leaf).tobytes() for leaf in jax.tree.leaves((state, sums))]

    found = end()
    monkeypatch.setattr(loader.Buffers, "take", lambda self: np.empty(self._shape, np.uint8))
    assert found == end()


def test_evaluations_count_the_same_from_everywhere(tiny):
    found = []
    for fields in ({}, {"data__placement": "device"}, {"data__placement": "device", "train__steps_per_call": 2}):
        c = tiny(**fields)
        feed, _, test = _feed(c)
        params = jax.tree.map(lambda leaf: leaf * 20, feed._program.init(np.uint32(3)).params)
        consts = augment.constants(c, data.open_split(c.data, "train[:64]").statistics())
        found.append([evaluate.evaluate(feed._program, params, consts, test, views, feed=feed)
                      for views in ("centre", "ten_view", "five_view")])
        assert (feed.evaluation(test, params, consts, augment.centre_view(c)) is not None) == ("train__steps_per_call"
                                                                                              in fields)
    assert found[0] == found[1]
    for mine, theirs in zip(found[2], found[0], strict=True):
        assert mine.pop("loss") == pytest.approx(theirs.pop("loss"), rel=1e-5)
        assert mine == theirs
    assert found[0][0] != found[0][1]


def test_the_pace_finds_a_quarter_of_a_second():
    pace, now = feed_lib.Pace(), 0.0
    seen = []
    for each in [0.001] * 12 + [0.1] * 3:
        now += each * pace.steps
        pace.ended(pace.steps, now)
        seen.append(pace.steps)
    assert seen[:10] == [1, 2, 4, 8, 16, 32, 64, 128, 250, 250]  # the first call has nothing to be held against
    assert seen[-1] == 2
    pace.begin()
    pace.ended(2, now + 1000)
    assert pace.steps == 2
    fixed = feed_lib.Pace(7)
    for now in (0.0, 1.0, 50.0):
        fixed.ended(7, now)
        assert fixed.steps == 7


# Where the images go.


@pytest.mark.parametrize(("free", "train", "test"), [(None, False, False), (10**9, True, True), (200_000, True, False),
                                                     (100_000, False, True), (1000, False, False)])
def test_what_fits_goes_onto_an_accelerator(tiny, monkeypatch, free, train, test):
    # 64 images of 16 × 16 × 3 bytes and a label: 49,408 bytes; 30: 23,160; 30% of 200,000: 60,000.
    monkeypatch.setattr(feed_lib, "_is_cpu", lambda mesh: False)
    monkeypatch.setattr(feed_lib, "free_bytes", lambda mesh: free)
    lines = []
    feed, course, reported = _feed(tiny(), lines.append)
    assert [feed.resident(split) is not None for split in (course.splits[0], reported)] == [train, test]
    assert sum("stay on the host" in line for line in lines) == 2 - train - test
    assert feed.looped
    assert next(feed.training(0, 0)).steps == 1


def test_auto_leaves_images_where_they_are_on_a_cpu(tiny):
    feed, course, test = _feed(tiny())
    assert feed.resident(course.splits[0]) is feed.resident(test) is None
    assert not feed.looped
    assert feed_lib.free_bytes(make_mesh(tiny())) > 10**6


def test_what_an_accelerator_says_of_its_memory():
    @dataclasses.dataclass
    class Device:
        stats: dict | None
        platform: str = "gpu"

        def memory_stats(self):
            return self.stats

    class Mesh:
        def __init__(self, *stats):
            self.local_devices = [Device(s) for s in stats]
            self.devices = np.array(self.local_devices, object)

    assert feed_lib.free_bytes(Mesh({"bytes_limit": 100, "bytes_in_use": 30}, {"bytes_limit": 60})) == 60
    assert feed_lib.free_bytes(Mesh({"bytes_limit": 100}, None)) is None
    assert feed_lib.free_bytes(Mesh({"bytes_in_use": 3})) is None


def test_images_that_do_not_fit_are_refused_in_one_line(tiny, monkeypatch):
    monkeypatch.setattr(feed_lib, "free_bytes", lambda mesh: 60_000)
    with pytest.raises(ConfigError, match=r"^config.data.placement: 'device' needs 72.6 kB for the images and "
                                          r"60.0 kB are free; choose auto or host$"):
        _feed(tiny(data__placement="device"))


def test_several_steps_need_the_images_on_the_device(tiny):
    with pytest.raises(ConfigError, match=r"^config.train.steps_per_call: 2 steps a call need the images on"):
        tiny(data__placement="host", train__steps_per_call=2)
    lines = []
    feed, *_ = _feed(tiny(train__steps_per_call=2), lines.append)
    assert lines == ["note: config.train.steps_per_call: one step a call, as the images are streamed from the host"]
    assert next(feed.training(0, 0)).steps == 1


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_four_devices_are_fed_alike(tmp_path):
    out = emulated.run("feed_on_devices.py", 4, tmp_path, x64=True)
    alone = out["1x1 host 0"]
    assert len(out) == 4
    assert alone[0] != alone[1]
    for name, other in out.items():
        for row, expected in zip(other, alone, strict=True):
            assert row == pytest.approx(expected, rel=1e-9), name
    assert out["2x2 device 0"] == out["2x2 host 0"], "the same step, to the bit"
