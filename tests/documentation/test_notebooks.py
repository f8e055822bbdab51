"""The notebooks of docs/notebooks run from top to bottom in a kernel, in order, in one folder; the
first with a smaller flow and fewer pairs than by default.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NOTEBOOKS = ("own_operator.ipynb", "plot_in_a_paper.ipynb")
SMALL = (
    "from pflow.notebook import inference\n"
    "from tests.support.small import small_experiment\n"
    "inference.default_experiment = small_experiment"
)


@pytest.mark.long
@pytest.mark.filterwarnings("ignore")  # of Jupyter
def test_the_notebooks_run(tmp_path, monkeypatch):
    nbclient, nbformat = pytest.importorskip("nbclient"), pytest.importorskip("nbformat")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join((str(ROOT), os.environ.get("PYTHONPATH", ""))))
    assert {path.name for path in (ROOT / "docs/notebooks").glob("*.ipynb")} == set(NOTEBOOKS)
    for name in NOTEBOOKS:
        notebook = nbformat.read(ROOT / "docs/notebooks" / name, as_version=4)
        notebook.cells.insert(0, nbformat.v4.new_code_cell(SMALL))
        nbclient.NotebookClient(
            notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": tmp_path}}
        ).execute()
    assert (tmp_path / "cooling.pdf").stat().st_size > 5000
