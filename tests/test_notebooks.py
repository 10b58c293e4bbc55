import re
from pathlib import Path

import nbclient
import nbformat
import pytest

NOTEBOOKS = sorted((Path(__file__).parents[1] / "notebooks").glob("*.ipynb"))
SCALE = "0.1"  # instead of 1.0: every cell runs and every picture is drawn, but of little data


MINUTES = ("a3c_vs_a2c", "speed_tables", "staleness_lab")


@pytest.mark.parametrize(
    "path",
    [pytest.param(path, marks=pytest.mark.slow if path.stem in MINUTES else ()) for path in NOTEBOOKS],
    ids=lambda path: path.stem,
)
def test_a_notebook_runs_from_top_to_bottom(path, tmp_path):
    notebook = nbformat.read(path, as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    pictures = [_has_picture(cell) for cell in code]
    assert any(pictures), "a notebook in the repository shows its outputs"

    scaled = 0
    for cell in code:
        cell.source, count = re.subn(r"^SCALE = 1\.0\b", f"SCALE = {SCALE}", cell.source, flags=re.MULTILINE)
        scaled += count
    assert scaled == 1
    ran = nbclient.NotebookClient(notebook, timeout=180, resources={"metadata": {"path": tmp_path}}).execute()
    code = [cell for cell in ran.cells if cell.cell_type == "code"]
    assert not [output for cell in code for output in cell.outputs if output.output_type == "error"]
    assert [_has_picture(cell) for cell in code] == pictures


def _has_picture(cell):
    return any(kind.startswith("image/") for output in cell.outputs for kind in output.get("data", {}))


def test_there_are_notebooks():
    assert [path.stem for path in NOTEBOOKS] == ["a3c_vs_a2c", "quickstart", "speed_tables", "staleness_lab"]


def test_all_notebooks_install_the_package_in_the_same_way():
    assert len({next(cell.source for cell in _cells(path) if cell.cell_type == "code") for path in NOTEBOOKS}) == 1


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_outputs_name_no_folder_of_the_machine_and_no_warnings(path):
    outputs = [output for cell in _cells(path) for output in cell.get("outputs", [])]
    assert not [output for output in outputs if output.get("name") == "stderr"]
    text = [output.get("text", "") for output in outputs]
    text += [
        str(output.get("data", {}).get(kind, "")) for output in outputs for kind in ("text/plain", "text/markdown")
    ]
    assert not re.search(r"(^|[\s'\"])/\w+/\w", "\n".join(text))


def _cells(path):
    return nbformat.read(path, as_version=4).cells
