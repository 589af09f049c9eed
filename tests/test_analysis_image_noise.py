"""The outcomes that runs keep for each reported image, and the images' noise in a sweep's differences."""

import json

import fake_sweep
import numpy as np
import pytest

from alexnet_jax import run_files
from experiments import report
from experiments.analysis import image_noise, statistics, workdirs
from experiments.claims import summary

COUNTS = {"top1_wrong": 3, "top5_wrong": 1, "total": 10}
FOUND = np.array([0, 1, 0, 0, 2, 0, 0, 0, 0, 1])


def _kept(tmp_path):
    run_files.write_outcomes(tmp_path, 10, {views: run_files.packed_outcomes(found) for views, found in
                                          (("centre", FOUND), ("ten_view", 0 * FOUND))})
    return tmp_path


def test_outcomes_come_back(tmp_path):
    for key, least in (("top1", 1), ("top5", 2)):
        np.testing.assert_array_equal(fake_sweep.read_outcomes(_kept(tmp_path), "centre", COUNTS, key), least <= FOUND)


@pytest.mark.parametrize(("old", "new"), [
    ('"images": 10', '"images": 12'), ('"top1_wrong"', '"top1"'), ('"SEA="', '"SEA"'), ('"SEA="', '"SAA="'),
    ('"SEA="', '"SÄA="'), ('"SEA="', "7"), ('"centre": {', '"centre": ['), ('{\n', '')])
def test_outcomes_that_are_damaged_or_belong_to_another_result_are_none(tmp_path, old, new):
    path = _kept(tmp_path) / run_files.OUTCOMES
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))
    assert fake_sweep.read_outcomes(tmp_path, "centre", COUNTS) is None


def test_outcomes_of_other_counts_are_none(tmp_path):
    for change in ({"top1_wrong": 4}, {"total": 9}, {"total": 16}):
        assert fake_sweep.read_outcomes(_kept(tmp_path), "centre", COUNTS | change) is None
    assert fake_sweep.read_outcomes(tmp_path / "absent", "centre", COUNTS) is None


@pytest.fixture
def sweep(tmp_path):
    return fake_sweep.write_sweep(tmp_path / "w", seeds=range(4), outcomes=True)


def _between(workdir, name, views=("ten_view", "ten_view")):
    found = workdirs.read_sweep(workdir)
    arm = found.arm(name)
    return image_noise.between(arm, found.reference(arm), views, range(4))


def test_the_noise_is_that_of_the_runs_images(sweep):
    found = workdirs.read_sweep(sweep)
    over = _between(sweep, "no_lrn")
    wrong = [[fake_sweep.read_outcomes(run.folder, "ten_view", run.counts("ten_view"))
              for run in found.arm(name).runs.values()] for name in ("no_lrn", "baseline")]
    assert over == statistics.over_images(*map(np.stack, wrong), scale=100)
    own = summary.summarise(found)["arms"][1]["difference"]
    assert own["over_images"]["low"] == over.low < own["top1"]["low"]
    assert own["over_images"]["high"] == over.high > own["top1"]["high"]


def test_runs_without_outcomes_or_of_other_images_have_none(sweep):
    path = fake_sweep.folder_of(sweep, "no_lrn", 2) / run_files.OUTCOMES
    path.rename(path.with_name("kept.json"))
    assert _between(sweep, "no_lrn") is None
    assert _between(sweep, "nonoverlapping") is not None
    path.with_name("kept.json").rename(path)
    result = path.with_name("result.json")
    before = result.read_text()
    for field, other in (("name", "cifar10"), ("eval_split", "test[:10000]"), ("version", "2.0.0"), ("corrupt", 1)):
        tree = json.loads(before)
        tree["data"][field] = other
        result.write_text(json.dumps(tree))
        assert _between(sweep, "no_lrn") is None, field
    result.write_text(before)
    assert _between(sweep, "no_lrn") is not None


def test_a_report_names_the_arms_that_kept_nothing(sweep):
    (fake_sweep.folder_of(sweep, "no_lrn", 2) / run_files.OUTCOMES).unlink()
    text = report.write_report(sweep)
    assert "; intervals over both: nonoverlapping [" in text
    assert "Not for no_lrn, whose runs didn't keep what became of each image." in text
    table = (sweep / "report.csv").read_text().splitlines()
    place = table[0].split(",").index("top1_over_images_low")
    cells = {line.split(",")[0]: line.split(",")[place] for line in table[1:]}
    assert cells["no_lrn"] == "" != cells["nonoverlapping"]


def test_the_report_says_what_other_images_add(sweep, tmp_path):
    text = report.write_report(sweep)
    over = _between(sweep, "no_lrn")
    assert f"no_lrn [{over.low:+.2f}, {over.high:+.2f}]".replace("-", "−") in text
    assert "say nothing of other images" not in text
    without = report.write_report(fake_sweep.write_sweep(tmp_path / "without", seeds=range(4)))
    assert "say nothing of other images" in without
