"""Every figure at its extremes: no text leaves the canvas or overlaps, and nothing is dropped silently."""

import contextlib
import math
import sys

import drawn_text
import fake_sweep
import numpy as np
import pytest

from alexnet_jax import cli
from alexnet_jax import config as config_lib
from alexnet_jax.inspect import drawing, figure4, lettering
from alexnet_jax.inspect.lettering import Letters
from experiments import figure1
from experiments.analysis import compare, speed, statistics, workdirs
from experiments.analysis import overfitting as numbers
from experiments.claims import pictures, summary
from experiments.claims import rows as claims_rows
from experiments.figures import by_images, curves, differences, kernels, overfitting, retrieval, style
from experiments.figures import figure1 as figure1_figure

LONG = "an_arm_with_a_very_long_name_of_sixty_signs_to_the_very_last"
SHORT = "b"
CHINESE = "猫咪"


def name_of(kind, number):
    return {"long": f"{LONG[:-2]}{number:02}", "short": f"{SHORT}{number}", "chinese": f"{CHINESE}{number}"}[kind]


def sweep_of(folder, arms, epochs, seeds, kind, state):
    """A sweep of so many arms beside the baseline; `state` of all runs."""
    several = {"baseline": ("", {}, 0.0, 0.0)}
    several |= {name_of(kind, i): ("mine", {"model.dropout": 0.01 * (i + 1)}, 0.3 * i, 0.1 * i) for i in range(arms)}
    states = {(arm, seed): state for arm in several for seed in range(seeds)}
    dataset = f"image_folder:{name_of(kind, 1)} {LONG}" if kind != "short" else "shapes"
    return fake_sweep.write_sweep(folder, arms=several, epochs=epochs, seeds=range(seeds), states=states, name=dataset,
                                  gaps={}, outcomes=False)


CASES = {  # (arms, epochs, seeds, names, state)
    "one of everything": (1, 1, 1, "short", "finished"),
    "a hundred epochs": (3, 100, 2, "long", "finished"),
    "thirty arms": (30, 2, 1, "long", "finished"),
    "all at chance": (8, 3, 2, "short", "chance"),
    "all at chance, few": (2, 1, 2, "long", "chance"),
    "Chinese": (7, 2, 1, "chinese", "finished"),
    "six arms": (6, 5, 2, "long", "finished"),
}


@pytest.fixture(scope="module", params=CASES)
def extreme(request, tmp_path_factory):
    return sweep_of(tmp_path_factory.mktemp("extreme"), *CASES[request.param])


@pytest.mark.filterwarnings("error")
def test_curves(extreme):
    frame = curves.load(extreme)
    few = frame["arm"].nunique() <= curves.TOGETHER
    for panels in (curves.ERRORS, ("eval_loss", "train_loss", "learning_rate"), ("eval_top5_error",))[:3 if few else 1]:
        assert drawn_text.faults(curves.draw(frame, panels)) == []


@pytest.mark.filterwarnings("error")
def test_differences(extreme):
    assert drawn_text.faults(differences.draw(summary.summarise(workdirs.read_sweep(extreme)))) == []


@pytest.mark.filterwarnings("error")
def test_overfitting(extreme):
    sweep = workdirs.read_sweep(extreme)
    points = numbers.points([sweep])
    assert len(points) == len(sweep.arms)
    assert drawn_text.faults(overfitting.draw(points, f"{LONG} {LONG} {CHINESE}")) == []


@pytest.mark.parametrize("size", [1.0, 1000.0])
def test_numbers_of_any_size_stay_in_their_column(size):
    rows = [differences.Row(f"{LONG}{i}", size, -size * 123, size * 456, [size, -3 * size], "unresolved",
                            paper=size, log=-size) for i in range(2)]
    blocks = {"points": rows, f"points of {LONG} {LONG}": rows[:1]}
    assert drawn_text.faults(differences.draw_blocks(blocks, LONG * 4, "what.", "95%", 15)) == []


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", [LONG, SHORT, f"{CHINESE} {LONG}"])
@pytest.mark.parametrize(("columns", "count"), [(1, 4), (2, 16), (4, 6)])
def test_kernels(name, columns, count):
    drawn = {seed: np.random.default_rng(seed).normal(size=(columns, 5, 5, 3, count)) for seed in (0, 1234567)}
    assert drawn_text.faults(kernels.draw(drawn, {}, name, f"{name} data, {name}, 1 epoch")) == []


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", [LONG, SHORT, CHINESE, f"Hund, {LONG}, {LONG}"])
@pytest.mark.parametrize(("classes", "near"), [(2, 1), (12, 6)])
def test_retrieval(name, classes, near):
    class Images:
        images, labels = np.zeros((4, 8, 8, 3), np.uint8), np.arange(4) % classes

    Images.classes = tuple(f"{name}{i}" for i in range(classes))
    drawn = retrieval.draw(Images, np.full((4, classes), 1 / classes), Images.classes, Images,
                           np.zeros((4, near), int), f"{name}, step 1")
    assert drawn_text.faults(drawn) == []


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", [LONG, SHORT, CHINESE * 30])
@pytest.mark.parametrize(("classes", "images", "known"), [(1, 1, False), (5, 1, True), (5, 24, True)])
def test_guesses(name, classes, images, known, tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr("matplotlib.figure.Figure.savefig", lambda self, *_, **__: drawn.append(self))
    monkeypatch.setattr("alexnet_jax.files.replacing", lambda path: contextlib.nullcontext(path))
    best = [figure4.Guess(f"{i}", f"{name}{i}", 1 / (i + 1)) for i in range(classes)]
    rows = [(f"{name}/{i}.png", np.zeros((8, 8, 3), np.uint8), best) for i in range(images)]
    figure4.draw(rows, f"{name}, ten views", 10**6, tmp_path / "a.png", best[:1] * images if known else ())
    assert len(drawn) == 1
    assert len(drawn_text.texts(drawn[0])) == 2 + images * (1 + classes + known)
    assert drawn_text.faults(drawn[0]) == []


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", ["imagenet_paper", "torchvision", "lenet", "four_layer"])
@pytest.mark.parametrize("classes", [1, 100_000])
def test_the_drawing_of_a_network(name, classes, tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr("matplotlib.figure.Figure.savefig", lambda self, *_, **__: drawn.append(self))
    drawing.draw(config_lib.resolve(cli.load_config(f"configs/{name}.py")), classes, tmp_path / "a.png")
    assert len(drawn) == 1
    assert drawn_text.faults(drawn[0]) == []


def test_names_without_a_font_are_transliterated_with_a_note(monkeypatch):
    monkeypatch.setattr(lettering, "_families", dict)
    lettering._family.cache_clear()
    try:
        letters = Letters([CHINESE, "собака"])
        assert (letters.write(f"{CHINESE}, собака"), letters.note) == ("MaoMi, собака", lettering.NOTE)
        assert Letters(["grün"]).note == ""
        monkeypatch.setitem(sys.modules, "anyascii", None)  # as where it isn't installed
        letters = Letters(["猫b"])
        assert (letters.write("猫b"), letters.note) == ("[732B]b", lettering.NUMBERS)
    finally:
        lettering._family.cache_clear()


def test_a_font_that_has_the_signs_is_used(monkeypatch):
    """Any font of the machine that can be asked: here one whose signs are said to be these."""
    monkeypatch.setattr(lettering, "_families", lambda: {"DejaVu Serif": "x.ttf"})
    monkeypatch.setattr(lettering, "_signs", lambda file: frozenset(map(ord, CHINESE if file == "x.ttf" else "ab ")))
    lettering._family.cache_clear()
    try:
        letters = Letters([f"a {CHINESE}"])
        assert (letters.write(CHINESE), letters.note) == (CHINESE, "")
        assert letters.family == ("DejaVu Sans", "DejaVu Serif")
    finally:
        lettering._family.cache_clear()


@pytest.mark.parametrize("size", [6.5, 9.5])
def test_text_is_cut_and_wrapped_by_its_width(size):
    letters = Letters()
    wide, narrow = "W" * 60, "i" * 60
    assert letters.fitted(narrow, 3.0, size) == narrow
    cut = letters.fitted(wide, 3.0, size)
    assert letters.width(cut, size) <= 3.0 < letters.width(cut.replace("…", "WWW"), size)
    assert letters.fitted("abcdefgh" * 9, 1.0, size, end=0).endswith("…")
    for text in (wide, "many short words " * 12, f"one {wide} two"):
        lines = letters.wrapped(text, 2.0, size)
        assert "".join(lines).replace(" ", "") == text.replace(" ", "")
        assert all(letters.width(line, size) <= 2.0 for line in lines)
    assert len(letters.wrapped("many short words " * 12, 2.0, size, most=2)) == 2


def test_a_point_is_an_arm_with_both_intervals_and_a_diagonal_has_one_gap(tmp_path):
    arms = {name: fake_sweep.ARMS[name] for name in ("baseline", "no_lrn")}
    sweep = workdirs.read_sweep(fake_sweep.write_sweep(tmp_path, arms=arms, gaps={"baseline": 3.0, "no_lrn": 9.0}))
    points = numbers.points([sweep])
    runs = sweep.arm("no_lrn").runs.values()
    learnt = [100 * run.result["eval"]["fit"]["top1_wrong"] / 10_000 for run in runs]
    reported = [100 * run.result["eval"]["centre"]["top1_wrong"] / 10_000 for run in runs]
    assert points[1] == numbers.Point("no_lrn", statistics.estimate(learnt), statistics.estimate(reported))
    assert points[0].baseline
    axes = overfitting.draw(points, "").axes[0]
    means = {line.get_xydata()[0].tolist()[0]: line.get_xydata()[0].tolist()[1] for line in axes.lines
             if line.get_marker() in "oD"}
    assert means == {p.learnt.mean: p.reported.mean for p in points}
    bars = [np.ptp(path.vertices, axis=0).max() for bar in axes.collections for path in bar.get_paths()]
    assert sorted(bars) == pytest.approx(sorted(2 * e.half for p in points for e in (p.learnt, p.reported)))
    gaps = [np.subtract(line.get_ydata(), line.get_xdata()) for line in axes.lines if line.get_marker() == "None"
            and len(line.get_xdata()) == 2]
    assert len(gaps) > 2
    assert all(gap[0] == pytest.approx(gap[1]) for gap in gaps)


@pytest.mark.parametrize(("means", "named"), [(((0.0, 33.0), (25.0, 30.0)), "5"), (((26.0, 25.0), (28.0, 25.5)), "−")])
def test_a_diagonal_that_ends_on_the_right_is_named_there(means, named):
    points = [numbers.Point(f"arm{number}", *(statistics.Estimate(1, mean) for mean in pair))
              for number, pair in enumerate(means)]
    figure = overfitting.draw(points, "")
    axes = figure.axes[0]
    inside = [text for text in axes.texts if not text.get_text().startswith("arm")]
    assert any(named in text.get_text() for text in inside)
    for text in inside:
        (x, y), (left, right), (low, high) = text.get_position(), axes.get_xlim(), axes.get_ylim()
        assert left < x < right
        assert low < y < high
        assert y - x == pytest.approx(float(text.get_text().replace("−", "-")))
    assert drawn_text.faults(figure) == []


def test_of_two_records_the_first_that_tells_a_seed_counts(tmp_path):
    arms = {name: fake_sweep.ARMS[name] for name in ("baseline", "no_lrn")}
    first, second = (workdirs.read_sweep(fake_sweep.write_sweep(
        tmp_path / str(i), arms=arms, gaps={}, rng_seed=i, states={("no_lrn", 2): "not started"} if i == 0 else None))
        for i in (0, 1))
    both, alone = numbers.points([first, second]), numbers.points([first])
    assert both[0] == alone[0]
    assert (both[1].learnt.n, alone[1].learnt.n) == (3, 2)


def by_number_of_images(folder, images):
    """Sweeps with and without dropout, of so many images each."""
    arms = {"baseline": ("", {}, 0.0, 0.0), "no_dropout": ("dropout", {"model.dropout": 0.0}, 2.0, 1.0),
            "other": ("mine", {"model.dropout": 0.0, "model.activation": "tanh"}, 9.0, 1.0)}
    return [workdirs.read_sweep(fake_sweep.write_sweep(folder / str(count), arms=arms, gaps={"no_dropout": 5.0},
                                                       train_images=count, epochs=1)) for count in images]


@pytest.mark.parametrize("images", [(3_000, 6_000, 12_000, 24_000, 40_000), (40_000,)])
def test_dropout_by_images(tmp_path, images):
    sweeps = by_number_of_images(tmp_path, images)
    found = numbers.worth_of_dropout(sweeps[::-1])
    assert [worth.images for worth in found] == list(images)
    same = compare.compare(sweeps[0].arm("no_dropout"), sweeps[0].arm("baseline"), "gap").difference
    assert found[0].gap == same
    assert found[0].reported.mean == pytest.approx(np.mean(list(compare.by_seed(sweeps[0].arm("baseline")).values())))
    assert found[0].gap.mean == pytest.approx(4.0, abs=1.5)
    figure = by_images.draw(found, f"{LONG} {LONG} {LONG}")
    assert drawn_text.faults(figure) == []
    assert list(figure.axes[0].get_xticks()) == list(images)


@pytest.mark.parametrize(("values", "log", "labels"), [
    ([1.0, 1.25, 1.5], False, "1.00% 1.25% 1.50%"), ([15.0, 16.5, 18.0], False, "15.0% 16.5% 18.0%"),
    ([-5.0, 0.0, 5.0], False, "−5% 0% 5%"), ([0.5, 1.0, 10.0], True, "0.5% 1% 10%"),
    ([22.5, 25.0], True, "22.5% 25.0%"), ([1e-5, 2.0], False, "1e−05% 2%"), ([], False, "")])
def test_the_ticks_of_an_axis_have_the_same_digits(values, log, labels):
    assert " ".join(style.Ticks("%", log).format_ticks(values)) == labels


def test_names_beside_the_panel_keep_their_order_and_distance():
    rng = np.random.default_rng(0)
    for count in (1, 2, 9, 20):
        places = [float(x) for x in rng.choice([1.0, 1.01, 3.0, 3.3], count) + rng.normal(0, 0.01, count)]
        spread = overfitting._spread(places, 0.17, 4.0)
        order = np.argsort(places)
        assert np.diff(np.asarray(spread)[order]).min(initial=9) >= 0.17 - 1e-9
        assert min(spread) >= 0
        assert max(spread) <= 4.0
    assert overfitting._spread([1.0, 2.0], 0.17, 4.0) == [1.0, 2.0]


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """Records of the paper's regime with a few of its arms."""
    results = tmp_path_factory.mktemp("recorded")
    arms = {**fake_sweep.ARMS, "no_dropout": ("dropout", {"model.dropout": 0.0}, 2.0, 1.0)}
    fake_sweep.write_sweep(results / "paper_like_30_seeds", arms=arms, gaps={"no_dropout": 5.0}, seeds=range(1, 31),
                           epochs=1)
    return results


def test_the_pictures_of_the_paper_s_regime_have_the_claims_numbers(recorded, tmp_path):
    assert [path.name for path in pictures.write(recorded, tmp_path)] == ["training_and_reported_error.png",
                                                                          "differences.png"]
    sweep = workdirs.read_sweep(recorded / "paper_like_30_seeds")
    blocks = pictures._first_quantities({"paper_like_30_seeds": sweep})
    rows = {(row.label, axis.split(",")[0].removeprefix("difference in ")): row for axis, found in blocks.items()
            for row in found}
    assert set(rows) == {("no_lrn", "reported error"), ("nonoverlapping", "reported error"),
                         ("no_dropout", "the gap"), ("nonoverlapping", "the gap")}
    row, judged = rows["no_lrn", "reported error"], {r.id: r for r in claims_rows.rows(recorded)[0] if r.measured}
    assert row.mean == -judged["lrn"].value  # the claim's sign is of the norm, the picture's of its absence
    assert (row.paper, row.log, row.word) == (1.4, pytest.approx(1.37), judged["lrn"].verdict)
    assert rows["no_dropout", "the gap"].mean == judged["dropout"].value
    for figure in pictures.draw(recorded).values():
        assert drawn_text.faults(figure) == []


def test_pictures_need_records(tmp_path):
    assert pictures.draw(tmp_path) == {}


@pytest.fixture(scope="module")
def measured():
    return figure1.measure(workdirs.RECORDED / "figure1")


@pytest.mark.parametrize("case", ["as recorded", "many rates", "one rate", "all diverged", "many broken off"])
def test_figure_1(measured, case):
    rate = {"many rates": [1e-5 * 2**i for i in range(18)], "one rate": [0.002]}.get(case)
    error = math.inf if case == "all diverged" else 0.4
    points = measured["points"] if rate is None and error < 1 else [
        speed.Point(activation, r, error) for activation in ("relu", "tanh") for r in rate or [0.001, 0.002]]
    broken = [f"tanh seed {seed} (under way, epoch 100)" for seed in range(30)] if case == "many broken off" else []
    assert drawn_text.faults(figure1_figure.draw({**measured, "points": points, "broken": broken})) == []
