"""The notebooks: short, explained, and running from top to bottom."""

import json
import os
import re
from pathlib import Path

import pytest

from haystack_integrations.common.bloomz.checkpoint import BUNDLED_FOLDER, BUNDLED_RANKER, BUNDLED_RETRIEVER

NOTEBOOKS = sorted((Path(__file__).parent.parent / "notebooks").glob("*.ipynb"))
SECONDS = 600  # an end for what hangs, also on a slow machine
WEIGHTS = [BUNDLED_FOLDER / name / "model.safetensors" for name in (BUNDLED_RETRIEVER, BUNDLED_RANKER)]


def test_there_is_a_notebook() -> None:
    assert NOTEBOOKS


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_shape(path: Path) -> None:
    cells = json.loads(path.read_text())["cells"]
    assert len(cells) <= 20
    assert cells[0]["cell_type"] == "markdown"
    for before, cell in zip([cells[0], *cells], cells, strict=False):
        source = "".join(cell["source"])
        assert source.count("\n") < 15
        if cell["cell_type"] == "code":
            assert before["cell_type"] == "markdown", f"no text before: {source}"
            assert "def " not in source


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_outputs_are_kept_without_noise_or_a_path_of_a_machine(path: Path) -> None:
    outputs = [
        output for cell in json.loads(path.read_text(encoding="utf-8"))["cells"] for output in cell.get("outputs", [])
    ]
    assert outputs
    assert [output for output in outputs if output.get("name") == "stderr" or output["output_type"] == "error"] == []
    assert re.findall(r"/(?:tmp|home|root|Users|work)/\S*", json.dumps(outputs)) == []


@pytest.mark.slow
@pytest.mark.skipif(not all(file.exists() for file in WEIGHTS), reason="the bundled weights are not in this tree")
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_runs(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import nbformat
    from nbclient import NotebookClient

    roots = os.pathsep.join(str(path.parent.parent / name) for name in ("components", "pipeline"))
    monkeypatch.setenv("PYTHONPATH", roots)  # of the kernel's own process
    notebook = nbformat.read(path, as_version=4)
    resources = {"metadata": {"path": str(path.parent)}}
    NotebookClient(notebook, timeout=SECONDS, startup_timeout=SECONDS, resources=resources).execute()
