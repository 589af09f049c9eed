"""The rows behind the curves, the drawn lines, and the figure's bytes."""

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
from experiments.figures import curves, style


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
    assert "#F0E442" not in style.COLOURS  # Okabe and Ito's yellow, lost on white
    alone = drawn(curves.draw(sweep, arms=["tanh"]))
    assert alone[0].get_color() == lines[3].get_color()  # an arm looks the same in every figure


def test_beyond_some_arms_each_has_a_panel_beside_the_baseline(tmp_path):
    arms = {"baseline": ("", {}, 0.0, 0.0)}
    arms |= {f"arm{i}": ("mine", {"model.dropout": 0.03 * i}, float(i), 0.0) for i in range(1, 15)}
    frame = curves.load(fake_sweep.write_sweep(tmp_path, arms=arms, seeds=(0,), epochs=3))
    figure = curves.draw(frame)
    assert [axes.get_title(loc="left") for axes in figure.axes] == 2 * [f"arm{i}" for i in range(1, 15)]
    ends = frame[frame["epoch"] == 3].set_index("arm")
    for axes, quantity in ((figure.axes[4], "eval_top1_error"), (figure.axes[14 + 4], "train_top1_error")):
        first, second = axes.lines
        assert first.get_ydata()[-1] == pytest.approx(100 * ends.loc["baseline", quantity])
        assert second.get_ydata()[-1] == pytest.approx(100 * ends.loc["arm5", quantity])
        assert first.get_color() != second.get_color()
    assert len({axes.get_ylim() for axes in figure.axes[:14]}) == 1
    few = curves.draw(frame, arms=[f"arm{i}" for i in range(1, 1 + curves.TOGETHER)])
    assert len(few.axes) == 2
    without = curves.draw(frame, arms=[f"arm{i}" for i in range(1, 2 + curves.TOGETHER)])  # the baseline all the same
    assert [len(axes.lines) for axes in without.axes] == 2 * (1 + curves.TOGETHER) * [2]


def test_an_arm_far_from_the_others_has_an_axis_of_its_own(tmp_path):
    arms = {"baseline": ("", {}, 0.0, 0.0)}
    arms |= {f"arm{i}": ("mine", {"model.dropout": 0.03 * i}, float(i), 0.0) for i in range(1, 10)}
    frame = curves.load(fake_sweep.write_sweep(tmp_path, arms=arms, seeds=(0,), epochs=3))
    frame.loc[(frame["arm"] == "arm4") & (frame["epoch"] == 3), "train_top1_error"] = 0.001
    figure = curves.draw(frame, panels=["train_top1_error"])
    limits = [axes.get_ylim() for axes in figure.axes]
    assert len(set(limits)) == 2
    assert limits.count(limits[3]) == 1
    assert any("Axes in colour" in text.get_text().replace("\n", " ") for text in figure.texts)


def test_of_thousands_of_arms_those_that_differ_most(tmp_path):
    arms = {"baseline": ("", {}, 0.0, 0.0)}
    arms |= {f"arm{i:02}": ("mine", {"model.dropout": i / 200}, i / 4, 0.0) for i in range(1, 71)}
    frame = curves.load(fake_sweep.write_sweep(tmp_path, seeds=(0,), arms=arms, pair_sd=0.0, epochs=1))
    figure = curves.draw(frame, panels=["eval_top1_error"])
    assert [axes.get_title(loc="left") for axes in figure.axes] == [f"arm{i:02}" for i in range(11, 71)]
    assert any("60 of 70 arms" in text.get_text().replace("\n", " ") for text in figure.texts)


def test_training_and_evaluation_have_axes_of_their_own(sweep):
    evaluation, training = (axes.get_ylim() for axes in curves.draw(sweep).axes)
    assert evaluation != training
    frame = curves.load(sweep)
    frame["train_top1_error"] /= 50
    assert curves.draw(frame).axes[0].get_ylim() == evaluation


def test_arms_of_the_same_runs_are_one_line(tmp_path):
    arms = {**fake_sweep.ARMS, "zero": ("", {}, 0.0, 0.0), "same": ("lrn", {"model.lrn.layers": ()}, 1.4, 1.2)}
    figure = curves.draw(fake_sweep.write_sweep(tmp_path, arms=arms, epochs=2))
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels == ["baseline = zero", "no_lrn = same", "nonoverlapping", "tanh"]
    assert len(drawn(figure)) == 4
    assert any("the same runs" in text.get_text().replace("\n", " ") for text in figure.texts)


def test_of_lines_that_coincide_the_lower_ones_show(sweep):
    frame = curves.load(sweep)
    frame["eval_top1_error"] = 0.9
    lines = drawn(curves.draw(frame))
    assert [line.get_ydata()[0] for line in lines] == 4 * [90.0]
    for get in ("get_linewidth", "get_markersize"):
        sizes = [getattr(line, get)() for line in sorted(lines, key=lambda line: line.get_zorder())]
        assert sizes == sorted(sizes, reverse=True)
        assert len(set(sizes)) == 4


def test_one_epoch_is_one_tick_and_a_band_a_bar(tmp_path):
    workdir = fake_sweep.write_sweep(tmp_path, epochs=1)
    figure = curves.draw(workdir)
    by_arm = curves.load(workdir).groupby("arm", sort=False)["eval_top1_error"]
    bars = [path.vertices for bar in figure.axes[0].collections for path in bar.get_paths()]
    assert [bar[:, 1].tolist() for bar in bars] == [[100 * rows.min(), 100 * rows.max()] for _, rows in by_arm]
    marks = [line.get_transform().transform(line.get_xydata())[0, 0] for line in figure.axes[0].lines]
    assert min(np.diff(sorted(marks))) >= 0.09 * figure.dpi  # beside each other
    assert any(text.get_text().startswith("Mark: mean over 3 seeds; bar: lowest to highest seed.")
               for text in figure.texts)
    for axes in figure.axes:
        low, high = axes.get_xlim()
        assert [tick for tick in axes.get_xticks() if low <= tick <= high] == [1]
    assert any(text.get_text().endswith(", 1 epoch") for text in figure.texts)


@pytest.mark.parametrize("log", [True, False])
def test_all_or_nothing_wrong_lies_within_the_panel(sweep, log):
    frame = curves.load(sweep)
    frame.loc[frame["epoch"] == 1, "eval_top1_error"] = 1.0
    frame.loc[frame["epoch"] == 6, "train_top1_error"] = 0.0
    evaluation, training = curves.draw(frame, log=log).axes
    assert evaluation.get_ylim()[1] >= 102
    assert max(evaluation.get_yticks()) <= 100
    assert training.get_ylim()[0] < -1
    assert min(training.get_yticks()) >= 0


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
    assert [axes.get_yscale() for axes in figure.axes] == ["log", "linear"]
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
    one, two = (style.render(curves.draw(sweep), "svg") for _ in range(2))
    assert one == two
    assert b"<dc:date>" not in one
    style.save(curves.draw(sweep), tmp_path / "curves.png")
    assert [p.name for p in tmp_path.iterdir()] == ["curves.png"]
    image = Image.open(io.BytesIO((tmp_path / "curves.png").read_bytes()))
    assert image.width == 2160  # 7.2 inches at 300 dots
    assert np.asarray(image.convert("L")).std() > 5


def test_drawing_leaves_the_global_settings_alone(sweep):
    before = dict(matplotlib.rcParams)
    style.render(curves.draw(sweep), "png")
    assert dict(matplotlib.rcParams) == before
