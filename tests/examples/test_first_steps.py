"""The notebook of first steps: its form and its names and, slow, all of its cells."""

import ast
import inspect
import re
from collections.abc import Iterator
from typing import Any

import nbformat
import pytest
from helpers.command import clean_environment
from helpers.paths import EXAMPLES, ROOT
from IPython.core.inputtransformer2 import TransformerManager
from nbclient import NotebookClient

from cnnbench import api
from cnnbench.cli.options import PARSERS

MAX_CELLS = 12
NOTEBOOK = nbformat.read(EXAMPLES / "first_steps.ipynb", as_version=4)
SOURCES = [cell.source for cell in NOTEBOOK.cells if cell.cell_type == "code"]


def calls_of_api(source: str) -> Iterator[tuple[str, list[str]]]:
    """Yield the name and the keywords of each call of cnnbench.api in a cell."""
    tree = ast.parse(TransformerManager().transform_cell(source))
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func).startswith("cnnbench."):
            keywords = [keyword.arg for keyword in node.keywords if keyword.arg is not None]
            yield ast.unparse(node.func), keywords


def test_notebook_is_valid_short_and_stored_without_outputs() -> None:
    nbformat.validate(NOTEBOOK)
    assert len(NOTEBOOK.cells) <= MAX_CELLS
    cells = [cell for cell in NOTEBOOK.cells if cell.cell_type == "code"]
    assert [(cell.outputs, cell.execution_count) for cell in cells] == [([], None)] * len(cells)


def test_notebook_is_listed() -> None:
    assert "(first_steps.ipynb)" in (EXAMPLES / "README.md").read_text()


@pytest.mark.parametrize("source", SOURCES, ids=range(len(SOURCES)))
def test_cell_compiles_and_calls_only_the_public_api(source: str) -> None:
    compile(TransformerManager().transform_cell(source), "cell", "exec")
    for name, keywords in calls_of_api(source):
        module, _, function = name.rpartition(".")
        assert (module, function in api.__all__) == ("cnnbench.api", True), name
        assert set(keywords) <= set(inspect.signature(getattr(api, function)).parameters)


def test_cells_use_the_whole_way_from_training_to_a_table() -> None:
    called = {name for source in SOURCES for name, _ in calls_of_api(source)}
    assert called == {f"cnnbench.api.{name}" for name in ("train", "evaluate", "list_runs")}


def test_shell_lines_name_commands() -> None:
    lines = [line for source in SOURCES for line in source.splitlines() if line.startswith("!")]
    commands = [re.fullmatch(r"!\{cli\} (\w+) .*", line)[1] for line in lines]
    assert commands == ["data", "summary", "inspect", "resume"]
    assert set(commands) <= set(PARSERS)


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> list[list[Any]]:
    """Execute the notebook in an empty folder; return the outputs of each code cell."""
    folder = tmp_path_factory.mktemp("notebook")
    environment = clean_environment(folder) | {
        "IPYTHONDIR": str(folder / "ipython"),
        "JUPYTER_RUNTIME_DIR": str(folder / "jupyter"),
        "PYTHONPATH": str(ROOT),
        "PYTHONWARNINGS": "default",  # those of the kernel are not ours
    }
    notebook = nbformat.read(EXAMPLES / "first_steps.ipynb", as_version=4)
    NotebookClient(notebook, timeout=240).execute(cwd=str(folder), env=environment)
    return [cell.outputs for cell in notebook.cells if cell.cell_type == "code"]


def printed(outputs: list[Any]) -> str:
    return "".join(output.text for output in outputs if output.output_type == "stream")


def shown(outputs: list[Any]) -> list[Any]:
    return [output.data for output in outputs if output.output_type != "stream"]


@pytest.mark.slow
def test_data_are_shown_as_a_picture(outputs: list[list[Any]]) -> None:
    assert [set(data) for data in shown(outputs[0])] == [{"text/plain", "image/png"}]
    assert "batch.png" in printed(outputs[0])


@pytest.mark.slow
def test_summary_lists_the_layers(outputs: list[list[Any]]) -> None:
    assert re.search(r"^total +32,000 +212,520", printed(outputs[1]), re.MULTILINE)


@pytest.mark.slow
def test_training_shows_a_line_and_curves_and_returns_the_result(
    outputs: list[list[Any]],
) -> None:
    line, picture, result = shown(outputs[2])
    assert re.fullmatch(r"Finished: test accuracy 0\.\d{4}", line["text/plain"])
    assert "image/png" in picture
    accuracy = line["text/plain"].split()[-1]
    assert result["text/plain"].endswith(f"test_accuracy={accuracy})")
    assert float(accuracy) > 0.7


@pytest.mark.slow
def test_mistakes_are_shown(outputs: list[list[Any]]) -> None:
    assert "most confused:" in printed(outputs[3])
    assert "image/png" in shown(outputs[3])[-1]


@pytest.mark.slow
def test_learning_rates_are_compared(outputs: list[list[Any]]) -> None:
    table = re.findall(r"^lr (\S+): validation accuracy (0\.\d+) in", printed(outputs[4]), re.M)
    assert [lr for lr, _ in table] == ["0.0005", "0.005"]
    assert all(0.1 < float(accuracy) < 1 for _, accuracy in table)
    assert len(shown(outputs[4])) == 4  # a line and a picture of each run


@pytest.mark.slow
def test_stopped_run_is_resumed(outputs: list[list[Any]]) -> None:
    line, _, status = shown(outputs[5])
    assert line["text/plain"].startswith("Stopped after 1 of 2 epochs. To resume: cnnbench resume")
    assert "Resumes after 1 epoch." in printed(outputs[5])
    assert status["text/plain"] == "'finished'"
