"""Every figure at its extremes: no text leaves the canvas, none overlaps another, and nothing is dropped in silence."""

import drawn_text
import fake_sweep
import numpy as np
import pytest

from alexnet_jax.inspect import lettering
from alexnet_jax.inspect.lettering import Letters
from experiments.analysis import workdirs
from experiments.claims import summary
from experiments.figures import curves, differences, kernels, retrieval

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


@pytest.mark.parametrize("size", [1.0, 1000.0])
def test_numbers_of_any_size_stay_in_their_column(size):
    rows = [differences.Row(f"{LONG}{i}", size, -size * 123, size * 456, [size, -3 * size], "unresolved",
                            paper=size, log=-size) for i in range(2)]
    assert drawn_text.faults(differences.draw_rows(rows, LONG * 4, "what.", "95%", "points")) == []


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


def test_names_without_a_font_are_transliterated_with_a_note(monkeypatch):
    monkeypatch.setattr(lettering, "_families", dict)
    lettering._family.cache_clear()
    try:
        letters = Letters([CHINESE, "собака"])
        assert (letters.write(f"{CHINESE}, собака"), letters.note) == ("MaoMi, собака", lettering.NOTE)
        assert Letters(["grün"]).note == ""
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
