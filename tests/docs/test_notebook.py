"""The notebook runs from its first cell to its last, which shows a picture."""

import base64
import io
import re
from pathlib import Path

import nbformat
import numpy as np
from nbclient import NotebookClient
from PIL import Image

ROOT = Path(__file__).parents[2]
NOTEBOOK = ROOT / "docs/notebook.ipynb"


def picture(cell):
    (shown,) = [output for output in cell.outputs if "image/png" in output.get("data", {})]
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(shown["data"]["image/png"]))))


def text(cell):
    return "".join(output.get("text", "") for output in cell.outputs)


def test_the_notebook_runs_and_ends_in_a_picture(tmp_path):
    committed = nbformat.read(NOTEBOOK, as_version=4)
    run = nbformat.read(NOTEBOOK, as_version=4)
    for cell in run.cells:
        if cell.cell_type == "code":
            cell.outputs = []
    NotebookClient(
        run, timeout=300, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}
    ).execute()
    drawn = picture(run.cells[-1])
    assert drawn.shape[0] > 300 and len(np.unique(drawn.reshape(-1, drawn.shape[2]), axis=0)) > 50
    said = " ".join(text(cell) for cell in run.cells if cell.cell_type == "code")
    opened, steps = map(int, re.search(r"in step (\d+) of (\d+)", said).groups())
    assert opened < steps / 2
    spread = [float(word) for word in re.search(r"spread +(\S+) +(\S+)", said).groups()]
    assert spread[1] < spread[0] < 1
    # Who only looks at it sees the same.
    shown = " ".join(text(cell) for cell in committed.cells if cell.cell_type == "code")
    assert re.search(r"spread +(\S+) +(\S+)", shown)
    assert abs(picture(committed.cells[-1]).shape[0] - drawn.shape[0]) < 50
