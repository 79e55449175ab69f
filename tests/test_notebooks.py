"""Every notebook is tidy as stored, and runs from top to bottom without a word of complaint."""

import ast
import json
import re
from pathlib import Path

import pytest

NOTEBOOKS = sorted((Path(__file__).parent.parent / "notebooks").glob("*.ipynb"))
QUICK = {"01_self_attention_step_by_step"}  # the others draw and train more, and take over ten seconds
MAX_LINES = 25  # of a cell
MAX_FUNCTION_LINES = 14  # a notebook calls vitlab, and holds no logic


def by_name(path):
    return path.stem


def cells(path, kind=None):
    found = json.loads(path.read_text())["cells"]
    return [cell for cell in found if kind is None or cell["cell_type"] == kind]


def source(cell):
    return "".join(cell["source"])


def python(cell):
    """The cell's code without the lines that only IPython understands."""
    return "".join(line for line in cell["source"] if not line.startswith("%"))


def test_there_are_notebooks_and_they_are_numbered_without_gaps():
    assert [path.name[:3] for path in NOTEBOOKS] == [f"{number:02}_" for number in range(1, len(NOTEBOOKS) + 1)]
    assert {path.stem for path in NOTEBOOKS} >= QUICK
    assert QUICK


@pytest.mark.parametrize("path", NOTEBOOKS, ids=by_name)
def test_the_format_is_valid(path):
    nbformat = pytest.importorskip("nbformat", reason="nbformat, which checks the format, is not installed")
    nbformat.validate(json.loads(path.read_text()))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=by_name)
def test_no_outputs_are_stored(path):
    for cell in cells(path, "code"):
        assert cell["outputs"] == [], cell["id"]
        assert cell["execution_count"] is None, cell["id"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=by_name)
def test_it_opens_with_a_title(path):
    first = cells(path)[0]
    assert first["cell_type"] == "markdown"
    assert re.match(r"# \S", source(first))
    assert not any(re.search(r"^# ", source(cell), re.M) for cell in cells(path, "markdown")[1:])


@pytest.mark.parametrize("path", NOTEBOOKS, ids=by_name)
def test_cells_are_short_and_not_empty(path):
    for cell in cells(path):
        assert 1 <= len(source(cell).splitlines()) <= MAX_LINES, cell["id"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=by_name)
def test_cells_are_named_in_words_that_no_editor_made_up(path):
    names = [cell["id"] for cell in cells(path)]
    assert len(set(names)) == len(names)
    for name in names:
        assert re.fullmatch(r"[a-z]{2,}(-([a-z]+|\d{1,2}))*", name), name


@pytest.mark.parametrize("path", NOTEBOOKS, ids=by_name)
def test_it_calls_vitlab_and_holds_no_logic(path):
    nodes = [node for cell in cells(path, "code") for node in ast.walk(ast.parse(python(cell)))]
    assert any(isinstance(node, ast.ImportFrom) and node.module.startswith("vitlab") for node in nodes)
    for node in nodes:
        assert not isinstance(node, ast.ClassDef), node.name
        if isinstance(node, ast.FunctionDef):
            assert node.end_lineno - node.lineno < MAX_FUNCTION_LINES, node.name


@pytest.mark.parametrize(
    "path",
    [pytest.param(path, marks=() if path.stem in QUICK else pytest.mark.slow) for path in NOTEBOOKS],
    ids=by_name,
)
def test_it_runs_from_top_to_bottom_without_a_warning(path, tmp_path, monkeypatch):
    nbformat = pytest.importorskip("nbformat", reason="nbformat, which reads notebooks, is not installed")
    nbclient = pytest.importorskip("nbclient", reason="nbclient, which runs notebooks, is not installed")
    pytest.importorskip("ipykernel", reason="ipykernel, in which notebooks run, is not installed")
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path))  # no history in the user's own folder
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path))
    notebook = nbformat.read(path, as_version=4)
    nbclient.NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(path.parent)}}).execute()
    for cell in notebook.cells:
        outputs = cell.get("outputs", [])
        for output in outputs:
            assert output.get("name") != "stderr", f"{cell.id} wrote to stderr: {output.text}"
        figures = sum("image/png" in output.get("data", {}) for output in outputs)
        assert figures == cell.id.startswith("draw-"), f"{cell.id} shows {figures} figures; a cell draw-... shows one"
