"""Run the notebooks and keep their outputs: `make notebooks`, after new bundled models or new words on the screen."""

import sys
from pathlib import Path

import nbformat
from nbclient import NotebookClient

NOTEBOOKS = Path(__file__).parents[1] / "notebooks"


def run_notebook(path: Path) -> None:
    """Run a notebook from top to bottom and write it back, without the times of this run.

    :param path: of the notebook.
    """
    notebook = nbformat.read(path, as_version=4)
    resources = {"metadata": {"path": str(path.parent)}}
    NotebookClient(notebook, timeout=600, record_timing=False, resources=resources).execute()
    notebook.metadata["language_info"] = {"name": "python"}
    nbformat.write(notebook, path)


if __name__ == "__main__":
    for name in sys.argv[1:] or sorted(path.stem for path in NOTEBOOKS.glob("*.ipynb")):
        print(name, flush=True)  # noqa: T201
        run_notebook(NOTEBOOKS / f"{name}.ipynb")
