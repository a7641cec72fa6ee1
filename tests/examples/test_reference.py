"""The examples of the reference implementation, run as a student runs them."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from PIL import Image
from torch.nn import functional

LoadExample = Callable[[str], dict[str, Any]]
RunExample = Callable[[str], list[str]]


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


def test_kernels_find_vertical_and_horizontal_edges(run_example: RunExample) -> None:
    printed = run_example("edges")
    expected = [". 1 . . . -1 ."] * 6 + [""]
    assert lines_after(printed, "[1, -1]: +1 from white to black, -1 back (6 x 7)", 7) == expected
    expected = [". . . . ."] * 8 + [""]
    assert lines_after(printed, "[1, -1]: neighbors in a row are equal (8 x 5)", 9) == expected
    none, up, down = ". . . . . .", "1 1 1 1 1 1", "-1 -1 -1 -1 -1 -1"
    expected = [none, up, none, none, none, down, none, ""]
    assert lines_after(printed, "[[1], [-1]], its transpose, finds them (7 x 6)", 8) == expected


def test_each_kernel_finds_a_diagonal_edge_but_along_its_own_diagonal(
    run_example: RunExample,
) -> None:
    printed = run_example("edges")
    assert lines_after(printed, "[1, -1] on the falling edge (6 x 5)", 7) == [
        *("1 . . . .", ". 1 . . .", ". . 1 . .", ". . . 1 .", ". . . . 1", ". . . . .", ""),
    ]
    assert lines_after(printed, "[[1], [-1]] on the falling edge (5 x 6)", 6) == [
        *(". -1 . . . .", ". . -1 . . .", ". . . -1 . .", ". . . . -1 .", ". . . . . -1", ""),
    ]
    zeros = [". . . . ."] * 5 + [""]
    assert lines_after(printed, "[[1, 0], [0, -1]] on the falling edge (5 x 5)", 6) == zeros
    assert lines_after(printed, "[1, -1] on the rising edge (6 x 5)", 3) == [
        *(". . . . -1", ". . . -1 .", ". . -1 . ."),
    ]
    assert lines_after(printed, "[[1], [-1]] on the rising edge (5 x 6)", 3) == [
        *(". . . . -1 .", ". . . -1 . .", ". . -1 . . ."),
    ]
    assert lines_after(printed, "[[1, 0], [0, -1]] on the rising edge (5 x 5)", 5) == [
        *(". . . -1 -1", ". . -1 -1 .", ". -1 -1 . .", "-1 -1 . . .", "-1 . . . ."),
    ]


@pytest.mark.parametrize(
    ("operation", "expected"), [("cross-correlation", [1, -1]), ("true convolution", [-1, 1])]
)
def test_kernel_is_learned_in_ten_steps(
    run_example: RunExample, operation: str, expected: list[int]
) -> None:
    *lines, learned = lines_after(run_example("learn_a_kernel"), f"by {operation}", 6)
    steps = [line.split() for line in lines if line.startswith("step")]
    assert [step[1] for step in steps] == ["2", "4", "6", "8", "10"]
    losses = [float(step[-1]) for step in steps]
    assert losses == sorted(losses, reverse=True)
    assert losses[-1] < 0.05
    assert learned.startswith("the learned kernel")
    numbers = learned.partition("[")[2].rstrip("]").split(",")
    assert [float(number) for number in numbers] == pytest.approx(expected, abs=0.05)


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("true_kernel", [[[1.0, -1.0]], [[1.0, -1.0, 0.5], [2.0, 0.0, -0.5]]])
def test_kernel_matches_training_with_autograd(
    load_example: LoadExample, true_kernel: list[list[float]], turned: bool
) -> None:
    example = load_example("learn_a_kernel")
    generator = torch.Generator().manual_seed(1)
    true = torch.tensor([[true_kernel]], dtype=torch.float64)
    image = torch.randn(1, 1, 5, 4, dtype=torch.float64, generator=generator)
    kernel = torch.randn(true.shape, dtype=torch.float64, generator=generator)
    target = functional.conv2d(image, true)
    expected = kernel.clone().requires_grad_()
    optimizer = torch.optim.SGD([expected], lr=0.03)
    for _ in range(10):
        optimizer.zero_grad()
        outputs = functional.conv2d(image, expected.flip(2, 3) if turned else expected)
        (outputs - target).square().sum().backward()
        optimizer.step()
    learned = example["learn"](image, target, kernel, turned)[0]
    torch.testing.assert_close(learned, expected.detach())


def test_size_formula_matches_measured_sizes(
    run_example: RunExample, load_example: LoadExample
) -> None:
    printed = run_example("output_shapes")
    rows = printed[1 : printed.index("")]
    assert len(rows) == len(load_example("output_shapes")["LAYERS"])
    for row in rows:
        cells = row.split()[-21:]  # seven of the form 28 x 28
        assert cells[12:15] == cells[15:18]
    assert "LeNet, first layer 28 x 28 5 x 5 1 x 1 2 x 2 28 x 28 28 x 28 0 x 0" in printed
    assert "AlexNet, first layer 224 x 224 11 x 11 4 x 4 0 x 0 54 x 54 54 x 54 1 x 1" in printed


def test_same_padding_keeps_the_size_and_is_uneven_for_even_kernels(
    run_example: RunExample,
) -> None:
    printed = run_example("output_shapes")
    assert printed[printed.index("") + 1 :] == [
        "8 rows, stride 1: kernel valid p before after same",
        *("1 8 0 0 0 8", "2 7 0.5 0 1 8", "3 6 1 1 1 8", "4 5 1.5 1 2 8"),
        *("5 4 2 2 2 8", "6 3 2.5 2 3 8", "7 2 3 3 3 8"),
    ]


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
