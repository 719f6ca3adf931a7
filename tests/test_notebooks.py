"""The notebooks of the documentation: small, without outputs, and (slow) they run from top to bottom."""

import ast
import json
import os
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "docs" / "notebooks").glob("*.ipynb"))


def test_there_are_notebooks():
    assert [path.stem for path in NOTEBOOKS] == ["reconstruct", "train_small"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_small_and_parses(path):
    assert path.stat().st_size < 300_000
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    for cell in cells:
        if cell["cell_type"] == "code":
            ast.parse("".join(cell["source"]))
            assert not cell["outputs"] and cell["execution_count"] is None


@pytest.fixture
def executed(tmp_path, monkeypatch):
    """``executed(name)`` → texts and pictures of a notebook that was run in a folder of its own."""
    nbclient, nbformat = pytest.importorskip("nbclient"), pytest.importorskip("nbformat")
    pytest.importorskip("ipykernel")
    # The kernel is another process: it imports this tree, and draws without a window.
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))

    def run(name):
        notebook = nbformat.read(ROOT / "docs" / "notebooks" / f"{name}.ipynb", as_version=4)
        client = nbclient.NotebookClient(
            notebook, timeout=3000, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}
        )
        client.execute()
        nbformat.write(notebook, tmp_path / f"{name}.ipynb")
        outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
        texts = [
            output.get("text", "") or output.get("data", {}).get("text/markdown", "") for output in outputs
        ]
        pictures = [
            output["data"] for output in outputs if {"image/png", "image/jpeg"} & {*output.get("data", {})}
        ]
        return "\n".join(texts), pictures

    return run


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_the_notebook_that_reconstructs(executed):
    pytest.importorskip("ai_edge_litert")
    text, pictures = executed("reconstruct")
    assert "Confidence" in text and "head_arkit.csv" in text and len(pictures) == 4
    (gap,) = re.findall(r"inner landmarks: ([\d.]+) pixels", text)
    assert float(gap) < 6


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_the_notebook_that_trains(executed):
    text, pictures = executed("train_small")
    (first, last), (before, after) = re.findall(r"(?:loss|face) ([\d.e+-]+) -> ([\d.e+-]+)", text)
    assert float(last) < 0.8 * float(first) and float(after) < float(before)
    assert len(pictures) == 2 and "model.safetensors" in text
