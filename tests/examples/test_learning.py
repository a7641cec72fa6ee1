"""The examples of numerical derivatives and of gradient descent, as a student runs them."""

import contextlib
import importlib.util
import io
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import pytest
import torch
from helpers.paths import EXAMPLES
from PIL import Image
from torch.testing import assert_close

LIBRARY = {
    "SGD": torch.optim.SGD,
    "Momentum": lambda params, lr: torch.optim.SGD(params, lr=lr, momentum=0.9),
    "AdaGrad": torch.optim.Adagrad,
    "Adam": torch.optim.Adam,
}


def example(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@dataclass
class Descent:
    """The example of gradient descent, the paths that it gave, what it printed, and where."""

    module: ModuleType
    paths: dict[str, torch.Tensor]
    output: str
    directory: Path


@pytest.fixture(scope="module")
def descent(tmp_path_factory: pytest.TempPathFactory) -> Descent:
    module, directory, output = (
        example("gradient_descent"),
        tmp_path_factory.mktemp("descent"),
        io.StringIO(),
    )
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(output):
        patch.chdir(directory)
        paths = module.main([])
    return Descent(module, paths, output.getvalue(), directory)


def test_the_path_of_sgd_is_that_on_paper(descent: Descent) -> None:
    on_paper = [[-7 * (1 - 0.95 / 10) ** step, 2 * (1 - 0.95 * 2) ** step] for step in range(31)]
    assert_close(
        descent.paths["SGD"], torch.tensor(on_paper, dtype=torch.float64), rtol=0.0, atol=1e-9
    )


@pytest.mark.parametrize("name", list(LIBRARY))
def test_a_path_is_that_of_torchs_optimizer(descent: Descent, name: str) -> None:
    theirs = descent.module.path(LIBRARY[name], descent.module.OPTIMIZERS[name][1])
    assert_close(descent.paths[name], theirs, rtol=0.0, atol=1e-9)


def test_the_table_ends_with_where_the_paths_do(descent: Descent) -> None:
    (row,) = [line for line in descent.output.splitlines() if line.startswith("  30")]
    ends = [number for points in descent.paths.values() for number in points[-1].tolist()]
    assert [float(word.strip("(,)")) for word in row.split()] == pytest.approx(
        [30, *ends], abs=5.1e-4
    )


def test_the_picture_has_each_path_in_its_colour(descent: Descent) -> None:
    with Image.open(descent.directory / "optimizers.png") as picture:
        colors = {
            color for _, color in picture.convert("RGB").getcolors(picture.width * picture.height)
        }
    assert {tuple(bytes.fromhex(color[1:])) for color in descent.module.COLORS} <= colors


def test_the_picture_may_be_another_file(descent: Descent, tmp_path: Path) -> None:
    descent.module.main([str(tmp_path / "paths.svg")])
    assert (tmp_path / "paths.svg").read_text().startswith("<?xml")


def test_errors_of_derivatives_fall_and_rise_again_as_steps_shrink(
    capsys: pytest.CaptureFixture[str],
) -> None:
    rows = example("numerical_derivative").main()
    steps, one_sided, central = zip(*rows, strict=True)
    assert steps == pytest.approx([10.0**-k for k in range(1, 15)])
    # down to the best step as Taylor has it, e h / 2 and e h^2 / 6; from there on rounding, which is luck
    assert one_sided[1:7] == pytest.approx([2.71828 / 2 * h for h in steps[1:7]], rel=0.05)
    assert central[:4] == pytest.approx([2.71828 / 6 * h**2 for h in steps[:4]], rel=0.05)
    assert min(one_sided) == one_sided[7]
    assert min(central) in central[4:7]
    assert one_sided[-1] > 1e5 * min(one_sided)
    assert central[-1] > 1e5 * min(central)
    printed = [line.split() for line in capsys.readouterr().out.splitlines() if line[1:3] == "e-"]
    assert [(float(h), float(a), float(b)) for h, a, _, b, _ in printed] == [
        pytest.approx(row, rel=0.05) for row in rows
    ]
