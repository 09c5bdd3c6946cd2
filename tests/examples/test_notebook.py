"""examples/playground.ipynb runs, and says today what it says in the file."""

import copy
from pathlib import Path
from typing import Any

import pytest

NOTEBOOK = Path(__file__).parents[2] / "examples" / "playground.ipynb"


def printed(notebook: Any) -> list[str]:
    """What each cell prints."""
    return [
        "".join(output["text"] for output in cell.get("outputs", ()) if output["output_type"] == "stream")
        for cell in notebook.cells
    ]


def kinds(notebook: Any) -> list[str]:
    """The kinds of what its cells show: text, HTML, pictures."""
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    return [kind for output in outputs for kind in sorted(output.get("data", ()))]


@pytest.fixture(scope="module")
def stored() -> Any:
    return pytest.importorskip("nbformat").read(NOTEBOOK, as_version=4)


def test_the_notebook_is_small_and_whole(stored) -> None:
    assert NOTEBOOK.stat().st_size < 150_000
    assert {"text/html", "image/png"} <= set(kinds(stored))
    assert all(cell.execution_count for cell in stored.cells if cell.cell_type == "code")


def test_it_runs_and_says_what_it_said(stored, tmp_path: Path) -> None:
    client = pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    again = copy.deepcopy(stored)
    for cell in again.cells:
        cell.pop("outputs", None)
    client.NotebookClient(again, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
    assert printed(again) == printed(stored)
    assert kinds(again) == kinds(stored)
