"""The rows behind the curves, what is drawn of them, and the figure's bytes."""

import io

import fake_sweep
import matplotlib
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from alexnet_jax import run_files
from alexnet_jax.errors import ConfigError
from experiments.analysis import statistics
from experiments.figures import curves


@pytest.fixture(scope="module")
def sweep(tmp_path_factory):
    return fake_sweep.write_sweep(tmp_path_factory.mktemp("plots"), epochs=6)


def drawn(figure, panel=0):
    """The arms' lines of one panel: those with a marker that isn't a cross."""
    return [line for line in figure.axes[panel].lines if line.get_marker() not in ("x", "None")]


def test_load_has_every_row_with_its_arm_and_seed(sweep):
    frame = curves.load(sweep)
    assert len(frame) == 4 * 3 * 6
    assert list(frame.columns[-len(run_files.METRICS):]) == list(run_files.METRICS)
    assert sorted(set(zip(frame["arm"], frame["seed"], strict=True))) == [
        (arm, seed) for arm in sorted(fake_sweep.ARMS) for seed in range(3)]
    assert frame["tune_loss"].isna().all()
    rows = run_files.read_rows(fake_sweep.folder_of(sweep, "tanh", 1) / "metrics.csv")
    mine = frame[(frame["arm"] == "tanh") & (frame["seed"] == 1)]
    assert list(mine["eval_top1_error"]) == [row["eval_top1_error"] for row in rows]
    assert frame.attrs["caption"] == "shapes, 20,000 training images, 24-pixel crops, 6 epochs"


def test_a_line_is_the_mean_and_a_band_the_range(sweep):
    frame = curves.load(sweep)
    figure = curves.draw(frame)
    assert [len(drawn(figure, i)) for i in (0, 1)] == [4, 4]
    mine = frame[frame["arm"] == "no_lrn"].pivot(index="epoch", columns="seed", values="eval_top1_error")
    np.testing.assert_allclose(drawn(figure)[1].get_ydata(), 100 * mine.mean(axis=1))
    band = figure.axes[0].collections[1].get_paths()[0].vertices[:, 1]
    assert band.min() == pytest.approx(100 * mine.to_numpy().min())
    assert band.max() == pytest.approx(100 * mine.to_numpy().max())


def test_the_other_band_is_the_interval(sweep):
    frame = curves.load(sweep)
    figure = curves.draw(frame, band="interval")
    last = frame[(frame["arm"] == "baseline") & (frame["epoch"] == 6)]["eval_top1_error"]
    e = statistics.estimate(100 * last)
    vertices = figure.axes[0].collections[0].get_paths()[0].vertices
    at_end = sorted(vertices[vertices[:, 0] == 6][:, 1])
    assert (at_end[0], at_end[-1]) == (pytest.approx(e.low), pytest.approx(e.high))
    assert any("95% interval" in text.get_text() for text in figure.texts)


def test_arms_differ_by_colour_and_by_style_and_marker(sweep):
    lines = drawn(curves.draw(sweep))
    for get in ("get_color", "get_marker"):
        assert len({getattr(line, get)() for line in lines}) == 4
    assert len({str(line._unscaled_dash_pattern) for line in lines}) == 4
    assert lines[0].get_color() == "#000000"  # the baseline's
    assert "#F0E442" not in curves.COLOURS  # Okabe and Ito's yellow, lost on white
    alone = drawn(curves.draw(sweep, arms=["tanh"]))
    assert alone[0].get_color() == lines[3].get_color()  # an arm looks the same in every figure


def test_many_arms_are_still_told_apart(tmp_path):
    arms = {"baseline": ("", {}, 0.0, 0.0)}
    arms |= {f"arm{i}": ("mine", {"model.dropout": 0.05 * i}, float(i), 0.0) for i in range(14)}
    lines = drawn(curves.draw(fake_sweep.write_sweep(tmp_path, arms=arms, seeds=(0,), epochs=2)))
    looks = {(line.get_color(), line.get_marker(), str(line._unscaled_dash_pattern)) for line in lines}
    assert len(looks) == len(lines) == 15


def test_text_doesn_t_overlap_and_stays_on_the_page(tmp_path):
    """Legend, caption, title and axis labels, in the crowded case."""
    arms = {"baseline": ("", {}, 0.0, 0.0)}
    arms |= {f"a_rather_long_name_{i}": ("mine", {"model.dropout": 0.05 * i}, float(i), 0.0)
             for i in range(9)}
    states = {("a_rather_long_name_3", 0): "diverged", ("a_rather_long_name_4", 1): "not started"}
    workdir = fake_sweep.write_sweep(tmp_path, arms=arms, seeds=(0, 1), epochs=3, states=states,
                                     name="image_folder:" + "a-long-name-" * 7)
    for panels in (("eval_top1_error", "train_top1_error"), ("eval_top5_error",)):
        figure = curves.draw(workdir, panels=panels)
        with matplotlib.rc_context(curves.STYLE):
            renderer = figure.canvas.get_renderer()
            figure.draw(renderer)
            boxes = [text.get_window_extent(renderer) for text in figure.texts]
            boxes += [legend.get_window_extent(renderer) for legend in figure.legends]
            for axes in figure.axes:
                boxes.append(axes.get_tightbbox(renderer))
        page = figure.bbox
        for i, box in enumerate(boxes):
            assert page.x0 <= box.x0, i
            assert box.x1 <= page.x1, i
            assert page.y0 <= box.y0, i
            assert box.y1 <= page.y1, i
            assert not any(box.overlaps(other) for other in boxes[:i]), i


def test_a_diverged_run_is_drawn_alone_and_not_averaged(tmp_path):
    workdir = fake_sweep.write_sweep(tmp_path, epochs=6, states={("tanh", 0): "diverged",
                                                                 ("no_lrn", 1): "unfinished",
                                                                 ("nonoverlapping", 2): "not started"})
    figure = curves.draw(workdir)
    lines = drawn(figure)
    assert [len(line.get_xdata()) for line in lines] == [6, 6, 6, 6]
    crosses = [line for line in figure.axes[0].lines if line.get_marker() == "x"]
    assert [(line.get_color(), list(line.get_xdata())) for line in crosses] == [(lines[3].get_color(), [2])]
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels == ["baseline", "no_lrn (2 of 3 seeds)", "nonoverlapping (2 of 3 seeds)",
                      "tanh (2 of 3 seeds, 1 broken off)"]


def test_while_all_are_under_way_the_line_ends_with_the_slowest(tmp_path):
    states = {("baseline", seed): "unfinished" for seed in range(3)}
    workdir = fake_sweep.write_sweep(tmp_path, arms={"baseline": ("", {}, 0.0, 0.0)}, epochs=6, states=states)
    path = fake_sweep.folder_of(workdir, "baseline", 1) / "metrics.csv"
    path.write_text("\n".join(path.read_text().splitlines()[:3]) + "\n")
    figure = curves.draw(workdir)
    assert list(drawn(figure)[0].get_xdata()) == [1, 2]
    assert figure.legends[0].get_texts()[0].get_text() == "baseline (under way)"


def test_a_single_run(sweep):
    folder = fake_sweep.folder_of(sweep, "no_lrn", 2)
    frame = curves.load(folder)
    assert set(frame["arm"]) == {"no_lrn"}
    assert set(frame["seed"]) == {2}
    figure = curves.draw(folder)
    assert len(drawn(figure)) == 1
    assert any(text.get_text().startswith("One run.") for text in figure.texts)


def test_a_perfect_run_falls_back_to_a_linear_axis(sweep):
    frame = curves.load(sweep)
    frame.loc[frame["epoch"] == 6, "train_top1_error"] = 0.0
    figure = curves.draw(frame)
    assert {axes.get_yscale() for axes in figure.axes} == {"linear"}  # one axis for both panels
    assert {axes.get_yscale() for axes in curves.draw(sweep).axes} == {"log"}
    assert {axes.get_yscale() for axes in curves.draw(sweep, log=False).axes} == {"linear"}


@pytest.mark.parametrize(("low", "high"), [(19.0, 21.0), (15.0, 70.0), (2.0, 60.0), (0.01, 90.0),
                                           (1e-5, 1e-2)])
def test_log_ticks_are_few_and_round(low, high):
    ticks = curves._log_ticks(low, high)
    assert 3 <= len(ticks) <= 12
    assert low <= min(ticks) < max(ticks) <= high


@pytest.mark.parametrize(("arguments", "part"), [
    ({"panels": ["eval_top2_error"]}, "no panel 'eval_top2_error'; there is eval_top1_error"),
    ({"band": "sd"}, "no band 'sd'; there is range, interval"),
    ({"arms": ["no_pool"]}, "no arm 'no_pool'; there is baseline, no_lrn"),
])
def test_unknown_names(sweep, arguments, part):
    with pytest.raises(ConfigError, match=part):
        curves.draw(sweep, **arguments)


def test_nothing_to_draw_yet(tmp_path):
    workdir = fake_sweep.write_sweep(tmp_path, arms={"baseline": ("", {}, 0.0, 0.0)}, seeds=(0,),
                                     states={("baseline", 0): "not started"})
    frame = curves.load(workdir)
    assert isinstance(frame, pd.DataFrame)
    assert frame.empty
    with pytest.raises(ConfigError, match="no run has an evaluation yet"):
        curves.draw(frame)


def test_other_panels(sweep):
    figure = curves.draw(sweep, panels=["eval_loss", "train_loss", "learning_rate"])
    labels = [axes.get_ylabel() for axes in figure.axes]
    assert labels == ["loss, nats", "loss, nats", "learning rate, log scale"]


def test_bytes_are_deterministic_and_without_a_date(sweep, tmp_path):
    one, two = (curves.render(curves.draw(sweep), "svg") for _ in range(2))
    assert one == two
    assert b"<dc:date>" not in one
    curves.save(curves.draw(sweep), tmp_path / "curves.png")
    assert [p.name for p in tmp_path.iterdir()] == ["curves.png"]
    image = Image.open(io.BytesIO((tmp_path / "curves.png").read_bytes()))
    assert image.width == 2160  # 7.2 inches at 300 dots
    assert np.asarray(image.convert("L")).std() > 5


def test_drawing_leaves_the_global_settings_alone(sweep):
    before = dict(matplotlib.rcParams)
    curves.render(curves.draw(sweep), "png")
    assert dict(matplotlib.rcParams) == before
