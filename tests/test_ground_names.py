"""Names are text: special characters in names of datasets, classes, sweeps and files appear unchanged in outputs."""

import io
import sys
import types
from xml.etree import ElementTree

import fake_sweep
import numpy as np
import pytest
from markdown_it import MarkdownIt  # Rich's own dependency
from matplotlib.figure import Figure
from rich.console import Console

from alexnet_jax import commands, config, errors, names, paths, run_files
from alexnet_jax.data import build
from alexnet_jax.training import checkpoint, checks, loop, workdir
from alexnet_jax.weights import importing
from experiments import report, run
from experiments.analysis import protocol, workdirs
from experiments.analysis.text import markdown_table
from experiments.claims import summary
from experiments.figures import curves, style
from experiments.figures import differences as differences_figure
from experiments.figures import kernels as kernels_figure
from experiments.figures import retrieval as retrieval_figure
from experiments.launch import display

# name: how it is shown where it has to be one line
NAMES = {name: name for name in (
    "q$x^$|y", "a[/b]c", "[red]x", "$$", "a_b_c", "_x_", r"back\slash\n", "*star*", "`tick`", "``", "<b>bold</b>",
    "&lt;x", "a|b|c", "~~gone~~", "{task.description}", ":cat:", "%s%(x)d", "[x](http://y)", "![x](y.png)",
    "grün 猫 😀",
    "x" * 60, "1. first", "# head")}
NAMES |= {"two\nlines": r"two\nlines", "tab\tstop": r"tab\tstop", "\x1b[31mred": r"\x1b[31mred",
          "turned\u202etxt": r"turned\u202etxt", "half\udcff": r"half\udcff"}
EACH = pytest.mark.parametrize("name", NAMES)


def _texts(markdown: str) -> list[str]:
    """What each block of the rendered text shows, without its markup: pictures by their alternative text."""
    found = []
    for block in MarkdownIt("commonmark").enable(["table", "strikethrough"]).parse(markdown):
        if block.type == "inline":
            parts = []
            for token in block.children:
                assert token.type in ("text", "code_inline", "softbreak", "image", "strong_open", "strong_close",
                                      "text_special"), token.type
                parts.append("".join(t.content for t in token.children) if token.type == "image" else token.content)
            found.append("".join(parts))
    return found


@EACH
def test_it_is_one_line(name):
    assert names.plain(name) == NAMES[name]
    assert names.plain(NAMES[name]) == NAMES[name]
    shown = NAMES[name]
    assert names.short(name, 10, 3) == (shown if len(shown) <= 10 else f"{shown[:6]}…{shown[-3:]}")


@EACH
def test_markdown_shows_it_unchanged(name):
    shown = NAMES[name]
    assert _texts(f"a {names.markdown(name)} b") == [f"a {shown} b"]
    assert _texts(f"a {names.code(name)} b") == [f"a {shown} b"]
    rows = markdown_table(["one", "two"], [[f"a {names.markdown(name)}", "1"]])
    assert _texts("\n".join(rows)) == ["one", "two", f"a {shown}", "1"]


def _odd(tmp_path, name, **options):
    """The summary of a sweep with this name, of a dataset with this name."""
    sweep = workdirs.read_sweep(fake_sweep.write_sweep(tmp_path, seeds=(0, 1), epochs=2, **options))
    found = summary.summarise(sweep)
    found["name"] = name
    found["protocol"] |= {"dataset": [f"image_folder:{name}"], "config": f"{name}.py", "train_split": [f"{name}[:10]"]}
    return found


def test_reports_show_every_name(tmp_path):
    arms = {"baseline": ("", {}, 0.0, 0.0), "n" * 60: ("", {"model.dropout": 0.1}, 1.0, 1.0)}
    found = _odd(tmp_path, "x", arms=arms)
    for name, shown in NAMES.items():
        found["name"] = name
        found["protocol"] |= {"dataset": [f"image_folder:{name}"], "config": f"{name}.py", "version": [],
                              "train_split": [f"{name}[:9]"]}
        texts = _texts(report.markdown(found, ["curves"]))
        assert texts[0] == shown
        assert texts[-1] == f"Error against epoch, all arms of {shown}"
        assert "n" * 60 in "".join(texts)
        about = next(text for text in texts if text.startswith("Protocol."))
        for part in (f"image_folder:{shown}: trained on {shown}[:9] (", f"base config {shown}.py."):
            assert part in about


def test_reports_show_every_message(tmp_path):
    workdir = fake_sweep.write_sweep(tmp_path, seeds=(0,), epochs=2, states={("no_lrn", 0): "failed"})
    path = fake_sweep.folder_of(workdir, "no_lrn", 0) / "result.json"
    result = run_files.read_json(path)
    for name in NAMES:
        run_files.write_json(path, result | {"message": f"DataError: {name}"})
        texts = _texts(report.render(workdir))
        shown = names.plain(" ".join(name.split()))
        assert any(f"no_lrn seed 0: DataError: {shown}. It is in no mean." in text for text in texts)


def _shows(figure: Figure, *texts: str) -> None:
    """The figure can be drawn and has these texts, none of them as a formula."""
    found = [text for text in figure.findobj(lambda artist: hasattr(artist, "get_parse_math")) if text.get_text()]
    assert not any(text.get_parse_math() for text in found)
    assert ElementTree.fromstring(style.render(figure, "svg")).tag.endswith("svg")
    every = " ".join(" ".join(text.get_text().split()) for text in found)
    for text in texts:
        assert text in every


@pytest.mark.parametrize("name", ["q$x^$|y", "_x_", "two\nlines", "grün 猫 😀", "x" * 60, "\x1b[31mred"])
def test_pictures_show_it_unchanged(name, tmp_path):
    fake_sweep.write_sweep(tmp_path / "sweep", seeds=(0,), epochs=2, name=f"image_folder:{name.replace(chr(0x1b), '')}")
    folder = next((tmp_path / "sweep" / "runs").iterdir())
    run = folder.rename(folder.with_name(name))
    shown_name = names.plain(name).replace("猫", "Mao")  # where no font has it
    frame = curves.load(run)
    frame["arm"] = name
    frame.attrs["caption"] = f"{name}, 2 epochs"
    _shows(curves.draw(frame), shown_name, f"{shown_name}, 2 epochs")
    kernels = {0: np.random.default_rng(0).normal(size=(1, 3, 3, 3, 4))}
    _shows(kernels_figure.draw(kernels, {}, name, f"{name} data"), f"{shown_name}: {shown_name} data")

    class Images:
        images, labels, classes = np.zeros((2, 8, 8, 3), np.uint8), np.array([0, 1]), (name, f"{name}2")

    shown = retrieval_figure.draw(Images, np.full((2, 2), 0.5), Images.classes, Images, np.array([[1], [0]]), name)
    _shows(shown, shown_name)


def test_long_names_of_arms_differ_in_a_picture(tmp_path):
    arms = {"baseline": ("", {}, 0.0, 0.0)}
    arms |= {f"{'a_long_name_' * 4}{i}": ("", {"model.dropout": 0.1 + i / 10}, float(i), 0.0) for i in range(3)}
    figure = differences_figure.draw(_odd(tmp_path, "x", arms=arms))
    labels = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert len(set(labels)) == 3
    figure.canvas.draw()
    boxes = [label.get_window_extent() for label in figure.axes[0].get_yticklabels()]
    assert min(box.x0 for box in boxes) >= 0  # within the page


@EACH
def test_terminals_show_it_unchanged(name, tmp_path, capsys, monkeypatch):
    shown = NAMES[name]
    display.show([(name, "training", "", "", "", "", "")], f"{name}: 1 run")
    assert f"{shown}: 1 run" in capsys.readouterr().out
    assert commands.report(errors.DataError(f"{name}: no such folder")) == 1
    assert capsys.readouterr().err == f"error: {shown}: no such folder\n"
    shows = display.Display.__new__(display.Display)
    shows._live = types.SimpleNamespace(console=Console(width=200))
    shows.line(f"{name}: done")
    assert capsys.readouterr().out == f"{shown}: done\n"
    names.say(f"a {name}")
    assert capsys.readouterr().out == f"a {shown}\n"
    with workdir.Log(tmp_path / "log.txt", echo=False) as log:
        log(f"{name}: 3 images")
    assert (tmp_path / "log.txt").read_text(encoding="utf-8").split(" ", 1)[1] == f"{shown}: 3 images\n"
    monkeypatch.setattr(sys, "stdout", terminal := _Terminal())
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "200")
    with build._Packing(f"packing {name}", 0, 9, names.say) as bar:
        bar.advance(3)
        bar.advance(3)
        bar._bar.refresh()
    assert f"packing {shown}" in terminal.getvalue()


def test_the_end_of_a_sweep_in_a_folder_of_any_name_is_one_line(tmp_path, capsys):
    folder = tmp_path / "new\nline \x1b[31m"
    folder.mkdir()
    (folder / "report.md").touch()
    state = types.SimpleNamespace(finished={"x": "finished"}, failed={}, total=1)
    assert run.Command(write_report=lambda workdir, plots: "")._end(None, state, folder) == 0
    shown = names.plain(str(folder / "report.md"))
    assert capsys.readouterr().out.splitlines()[-1] == f"1 of 1 run finished. Report: {shown}"


FOLDERS = ("a%20b", "#c", "{x}", "$HOME", "grün 猫 😀", "turned\u202etxt", "two\nlines", "a:b", "'q\"`", " x ", "~x",
           "-x", "x" * 200, "a[b]", "[", "x*", "a?b", "a**", "back\\slash")


@pytest.mark.parametrize("name", FOLDERS)
def test_a_checkpoint_is_found_again_in_a_folder_of_any_name_or_the_folder_is_refused(tmp_path, name):
    folder = tmp_path / name
    if signs := [sign for sign in "*?[\\" if sign in name]:
        with pytest.raises(errors.ConfigError) as refused:
            paths.check_workdir(folder, "--workdir")
        assert str(refused.value) == (f"--workdir: {folder} has {' and '.join(signs)} in its name, and "
                                      "checkpoints below it are not found again; rename it, or name another")
        return
    paths.check_workdir(folder, "--workdir")
    saved = {"state": np.arange(3.0), "sums": np.arange(2)}
    checkpoints = checkpoint.Checkpoints(folder / "checkpoints", 1)
    checkpoints.save(4, saved, {"step": 4})
    checkpoints.wait()
    checkpoints.close()
    arrays, host = checkpoint.read_newest(folder / "checkpoints", pytest.fail)
    assert host == {"step": 4}
    for key, values in saved.items():
        np.testing.assert_array_equal(arrays[key], values)


@pytest.mark.parametrize("start", [
    lambda folder: loop.train(config.default(), folder), lambda folder: run.carry_out(None, folder, None),
    lambda folder: importing.run_folder(folder, config.default(), folder)])
def test_a_folder_that_keeps_no_checkpoints_is_refused_before_anything_is_made(tmp_path, start, monkeypatch):
    monkeypatch.setattr(config, "resolve", lambda found: found)
    monkeypatch.setattr(checks, "layers", lambda found: None)
    monkeypatch.setattr(loop, "make_mesh", lambda found: None)
    with pytest.raises(errors.ConfigError, match="checkpoints below it are not found again"):
        start(tmp_path / "a[b]")
    assert list(tmp_path.iterdir()) == []


class _Terminal(io.StringIO):
    encoding = "utf-8"

    def isatty(self):
        return True


def test_a_caption_of_a_figure_is_short(tmp_path):
    about = _odd(tmp_path, "x")["protocol"]
    about["dataset"] = [f"image_folder:{'y' * 250}"]
    assert len(protocol.caption(about)) < 180
