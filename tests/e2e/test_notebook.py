"""The example notebook, run by a kernel as Jupyter runs it."""

from __future__ import annotations

from typing import Any

import pytest
from conftest import ROOT

nbclient = pytest.importorskip("nbclient")
nbformat = pytest.importorskip("nbformat")
pytest.importorskip("ipykernel")

pytestmark = [pytest.mark.needs_tensorflow, pytest.mark.timeout(180)]

NOTEBOOK = ROOT / "examples" / "notebook.ipynb"


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")
def test_the_notebook_runs_from_its_first_cell_to_its_last() -> None:
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    nbclient.NotebookClient(
        notebook, timeout=120, kernel_name="python3", resources={"metadata": {"path": str(NOTEBOOK.parent)}}
    ).execute()
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    # Nothing but what a cell shows: no log, no warning.
    streams = [output for cell in cells for output in cell.outputs if output.output_type == "stream"]
    assert {output.name for output in streams} == {"stdout"}
    shown = [_shown(cell) for cell in cells]
    html = cells[0].outputs[0].data["text/html"]
    assert html.count("AVAILABLE") == 2 and "http://127.0.0.1:" in html
    assert shown[1] == "array([2. , 2.5, 3. , 3.5, 4. ], dtype=float32)"
    assert "'sum': array([1.5, 3.5], dtype=float32)" in shown[2]
    assert shown[3] == "{'predictions': [2.5, 3.0, 4.5]}"
    assert "VersionStatus(version=1, state='AVAILABLE'" in shown[4]
    assert "loaded pair version 1" in shown[5]
    assert shown[6].startswith("INVALID_ARGUMENT: the signature has no input 'c'")
    assert "is not running" in shown[7]


def _shown(cell: Any) -> str:
    """Returns the text that a cell shows."""
    (output,) = cell.outputs
    text = output.text if output.output_type == "stream" else output.data["text/plain"]
    return str(text).strip()
