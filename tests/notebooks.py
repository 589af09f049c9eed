"""Executes the notebooks and stores their outputs, so that a reader of the repository's pages sees them.

    python tests/notebooks.py                     # both, in place (`make notebooks`)
    python tests/notebooks.py columns.ipynb

The kernel is this interpreter. Lines and text are stored with a palette of 256 colours, a third of the bytes; timings
and the interpreter's version are left out. Needs the extra `dev` or `notebook`. `test_notebook.py` tests that what is
stored is of the present cells and records.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import io
import json
import os
import pathlib
import sys
import tempfile
from typing import Any

FOLDER = pathlib.Path(__file__).resolve().parents[1] / "experiments"
NAMES = ("convergence.ipynb", "columns.ipynb")
KEY = "executed"  # in the notebook's metadata: `of_cells` of what was executed
_KEPT = ("kernelspec", "language_info")


def of_cells(notebook: Any) -> str:
    """A hash of the code."""
    code = [cell.source for cell in notebook.cells if cell.cell_type == "code"]
    return hashlib.sha256(json.dumps(code).encode()).hexdigest()[:16]


def kernels(folder: pathlib.Path) -> dict[str, str]:
    """The environment in which the kernel `python3` is this interpreter and the project is found, whatever the machine
    has registered."""
    kernel = folder / "jupyter" / "kernels" / "python3"
    kernel.mkdir(parents=True)
    (kernel / "kernel.json").write_text(json.dumps({
        "argv": [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"],
        "display_name": "Python 3", "language": "python"}))
    own = ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR")
    return {"JUPYTER_PATH": str(folder / "jupyter"), "PYTHONPATH": str(FOLDER.parent),
            **{name: str(folder / name.lower()) for name in own}}


def execute(name: str) -> Any:
    """The executed notebook, in the folder where it lies. The environment is the caller's: `kernels`.

    Raises:
      nbclient.exceptions.CellExecutionError, RuntimeError: a cell failed, or wrote to stderr.
    """
    import nbformat
    from nbclient import NotebookClient

    notebook = nbformat.read(FOLDER / name, as_version=4)
    done = NotebookClient(notebook, timeout=540, kernel_name="python3", record_timing=False,
                          resources={"metadata": {"path": str(FOLDER)}}).execute()
    if found := troubles(done):
        raise RuntimeError(f"{name}: {'; '.join(found)}")
    return done


def troubles(notebook: Any) -> list[str]:
    """What cells wrote to stderr, and their errors."""
    said = [(cell.source, output) for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    return [f"{source}: {output.get('text') or output.get('evalue')}".strip() for source, output in said
            if output.output_type == "error" or output.get("name") == "stderr"]


def small(picture: str) -> str:
    """A PNG file (base64) with a palette of 256 colours, where that changes no more than anti-aliased edges."""
    import numpy as np
    from PIL import Image

    with Image.open(io.BytesIO(base64.b64decode(picture))) as image:
        flat = Image.new("RGB", image.size, "white")
        flat.paste(image, mask=image.getchannel("A") if image.mode == "RGBA" else None)
    few = flat.quantize(256, dither=Image.Dither.NONE)
    change = np.abs(np.asarray(few.convert("RGB"), np.float32) - np.asarray(flat, np.float32)).mean()
    out = io.BytesIO()
    (few if change < 1 else flat).save(out, "PNG", optimize=True)
    return base64.b64encode(out.getvalue()).decode()


def stored(notebook: Any, name: str) -> Any:
    """The executed notebook as it is stored."""
    import nbformat

    before = nbformat.read(FOLDER / name, as_version=4).metadata
    notebook.metadata = {key: before[key] for key in _KEPT} | {KEY: of_cells(notebook)}
    for cell in notebook.cells:
        cell.metadata = {}
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            if "image/png" in data:
                data["image/png"] = small(data["image/png"])
    return notebook


def main() -> None:
    import nbformat

    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("names", nargs="*", metavar="NOTEBOOK", default=NAMES, help="of experiments/; default: all")
    for name in parser.parse_args().names:
        with tempfile.TemporaryDirectory() as folder:
            os.environ.update(kernels(pathlib.Path(folder)))
            os.environ.pop("ALEXNET_WORKDIR", None)  # the recorded sweep
            done = execute(name)
        text = nbformat.writes(stored(done, name))
        (FOLDER / name).write_text(text + "\n", encoding="utf-8")
        print(f"{FOLDER / name}: {len(text):,} bytes")


if __name__ == "__main__":
    main()
