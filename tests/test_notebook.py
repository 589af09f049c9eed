"""convergence.ipynb runs from top to bottom on any workdir, in this interpreter, from its own folder."""

import json
import pathlib
import sys

import fake_sweep
import numpy as np
import pytest

from experiments import figure1, kernels

NOTEBOOK = pathlib.Path(__file__).resolve().parents[1] / "experiments" / "convergence.ipynb"

nbformat = pytest.importorskip("nbformat", reason="needs nbformat, of the extra dev")
pytest.importorskip("nbclient", reason="needs nbclient, of the extra dev")
pytest.importorskip("ipykernel", reason="needs ipykernel, of the extra dev")


def execute(workdir, tmp_path, monkeypatch):
    """The executed notebook; the kernel is this interpreter, whatever kernels the machine has registered."""
    from nbclient import NotebookClient

    kernel = tmp_path / "jupyter" / "kernels" / "python3"
    kernel.mkdir(parents=True)
    (kernel / "kernel.json").write_text(json.dumps({
        "argv": [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"],
        "display_name": "Python 3", "language": "python"}))
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "jupyter"))
    for name in ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR"):
        monkeypatch.setenv(name, str(tmp_path / name.lower()))
    monkeypatch.setenv("ALEXNET_WORKDIR", str(workdir))
    monkeypatch.setenv("ALEXNET_RESULTS", str(tmp_path / "results"))
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    client = NotebookClient(notebook, timeout=120, kernel_name="python3",
                            resources={"metadata": {"path": str(NOTEBOOK.parent)}})
    return client.execute()


def outputs(notebook, kind):
    return [output["data"][kind] for cell in notebook.cells if cell.cell_type == "code"
            for output in cell.outputs if kind in output.get("data", {})]


# What Jupyter's own packages warn about isn't ours to mend.
@pytest.mark.filterwarnings("ignore")
def test_notebook_on_a_sweep(tmp_path, monkeypatch):
    workdir = fake_sweep.write_sweep(tmp_path / "three", seeds=(0, 1), epochs=4,
                                     states={("tanh", 1): "unfinished"})
    before = sorted(p for p in workdir.rglob("*"))
    notebook = execute(workdir, tmp_path, monkeypatch)
    assert len(outputs(notebook, "image/png")) == 3
    (table,) = outputs(notebook, "text/markdown")
    assert "+1.4/+1.2" in table
    assert "tanh seed 1 (unfinished: epoch 2 of 4)" in table
    assert sorted(p for p in workdir.rglob("*")) == before  # it only reads
    assert not [o for cell in notebook.cells if cell.cell_type == "code" for o in cell.outputs
                if o.output_type == "error" or o.get("name") == "stderr"]


@pytest.mark.filterwarnings("ignore")
def test_notebook_with_figures_1_and_3(tmp_path, monkeypatch):
    results = tmp_path / "results"
    worker = (sys.executable, str(pathlib.Path(__file__).resolve().parent / "fake_curves.py"))
    figure1.main([f"--workdir={results / 'figure1'}", "--seeds=2", "--grid=0.0005,0.002", "--grid_epochs=2"], worker,
                 lambda data: None)
    drawn = np.random.default_rng(0).normal(size=(2, 5, 5, 3, 16)).astype(np.float16)
    (results / "kernels").mkdir()
    kernels.save(results / "kernels" / "kernels.npz", {"baseline": {0: drawn, 1: drawn[::-1]}}, "cifar10, 3 epochs")
    before = sorted(p for p in results.rglob("*"))
    notebook = execute(fake_sweep.write_sweep(tmp_path / "three", seeds=(0, 1), epochs=4), tmp_path, monkeypatch)
    assert len(outputs(notebook, "image/png")) == 5
    printed = "".join(o.text for cell in notebook.cells if cell.cell_type == "code" for o in cell.outputs
                      if o.get("name") == "stdout")
    assert "6.0×" in printed
    assert "baseline: colour share by column" in printed
    assert sorted(p for p in results.rglob("*")) == before


@pytest.mark.filterwarnings("ignore")
def test_notebook_on_a_single_run(tmp_path, monkeypatch):
    workdir = fake_sweep.write_sweep(tmp_path / "three", seeds=(0,), epochs=3)
    notebook = execute(fake_sweep.folder_of(workdir, "tanh", 0), tmp_path, monkeypatch)
    assert len(outputs(notebook, "image/png")) == 2
    assert outputs(notebook, "text/markdown") == []


def test_notebook_is_committed_without_outputs():
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            assert cell.outputs == []
            assert cell.execution_count is None
    # Names of folders on someone's machine don't belong in it either.
    assert str(pathlib.Path.home()) not in NOTEBOOK.read_text()
