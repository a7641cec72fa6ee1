"""The examples of numerical derivatives and gradient descent, run as a student runs them."""

import contextlib
import io
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import pytest
import torch
from helpers.paths import EXAMPLES
from helpers.scripts import load_script
from PIL import Image
from torch.testing import assert_close

LIBRARY = {
    "SGD": torch.optim.SGD,
    "Momentum": lambda params, lr: torch.optim.SGD(params, lr=lr, momentum=0.9),
    "AdaGrad": torch.optim.Adagrad,
    "Adam": torch.optim.Adam,
}


@dataclass
class Descent:
    """A run of the example: its module, the paths it returned, its output and its directory."""

    module: ModuleType
    paths: dict[str, torch.Tensor]
    output: str
    directory: Path


@pytest.fixture(scope="module")
def descent(tmp_path_factory: pytest.TempPathFactory) -> Descent:
    module, output = load_script(EXAMPLES / "gradient_descent.py"), io.StringIO()
    directory = tmp_path_factory.mktemp("descent")
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(output):
        patch.chdir(directory)
        paths = module.main([])
    return Descent(module, paths, output.getvalue(), directory)


def test_path_of_sgd_follows_the_formula(descent: Descent) -> None:
    points = [[-7 * (1 - 0.95 / 10) ** step, 2 * (1 - 0.95 * 2) ** step] for step in range(31)]
    expected = torch.tensor(points, dtype=torch.float64)
    assert_close(descent.paths["SGD"], expected, rtol=0.0, atol=1e-9)


@pytest.mark.parametrize("name", list(LIBRARY))
def test_path_matches_torch_optimizer(descent: Descent, name: str) -> None:
    expected = descent.module.descend(LIBRARY[name], descent.module.OPTIMIZERS[name][1])
    assert_close(descent.paths[name], expected, rtol=0.0, atol=1e-9)


def test_last_row_of_the_table_has_the_last_points(descent: Descent) -> None:
    (row,) = [line for line in descent.output.splitlines() if line.startswith("  30")]
    numbers = [float(word.strip("(,)")) for word in row.split()]
    last_points = torch.cat([points[-1] for points in descent.paths.values()])
    assert numbers == pytest.approx([30, *last_points.tolist()], abs=5.1e-4)


def test_picture_has_each_path_in_its_color(descent: Descent) -> None:
    with Image.open(descent.directory / "optimizers.png") as picture:
        counts = picture.convert("RGB").getcolors(picture.width * picture.height)
    colors = {color for _, color in counts}
    assert {tuple(bytes.fromhex(color[1:])) for color in descent.module.COLORS} <= colors


def test_picture_can_be_written_to_another_file(descent: Descent, tmp_path: Path) -> None:
    descent.module.main([str(tmp_path / "paths.svg")])
    assert (tmp_path / "paths.svg").read_text().startswith("<?xml")


def test_errors_of_derivatives_fall_then_rise_as_steps_shrink(
    capsys: pytest.CaptureFixture[str],
) -> None:
    rows = load_script(EXAMPLES / "numerical_derivative.py").main()
    steps, one_sided, central = zip(*rows, strict=True)
    assert steps == pytest.approx([10.0**-k for k in range(1, 15)])
    # Down to the best step the errors are the Taylor terms e h / 2 and e h^2 / 6. Below it they are
    # rounding, which varies.
    assert one_sided[1:7] == pytest.approx([2.71828 / 2 * h for h in steps[1:7]], rel=0.05)
    assert central[:4] == pytest.approx([2.71828 / 6 * h**2 for h in steps[:4]], rel=0.05)
    assert min(one_sided) == one_sided[7]
    assert min(central) in central[4:7]
    assert one_sided[-1] > 1e5 * min(one_sided)
    assert central[-1] > 1e5 * min(central)
    lines = [line.split() for line in capsys.readouterr().out.splitlines() if line[1:3] == "e-"]
    printed = [(float(h), float(first), float(second)) for h, first, _, second, _ in lines]
    assert printed == [pytest.approx(row, rel=0.05) for row in rows]
