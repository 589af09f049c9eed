"""Several stretches of a run in TensorBoard's format, also read by its own reader where installed."""

import collections
import importlib.util
import struct
import time

import pytest

from alexnet_jax.training import events

event_pb2 = pytest.importorskip("tensorboardX.proto.event_pb2")
NOW = 1_764_000_000
PREFIX = "events.out.tfevents."
# name: when each stretch begins, by the clock, and what the folder holds already
CLOCKS = {
    "continues": ([NOW, NOW + 60], ()),
    "stands still": ([NOW, NOW, NOW], ()),
    "went back": ([NOW, NOW - 86_400, NOW - 86_390], ()),
    "was ahead": ([NOW * 4, NOW], ()),
    "has no battery": ([12.3456789, 20.5, 3.25], ()),
    "as earlier versions named it": ([NOW], [f"{PREFIX}{NOW}.zz"]),
    "a day's seconds, as earlier versions named it": ([86_400.5], [f"{PREFIX}86400.1234.a"]),
    "past all numbers": ([NOW], [f"{PREFIX}9999999999.a"]),
    "another program's": ([NOW], [f"{PREFIX}z"]),
}


def read(folder):
    """{tag: {step: value}}, by TensorBoard's rules: files by name; a start takes back the steps from its own on."""
    found = collections.defaultdict(dict)
    for path in sorted(folder.glob(f"{PREFIX}*")):
        content, place = path.read_bytes(), 0
        while place < len(content):
            (length,) = struct.unpack_from("<Q", content, place)
            event = event_pb2.Event.FromString(content[place + 12:place + 12 + length])
            place += length + 16
            if event.HasField("session_log") and event.session_log.status == event_pb2.SessionLog.START:
                for values in found.values():
                    for step in [step for step in values if step >= event.step]:
                        del values[step]
            for value in event.summary.value:
                found[value.tag][event.step] = value.simple_value
    return dict(found)


def read_by_tensorboard(folder):
    from tensorboard.backend.event_processing import event_accumulator

    reader = event_accumulator.EventAccumulator(str(folder))
    reader.Reload()
    return {tag: {event.step: event.value for event in reader.Scalars(tag)} for tag in reader.Tags()["scalars"]}


READERS = [read, pytest.param(read_by_tensorboard, marks=pytest.mark.skipif(
    importlib.util.find_spec("tensorboard") is None, reason="TensorBoard isn't installed; `read` follows its rules"))]


def write(folder, monkeypatch, clock):
    """Stretches of four rows each, of which each resumes two rows before the last one's end; what should be there."""
    names, done = [], 0
    for stretch, now in enumerate(clock):
        monkeypatch.setattr(time, "time", lambda now=now: now)
        before = {path.name for path in folder.iterdir()}
        writer = events.Events(folder, last_step=done)
        for step in range(done + 1, done + 5):
            writer.add({"epoch": 1, "step": step, "train_loss": 100.0 * stretch + step, "tune_loss": None})
        writer.close()
        (name,) = {path.name for path in folder.iterdir()} - before
        assert name > max(before, default="")
        names.append(name)
        done += 2
    monkeypatch.undo()
    return {step: 100.0 * min((step - 1) // 2, len(clock) - 1) + step for step in range(1, done + 3)}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("case", CLOCKS)
def test_no_stretch_hides_another(tmp_path, monkeypatch, case, reader):
    clock, files = CLOCKS[case]
    for name in files:
        (tmp_path / name).touch()
    expected = write(tmp_path, monkeypatch, clock)
    assert reader(tmp_path) == {"train/loss": expected}


@pytest.mark.parametrize("reader", READERS)
def test_a_reader_that_is_there_all_the_time(tmp_path, monkeypatch, reader):
    """Each row is on the disk at once, and a folder that is read meanwhile has a start of each stretch."""
    writer = events.Events(tmp_path, last_step=0)
    writer.add({"step": 3, "images_per_second": 5.0, "eval_loss": 1.0})
    assert reader(tmp_path) == {"images_per_second": {3: 5.0}, "eval/loss": {3: 1.0}}
    other = events.Events(tmp_path, last_step=2)
    assert not any(reader(tmp_path).values())
    writer.close()
    other.close()
