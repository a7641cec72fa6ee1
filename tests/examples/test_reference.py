"""The examples of the reference implementation, run as a student runs them."""

import runpy
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.paths import EXAMPLES
from PIL import Image
from torch.nn import functional

RunExample = Callable[[str], list[str]]


def load_example(name: str) -> dict[str, Any]:
    """Return the definitions of an example, without running it."""
    return runpy.run_path(str(EXAMPLES / f"{name}.py"))


@pytest.fixture
def run_example(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> RunExample:
    """Return a function that runs an example in an empty directory and returns its lines."""
    monkeypatch.chdir(tmp_path)

    def run_example_file(name: str) -> list[str]:
        monkeypatch.setattr(sys, "argv", [f"{name}.py"])
        runpy.run_path(str(EXAMPLES / f"{name}.py"), run_name="__main__")
        return [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]

    return run_example_file


def lines_after(lines: list[str], start: str, rows: int) -> list[str]:
    """Return `rows` lines after the line that begins with `start`."""
    index = next(i for i, line in enumerate(lines) if line.startswith(start))
    return lines[index + 1 : index + 1 + rows]


def test_cross_correlation_prints_known_matrices(run_example: RunExample) -> None:
    printed = run_example("cross_correlation")
    assert lines_after(printed, "cross-correlation", 3) == [
        "19 25",
        "37 43",
        "top left: 0 * 0 + 1 * 1 + 3 * 2 + 4 * 3 = 19",
    ]
    assert lines_after(printed, "im2col", 4) == ["0 1 3 4", "1 2 4 5", "3 4 6 7", "4 5 7 8"]
    assert lines_after(printed, "the same as one matrix product", 1) == ["19 25 37 43"]
    assert lines_after(printed, "true convolution", 2) == ["5 11", "23 29"]


def test_kernels_find_edges_of_one_direction(run_example: RunExample) -> None:
    printed = run_example("edges")
    assert lines_after(printed, "kernel [1, -1]: +1", 7) == [". 1 . . . -1 ."] * 6 + [""]
    assert lines_after(printed, "kernel [1, -1]: neighbors", 9) == [". . . . ."] * 8 + [""]
    none, up, down = ". . . . . .", "1 1 1 1 1 1", "-1 -1 -1 -1 -1 -1"
    expected = [none, up, none, none, none, down, none]
    assert lines_after(printed, "its transpose", 7) == expected
    assert lines_after(printed, "kernel [[0, -1], [1, 0]]", 2) == ["1 1 . . .", ". 1 1 . ."]
    assert lines_after(printed, "kernel [[1, 0], [0, -1]]", 5) == [". . . . ."] * 5


def test_kernel_is_learned_in_ten_steps(run_example: RunExample) -> None:
    printed = run_example("learn_a_kernel")
    steps = [line.split() for line in printed if line.startswith("step")]
    assert [step[1] for step in steps] == ["2", "4", "6", "8", "10"]
    losses = [float(step[-1]) for step in steps]
    assert losses == sorted(losses, reverse=True)
    assert losses[-1] < 0.05
    (line,) = [line for line in printed if line.startswith("the learned kernel")]
    numbers = line.partition("[")[2].rstrip("]").split(",")
    assert [float(number) for number in numbers] == pytest.approx([1, -1], abs=0.05)


def test_kernel_matches_training_with_autograd() -> None:
    example = load_example("learn_a_kernel")
    generator = torch.Generator().manual_seed(1)
    image = torch.randn(1, 1, 5, 4, dtype=torch.float64, generator=generator)
    kernel = torch.randn(1, 1, 1, 2, dtype=torch.float64, generator=generator)
    target = functional.conv2d(image, torch.tensor([[[[1.0, -1.0]]]], dtype=torch.float64))
    expected = kernel.clone().requires_grad_()
    optimizer = torch.optim.SGD([expected], lr=0.03)
    for _ in range(10):
        optimizer.zero_grad()
        (functional.conv2d(image, expected) - target).square().sum().backward()
        optimizer.step()
    torch.testing.assert_close(example["learn"](image, target, kernel)[0], expected.detach())


def test_size_formula_matches_measured_sizes(run_example: RunExample) -> None:
    printed = run_example("output_shapes")
    rows = [row for row in load_example("output_shapes")["make_table"]() if row[0]]
    assert len(printed) == len(rows) + 1
    assert [row[5] for row in rows] == [row[6] for row in rows]
    assert "LeNet, first layer 28 x 28 5 x 5 1 x 1 2 x 2 28 x 28 28 x 28 0 x 0" in printed
    assert "AlexNet, first layer 224 x 224 11 x 11 4 x 4 0 x 0 54 x 54 54 x 54 1 x 1" in printed


def test_zero_padding_darkens_the_border_and_makes_an_edge(run_example: RunExample) -> None:
    printed = run_example("padding_modes")
    mean = float(printed[0].rpartition(" ")[2])
    rows = [line.rsplit(" ", 2) for line in printed[2:7]]
    smoothed = {name: float(number) for name, number, _ in rows}
    edges = {name: float(number) for name, _, number in rows}
    assert smoothed["zeros"] < 0.6 * mean
    for mode in ("reflect", "replicate", "circular"):
        assert smoothed[mode] == pytest.approx(mean, abs=0.02)
        assert edges["zeros"] > 6 * edges[mode]
    assert printed[-1] == "Written: padding_modes.png"
    with Image.open("padding_modes.png") as picture:
        assert picture.size == (1440, 912)
