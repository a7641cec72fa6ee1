"""The exercises: skeletons with blanks, and their solutions."""

import ast
import re
from pathlib import Path

import pytest
from helpers.command import Command
from helpers.custom_files import CHAPTERS, EXERCISES, SOLUTIONS, SOLVED, write_changed
from helpers.paths import ROOT

from cnnbench.reference.custom.mistakes import explain
from cnnbench.reference.custom.module import SIGNATURES, load_custom

SMALL = ("model=mlp", "model.widths=[5]", "data.resize=4")


def read_interface(path: Path) -> dict[str, tuple[str, str | None]]:
    """Return the parameters and the docstring of each method and function, by name."""
    found = {}
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ClassDef):
            found[node.name] = ("", ast.get_docstring(node))
            for method in node.body:
                if isinstance(method, ast.FunctionDef):
                    name = f"{node.name}.{method.name}"
                    found[name] = (ast.unparse(method.args), ast.get_docstring(method))
    return found


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_skeleton_and_solution_have_the_same_interface(chapter: str) -> None:
    skeleton, solution = EXERCISES / f"{chapter}.py", SOLUTIONS / f"{chapter}.py"
    assert read_interface(skeleton) == read_interface(solution)


@pytest.mark.parametrize("kind", SOLVED)
def test_skeleton_says_what_is_not_written(kind: str) -> None:
    path = EXERCISES / f"{SOLVED[kind]}.py"
    method = "update" if path.stem == "optimizers" else "forward"
    (sentence,) = explain(load_custom(str(path)), kind)
    place = re.fullmatch(
        rf"{kind}.{method} is not written yet \({path.name}, line (\d+)\)\.", sentence
    )
    assert path.read_text().splitlines()[int(place[1]) - 1].strip() == "raise NotImplementedError"


@pytest.mark.parametrize("kind", [kind for kind in SOLVED if SOLVED[kind] != "optimizers"])
def test_skeleton_with_the_solution_of_forward_asks_for_backward(tmp_path: Path, kind: str) -> None:
    solution = (SOLUTIONS / f"{SOLVED[kind]}.py").read_text()
    path = tmp_path / "half.py"
    path.write_text(
        re.sub(r"(def backward\(.*\n)", r"\1        raise NotImplementedError\n", solution)
    )
    (sentence,) = explain(load_custom(str(path)), kind)
    assert sentence.startswith(f"{kind}.backward is not written yet (half.py, line ")


def test_skeletons_and_solutions_are_those_that_the_page_lists() -> None:
    page = (ROOT / "docs" / "exercises.md").read_text()
    listed = re.findall(r"\]\(\.\./examples/exercises/(\w+)\.py\)", page)
    assert sorted(listed) == CHAPTERS == sorted(path.stem for path in EXERCISES.glob("*.py"))


def test_page_has_the_signature_of_every_class() -> None:
    page = (ROOT / "docs" / "exercises.md").read_text()
    for kind, parameters in SIGNATURES.items():
        assert f"`{kind}({parameters})`" in page


def test_output_on_the_page_is_that_of_the_first_skeleton(within: Command, tmp_path: Path) -> None:
    (tmp_path / "my_layers.py").write_bytes((EXERCISES / "linear.py").read_bytes())
    result = within("gradcheck", *SMALL, "reference.module=my_layers")
    shown = result.stdout[result.stdout.index("What looks wrong") :]
    assert shown in (ROOT / "docs" / "exercises.md").read_text()


def test_gradient_on_the_page_is_explained_so(tmp_path: Path) -> None:
    custom = write_changed(tmp_path, "Linear", "dout.sum(axis=0)", "dout")
    (sentence,) = explain(custom, "Linear")
    assert f"- {sentence}\n" in (ROOT / "docs" / "exercises.md").read_text()
