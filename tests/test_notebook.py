"""The notebooks run from top to bottom, convergence.ipynb on any workdir, in this interpreter and their folder."""

import base64
import io
import pathlib
import re
import sys

import emulated
import fake_sweep
import notebooks
import numpy as np
import pytest
from PIL import Image

from experiments import figure1, kernels, report
from experiments.analysis import workdirs
from experiments.claims import frames as claim_frames
from experiments.claims import summary

FOLDER = pathlib.Path(__file__).resolve().parents[1] / "experiments"

nbformat = pytest.importorskip("nbformat", reason="needs nbformat, of the extra dev")
pytest.importorskip("nbclient", reason="needs nbclient, of the extra dev")
pytest.importorskip("ipykernel", reason="needs ipykernel, of the extra dev")


def execute(name, tmp_path, monkeypatch, **environ):
    """The executed notebook; the kernel is this interpreter, whatever kernels the machine has registered."""
    for variable, value in {**notebooks.kernels(tmp_path), **environ}.items():
        monkeypatch.setenv(variable, str(value))
    return notebooks.execute(name)


def outputs(notebook, kind):
    return [output["data"][kind] for cell in notebook.cells if cell.cell_type == "code"
            for output in cell.outputs if kind in output.get("data", {})]


def printed(notebook):
    return "".join(o.text for cell in notebook.cells if cell.cell_type == "code" for o in cell.outputs
                   if o.get("name") == "stdout")


def frames(notebook):
    """The tables that are shown: each a list of rows of cells, the first the names of the columns."""
    return [[re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row, re.DOTALL) for row in re.findall(
        r"<tr.*?</tr>", table, re.DOTALL)] for table in outputs(notebook, "text/html") if "<table" in table]


# What Jupyter's own packages warn about isn't ours to mend.
@pytest.mark.filterwarnings("ignore")
def test_convergence_of_a_sweep(tmp_path, monkeypatch):
    workdir = fake_sweep.write_sweep(tmp_path / "three", seeds=(0, 1), epochs=4, gaps={},
                                     states={("tanh", 1): "unfinished"})
    before = sorted(p for p in workdir.rglob("*"))
    notebook = execute("convergence.ipynb", tmp_path, monkeypatch, ALEXNET_WORKDIR=workdir)
    # Curves, the restyled ones, pandas' own, differences, overfitting, figures 1 and 3.
    assert len(outputs(notebook, "image/png")) == 7
    (table,) = outputs(notebook, "text/markdown")
    assert "+1.4/+1.2" in table
    assert "tanh seed 1 (unfinished: epoch 2 of 4)" in table
    assert "6.8× [6.1, 7.5]" in printed(notebook)
    assert printed(notebook).count("three has no") == 2  # the project's own figures 1 and 3, and it is said
    epochs, _, compared = frames(notebook)
    assert {"arm", "seed", "epoch", "eval_top1_error"} <= set(epochs[0])
    quantity, seeds = (compared[0].index(name) for name in ("quantity", "seeds"))
    assert [row[quantity] for row in compared[1:]] == 3 * ["error"] + 3 * ["gap"] + 3 * ["fit"]
    assert [row[seeds] for row in compared[1:]] == 3 * ["2", "2", "1"]
    assert sorted(p for p in workdir.rglob("*")) == before  # it only reads


@pytest.mark.filterwarnings("ignore")
def test_convergence_of_a_single_run(tmp_path, monkeypatch):
    workdir = fake_sweep.write_sweep(tmp_path / "three", seeds=(0,), epochs=3)
    folder = fake_sweep.folder_of(workdir, "tanh", 0)
    notebook = execute("convergence.ipynb", tmp_path, monkeypatch, ALEXNET_WORKDIR=folder)
    assert len(outputs(notebook, "image/png")) == 5
    assert outputs(notebook, "text/markdown") == []
    assert "a single run" in printed(notebook)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.filterwarnings("ignore")
def test_columns(tmp_path, monkeypatch):
    # XLA is to compile quickly, and to have patience with a busy machine.
    notebook = execute("columns.ipynb", tmp_path, monkeypatch, XLA_FLAGS=emulated._FLAGS)
    said = printed(notebook)
    assert "forward pass:  3 all-gather, 1 all-reduce\n" in said
    assert "training step: 3 all-gather, 1 all-reduce, 3 reduce-scatter\n" in said
    assert "forward pass: 1 all-reduce\n" in said  # without an exchange
    assert "a device sees (1, 1, 2)\nand after the exchange (1, 4)" in said
    (distance,) = re.findall(r"largest distance of two losses, from the same weights: (\S+)", said)
    assert float(distance) < 1e-5
    alone, both = map(float, re.search(r"mean loss of the last pass: (\S+) (\S+)", said).groups())
    assert max(alone, both) < 2.15, "it has not left chance (ln 10 = 2.303): the curves could be anything's"
    assert alone == pytest.approx(both, rel=0.1)  # two machines' curves: rounding has grown
    assert "communication in the compiled program: {'all-reduce'}" in said
    assert len(outputs(notebook, "image/png")) == 2  # the network, the curves
    held = next(table for table in frames(notebook) if "a device holds" in table[0])
    assert ["conv1", "kernel", "(2, 5, 5, 3, 8)", "P('column',)", "(1, 5, 5, 3, 8)", "2400"] in [r[1:] for r in held]
    assert ["fc8", "bias", "(10,)", "P()", "(10,)", "40"] in [row[1:] for row in held]


def test_figures_of_the_workdir_come_before_the_recorded_ones(tmp_path):
    worker = (sys.executable, str(pathlib.Path(__file__).resolve().parent / "fake_curves.py"))
    figure1.main([f"--workdir={tmp_path / 'mine'}", "--seeds=2", "--grid=0.0005,0.002", "--grid_epochs=2"], worker,
                 lambda data: None)
    for chosen in (tmp_path / "mine", tmp_path / "mine" / "seeds"):
        assert figure1.beside(chosen) == (tmp_path / "mine", "Of mine.")
    sweep = fake_sweep.write_sweep(tmp_path / "three", seeds=(0, 1), epochs=2)
    folder, whose = figure1.beside(sweep)
    assert (folder, "recorded" in whose) == (workdirs.RECORDED / "figure1", True)

    drawn = np.random.default_rng(0).normal(size=(2, 5, 5, 3, 16)).astype(np.float16)
    results = tmp_path / "results"
    (results / "kernels").mkdir(parents=True)
    kernels.save(results / "kernels" / "kernels.npz", {"baseline": {0: drawn}}, "recorded")
    run = fake_sweep.folder_of(sweep, "baseline", 1)
    for chosen in (sweep, run, workdirs.RECORDED / "claims_cifar10"):
        assert kernels.beside(chosen, results)[1:] == ("recorded", f"{chosen.name} has no kernels.npz and no "
                                                       "checkpoint: these are the project's recorded ones.")
    kernels.save(run / "kernels.npz", {"baseline": {1: drawn}}, "own")
    assert kernels.beside(run, results)[1:] == ("own", f"Of {run.name}.")


def test_kernels_of_the_baseline_s_checkpoints(tmp_path, monkeypatch):
    sweep = fake_sweep.write_sweep(tmp_path / "three", seeds=range(7), epochs=2)
    for seed in (1, *range(2, 7)):
        (fake_sweep.folder_of(sweep, "baseline", seed) / "checkpoints").mkdir()
    asked = []
    monkeypatch.setattr(kernels, "gather", lambda of, say: (asked.extend(
        (arm.name, seed) for arm in of.arms for seed in arm.runs) or {"baseline": {}}, {}))
    assert kernels.beside(sweep)[2] == "Of three's checkpoints."
    assert asked == [("baseline", seed) for seed in (1, 2, 3, 4, 5)]


def test_comparisons_are_the_report_s(tmp_path):
    workdir = fake_sweep.write_sweep(tmp_path / "three", gaps={"no_lrn": 4.0}, epochs=2)
    found = claim_frames.comparisons(workdir).set_index(["arm", "quantity"])
    assert list(found.columns) == [name for name in claim_frames.COLUMNS if name not in ("arm", "quantity")]
    arms = {arm["name"]: arm for arm in summary.summarise(workdirs.read_sweep(workdir))["arms"]}
    row = found.loc["no_lrn", "error"]
    assert (row["mean"], row["low"]) == tuple(arms["no_lrn"]["difference"]["top1"][key] for key in ("mean", "low"))
    assert (row["paper"], row["verdict"], row["seeds"]) == (1.4, arms["no_lrn"]["verdict"]["word"], 3)
    assert found.loc["no_lrn", "gap"]["mean"] == pytest.approx(3.0, abs=1.5)
    none = claim_frames.comparisons(fake_sweep.folder_of(workdir, "tanh", 0))
    assert none.empty
    assert list(none.columns) == list(claim_frames.COLUMNS)


@pytest.mark.parametrize("name", notebooks.NAMES)
def test_stored_outputs_are_of_these_cells_and_name_no_machine(name):
    text = (FOLDER / name).read_text("utf-8")
    notebook = nbformat.reads(text, as_version=4)
    assert notebook.metadata[notebooks.KEY] == notebooks.of_cells(notebook), "run `make notebooks`"
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))  # from top to bottom, once
    assert notebooks.troubles(notebook) == []
    assert len(text.encode()) < 400_000
    assert {key for cell in notebook.cells for key in cell.metadata} == set()  # such as timings
    said = re.sub(r'"image/png": "[^"]*"', "", text)  # base64 has slashes
    for place in (*(f"/{name}/" for name in ("home", "root", "tmp", "Users")), "C:\\\\", "Warning", "Traceback",
                  str(FOLDER.parent)):
        assert place not in said, place
    for picture in outputs(notebook, "image/png"):
        with Image.open(io.BytesIO(base64.b64decode(picture))) as image:
            assert min(image.size) > 200
            assert len(image.convert("RGB").getcolors(1 << 20)) > 20  # not an empty canvas


def test_stored_outputs_of_convergence_are_of_these_records():
    """The same sweep would be chosen, and its report has the same words and numbers."""
    notebook = nbformat.read(FOLDER / "convergence.ipynb", as_version=4)
    chosen = workdirs.choose(environ={})
    assert f"chosen: {chosen.name}\n" in printed(notebook), "run `make notebooks`"
    assert outputs(notebook, "text/markdown") == [report.render(chosen)], "run `make notebooks`"
    assert len(outputs(notebook, "image/png")) == 7


def test_a_cell_that_fails_or_warns_is_a_trouble():
    output = nbformat.v4.new_output
    cells = [nbformat.v4.new_code_cell("1/0", outputs=[output("error", ename="ZeroDivisionError", evalue="division")]),
             nbformat.v4.new_code_cell("", outputs=[output("stream", name="stderr", text="old\n"),
                                                    output("stream", name="stdout", text="fine\n")])]
    notebook = nbformat.v4.new_notebook(cells=cells)
    assert notebooks.troubles(notebook) == ["1/0: division", ": old"]
    assert notebooks.of_cells(notebook) != notebooks.of_cells(nbformat.v4.new_notebook(cells=cells[:1]))
