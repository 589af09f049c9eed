"""The figure of a sweep's differences: its rows, its layout, and unusual sweeps."""

import re

import fake_sweep
import pytest
from matplotlib.colors import to_hex

from alexnet_jax.errors import ConfigError
from experiments import report
from experiments.analysis import statistics, workdirs
from experiments.claims import summary
from experiments.claims.paper import log_difference
from experiments.claims.record import of_arm
from experiments.claims.registry import CLAIMS
from experiments.figures import differences as differences_figure

ARMS = {**fake_sweep.ARMS, "zero": ("", {}, 0.0, 0.0), "worse": ("lrn", {"model.lrn.layers": (2,)}, 1.0, 0.5)}


def summarised(workdir):
    return summary.summarise(workdirs.read_sweep(workdir))


def drawn(figure):
    """{arm: (mean, (low, high) or None, pairs, the claimed number or None, colour, hollow?)} from the lines."""
    axes = figure.axes[0]
    places = {round(t): label.get_text() for t, label in zip(axes.get_yticks(), axes.get_yticklabels(), strict=True)}
    found = {name: {"pairs": [], "interval": None, "claimed": {}, "beyond": 0} for name in places.values()}
    for line in axes.lines:
        x, y = list(line.get_xdata()), list(line.get_ydata())
        if x == [0, 0]:  # the axis of no difference
            continue
        row = found[places[round(y[0] - 0.01)]]
        if line.get_marker() == "None" and line.get_linewidth() < 1:
            row["over_images"] = tuple(x)
        elif line.get_marker() == "None":
            row["interval"] = tuple(x)
        elif line.get_marker() in ("<", ">") and line.get_markersize() > 4:  # an interval that continues
            row["goes_on"] = line.get_marker()
        elif line.get_marker() in ("<", ">"):  # pairs beyond the edge
            row["beyond"] += 1
        elif line.get_markersize() < 3:
            row["pairs"] = x
        elif line.get_marker() in ("o", "X"):
            row["mean"], row["colour"] = x[0], to_hex(line.get_color())
            row["hollow"] = line.get_markerfacecolor() == "white"
        else:
            row["claimed"][line.get_marker()] = x[0]
            assert round(y[0]) != y[0]  # beside the estimate, whose fill says something: one would cover the other
    return found


def test_each_row_is_the_arm_of_the_report(tmp_path):
    found = summarised(fake_sweep.write_sweep(tmp_path, seeds=range(5), arms=ARMS, pair_sd=0.1, epochs=2))
    rows = drawn(differences_figure.draw(found))
    assert list(rows) == ["no_lrn", "nonoverlapping", "tanh", "worse"]  # "zero" is the baseline's runs again
    arms = {arm["name"]: arm for arm in found["arms"]}
    for name, row in rows.items():
        e = arms[name]["difference"]["top1"]
        assert row["mean"] == e["mean"]
        assert row["interval"] == (e["low"], e["high"])
        assert statistics.estimate(row["pairs"]).mean == pytest.approx(e["mean"])
        assert len(row["pairs"]) == 5
    assert rows["no_lrn"]["claimed"] == {"D": 1.4, "s": pytest.approx(1.37)}  # the paper's, and its author's log's
    assert rows["tanh"]["claimed"] == {}  # the paper gives a speed, no error
    assert arms["no_lrn"]["verdict"]["word"] == "reproduced"
    assert rows["no_lrn"]["colour"] == to_hex(differences_figure.WORDS["reproduced"][0])
    assert rows["tanh"]["colour"] == to_hex(differences_figure.WORDS["not comparable"][0])


@pytest.mark.parametrize(("text", "value", "shown"), [
    ("+1.4/+1.2", 1.4, "+1.4"), ("−0.4/−0.3", -0.4, "−0.4"), ("top-1 about +2", 2.0, "≈ +2"),
    ("top-1 by over +1", 1.0, "> +1"), ("13 against 11", 2.0, "+2"), ("+7 in another table", 2.0, "+2")])
def test_the_paper_s_number_is_as_precise_as_the_paper(text, value, shown):
    assert differences_figure.as_claimed(text, value) == shown


def test_every_claimed_difference_is_shown_as_its_source_has_it():
    """In the column of the paper what is printed there; in that of the log two digits, of which all runs have two."""
    shown = {}
    for claim in CLAIMS.values():
        for what in claim.measures:
            said = of_arm(CLAIMS, what.ablation, what.name, bool(what.local))  # None: only in kind
            if said is not None and said.paper is not None and said.paper.top1 is not None:
                shown[what.name] = differences_figure.as_claimed(said.paper.text, said.paper.top1)
                assert float(re.sub("[^0-9.-]", "", shown[what.name].replace("−", "-"))) == said.paper.top1
    assert {name: shown[name] for name in ("nonoverlapping", "one_column", "no_pca", "no_conv4", "conv_local_13")} == {
        "nonoverlapping": "+0.4", "one_column": "+1.7", "no_pca": "> +1", "no_conv4": "≈ +2", "conv_local_13": "+2"}
    row = differences_figure.Row("", 0.0, None, None, [], "", paper=1.7, log=1.695)
    assert [differences_figure._number(row, who) for who in ("paper", "log")] == ["+1.7", "+1.70"]
    assert log_difference("170-quant").text == "−0.01/+0.37"
    assert CLAIMS["log-169"].log.text.startswith("40.60/18.11; ")
    assert (CLAIMS["2012-pre"].log.text, log_difference("148").text) == ("38.990/16.622", "+1.370/+1.152")


def test_hollow_where_the_correction_takes_the_verdict(tmp_path):
    found = summarised(fake_sweep.write_sweep(tmp_path, seeds=range(5), arms=ARMS, pair_sd=0.1, epochs=2))
    change = next(arm for arm in found["arms"] if arm["name"] == "no_lrn")
    assert not drawn(differences_figure.draw(found))["no_lrn"]["hollow"]
    change["difference"]["p_holm"] = 0.06
    assert drawn(differences_figure.draw(found))["no_lrn"]["hollow"]


def test_the_interval_over_images_is_thin_and_in_the_caption(tmp_path):
    found = summarised(fake_sweep.write_sweep(tmp_path, seeds=range(3), arms=ARMS, epochs=2, outcomes=True))
    figure = differences_figure.draw(found)
    over = next(arm for arm in found["arms"] if arm["name"] == "no_lrn")["difference"]["over_images"]
    row = drawn(figure)["no_lrn"]
    assert row["over_images"] == (over["low"], over["high"])
    assert over["low"] < row["interval"][0] < row["interval"][1] < over["high"]
    assert any("other images" in text.get_text().replace("\n", " ") for text in figure.texts)


@pytest.mark.filterwarnings("error")
def test_differences_that_are_all_zero(tmp_path):
    arms = {"baseline": ("", {}, 0.0, 0.0), "mine": ("mine", {"model.dropout": 0.4}, 0.0, 0.0)}
    workdir = fake_sweep.write_sweep(tmp_path, seeds=(0, 1), arms=arms, pair_sd=0.0, epochs=2)
    low, high = differences_figure.draw(summarised(workdir)).axes[0].get_xlim()
    assert low < 0 < high


def test_an_interval_of_two_seeds_leaves_the_panel_and_no_mean_does(tmp_path):
    found = summarised(fake_sweep.write_sweep(tmp_path, seeds=(0, 1), arms=ARMS, pair_sd=0.4, epochs=2))
    axes = differences_figure.draw(found).axes[0]
    low, high = axes.get_xlim()
    rows = drawn(axes.figure)
    assert all(low < row["mean"] < high for row in rows.values())
    assert all(low < value < high for row in rows.values() for value in row["claimed"].values())
    assert any("goes_on" in row for row in rows.values())
    assert high - low < max(b - a for a, b in (row["interval"] for row in rows.values())) + 15


def test_the_pairs_of_many_seeds_are_all_within_the_panel():
    """In a figure of small means they would be beyond it, and half of what was measured not seen."""
    pairs = [-3.0, 8.0, 1.0, 2.0, 1.3]
    for many in (pairs, pairs[:2]):
        row = differences_figure.Row("arm", 1.86, 0.66, 3.07, many, differences_figure.NO_CLAIM)
        low, high = differences_figure.draw_blocks({"": [row]}, "", "", "95%").axes[0].get_xlim()
        assert (low < -3 and high > 8) == (len(many) >= differences_figure.MANY)


def test_one_seed_has_no_interval(tmp_path):
    figure = differences_figure.draw(summarised(fake_sweep.write_sweep(tmp_path, seeds=(0,), arms=ARMS, epochs=2)))
    rows = drawn(figure)
    assert {row["interval"] for row in rows.values()} == {None}
    assert len(rows["tanh"]["pairs"]) == 1
    assert any("one seed has no interval" in text.get_text().replace("\n", " ") for text in figure.texts)


@pytest.mark.parametrize(("high", "whole"), [(17.5, True), (18.5, False)])
def test_an_interval_that_ends_a_little_beyond_the_bound_is_whole(high, whole):
    figure = differences_figure.draw_blocks(
        {"": [differences_figure.Row("arm", 10.0, 5.0, high, [9.0, 11.0], differences_figure.NO_CLAIM)]}, "", "", "95%")
    low, end = figure.axes[0].get_xlim()
    assert low < 0
    assert (end > high) == whole
    assert any("Triangles" in text.get_text() for text in figure.texts) != whole


def test_of_many_arms_the_largest_differences(tmp_path):
    arms = {"baseline": ("", {}, 0.0, 0.0)}
    arms |= {f"arm{i:02}": ("mine", {"model.dropout": i / 200}, i / 10, 0.0) for i in range(1, 71)}
    figure = differences_figure.draw(summarised(fake_sweep.write_sweep(tmp_path, seeds=(0,), arms=arms, pair_sd=0.0,
                                                                     epochs=2)))
    assert list(drawn(figure)) == [f"arm{i:02}" for i in range(11, 71)]
    assert any("60 largest of 70" in text.get_text().replace("\n", " ") for text in figure.texts)


def test_without_a_pair_there_is_nothing_to_draw(tmp_path):
    states = {(arm, 0): "unfinished" for arm in fake_sweep.ARMS if arm != "baseline"}
    found = summarised(fake_sweep.write_sweep(tmp_path, seeds=(0,), states=states, epochs=2))
    with pytest.raises(ConfigError, match="same seed"):
        differences_figure.draw(found)


def test_a_pair_beyond_the_edge_is_pointed_at(tmp_path):
    found = summarised(fake_sweep.write_sweep(tmp_path, seeds=range(3), arms=ARMS, epochs=2))
    change = next(arm for arm in found["arms"] if arm["name"] == "no_lrn")
    change["difference"]["each"][0] = 70.0
    figure = differences_figure.draw(found)
    row = drawn(figure)["no_lrn"]
    assert (len(row["pairs"]), row["beyond"]) == (2, 1)
    assert any("Triangles at the edge" in text.get_text().replace("\n", " ") for text in figure.texts)


def test_the_words_are_the_table_s(tmp_path):
    """Arms at chance among them: what the table calls not comparable is no arm without a claim."""
    arms = {**ARMS, "no_dropout": ("dropout", {"model.dropout": 0.0}, 1.0, 0.5),
            "mine": ("", {"model.dropout": 0.4}, 1.0, 0.5)}
    states = {("no_lrn", 1): "chance", ("no_dropout", 0): "chance"}
    found = summarised(fake_sweep.write_sweep(tmp_path, arms=arms, epochs=2, states=states))
    by_name = {arm["name"]: arm for arm in found["arms"]}
    for row in differences_figure.rows(found):
        cell = report._word(by_name[row.label], found["family"]["tests"])
        assert cell.startswith("–" if row.word == "no size claimed" else row.word)
    words = {row.label: row.word for row in differences_figure.rows(found)}
    assert words["no_dropout"] == words["no_lrn"] == words["tanh"] == "not comparable"
    assert words["mine"] == "no size claimed"
    labels = [text.get_text() for text in differences_figure.draw(found).legends[0].get_texts()]
    assert {"not comparable", "no size claimed"} <= set(labels)
