"""The exercises: skeletons with blanks, and their solutions."""

import ast
import re
from pathlib import Path

import pytest
from helpers.command import Command
from helpers.custom_files import CHAPTERS, EXERCISES, SOLUTIONS, SOLVED
from helpers.paths import ROOT

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


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_skeleton_names_each_method_that_is_not_written(within: Command, chapter: str) -> None:
    result = within("gradcheck", *SMALL, f"reference.module={EXERCISES / chapter}.py")
    assert result.returncode == 6
    kinds = [kind for kind in SOLVED if SOLVED[kind] == chapter]
    method = "update" if chapter == "optimizers" else "forward"
    listed = result.stdout.partition(f"What looks wrong in {chapter}.py:\n")[2].splitlines()
    pattern = rf"- (\w+).{method} is not written yet \({chapter}.py, line \d+\)\."
    assert [re.fullmatch(pattern, line)[1] for line in listed] == sorted(
        kinds, key=lambda kind: (EXERCISES / f"{chapter}.py").read_text().index(f"class {kind}:")
    )


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_solution_passes(within: Command, chapter: str) -> None:
    result = within("gradcheck", *SMALL, f"reference.module={SOLUTIONS / chapter}.py")
    assert (result.returncode, result.stderr) == (0, "")
    assert "What looks wrong" not in result.stdout


def test_skeletons_and_solutions_are_those_that_the_page_lists() -> None:
    page = (ROOT / "docs" / "exercises.md").read_text()
    listed = re.findall(r"\]\(\.\./examples/exercises/(\w+)\.py\)", page)
    assert sorted(listed) == CHAPTERS == sorted(path.stem for path in EXERCISES.glob("*.py"))


def test_page_has_the_signature_of_every_class() -> None:
    from cnnbench.reference.custom.module import SIGNATURES

    page = (ROOT / "docs" / "exercises.md").read_text()
    for kind, parameters in SIGNATURES.items():
        assert f"`{kind}({parameters})`" in page
