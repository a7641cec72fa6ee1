"""The worked examples of the notes, run as a student runs them: what they print, and that it is true."""

import runpy
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.paths import EXAMPLES
from PIL import Image
from torch.nn import functional


def load(name: str) -> dict[str, Any]:
    """What an example defines, without running it."""
    return runpy.run_path(str(EXAMPLES / f"{name}.py"))


@pytest.fixture
def lines(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Any:
    """Call as lines("edges"): what an example prints, run in an empty directory."""
    monkeypatch.chdir(tmp_path)

    def run(name: str) -> list[str]:
        monkeypatch.setattr(sys, "argv", [f"{name}.py"])
        runpy.run_path(str(EXAMPLES / f"{name}.py"), run_name="__main__")
        return [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]

    return run


def after(lines: list[str], start: str, rows: int) -> list[str]:
    """So many lines after the one that begins so."""
    index = next(i for i, line in enumerate(lines) if line.startswith(start))
    return lines[index + 1 : index + 1 + rows]


def test_cross_correlation_gives_the_matrix_of_the_notes(lines: Any) -> None:
    printed = lines("cross_correlation")
    assert after(printed, "cross-correlation", 3) == [
        "19 25",
        "37 43",
        "top left: 0 * 0 + 1 * 1 + 3 * 2 + 4 * 3 = 19",
    ]
    assert after(printed, "im2col", 4) == ["0 1 3 4", "1 2 4 5", "3 4 6 7", "4 5 7 8"]
    assert after(printed, "the same as one matrix product", 1) == ["19 25 37 43"]
    assert after(printed, "true convolution", 2) == ["5 11", "23 29"]


def test_edges_are_seen_across_their_direction_alone(lines: Any) -> None:
    printed = lines("edges")
    assert after(printed, "kernel [1, -1]: +1", 7) == [". 1 . . . -1 ."] * 6 + [""]
    assert after(printed, "kernel [1, -1]: neighbours", 9) == [". . . . ."] * 8 + [""]
    nothing, white, black = ". . . . . .", "1 1 1 1 1 1", "-1 -1 -1 -1 -1 -1"
    assert after(printed, "its transpose", 7) == [
        nothing,
        white,
        nothing,
        nothing,
        nothing,
        black,
        nothing,
    ]
    assert after(printed, "kernel [[0, -1], [1, 0]]", 2) == ["1 1 . . .", ". 1 1 . ."]
    assert after(printed, "kernel [[1, 0], [0, -1]]", 5) == [". . . . ."] * 5


def test_the_kernel_is_learnt_in_ten_steps(lines: Any) -> None:
    printed = lines("learn_a_kernel")
    losses = [float(line.split()[-1]) for line in printed if line.startswith("step")]
    assert [line.split()[1] for line in printed if line.startswith("step")] == [
        "2",
        "4",
        "6",
        "8",
        "10",
    ]
    assert losses == sorted(losses, reverse=True)
    assert losses[-1] < 0.05
    learnt = (
        next(line for line in printed if line.startswith("the kernel learnt"))
        .partition("[")[2]
        .rstrip("]")
    )
    assert [float(number) for number in learnt.split(",")] == pytest.approx([1, -1], abs=0.05)


def test_the_kernel_is_learnt_by_the_gradients_of_autograd() -> None:
    example = load("learn_a_kernel")
    generator = torch.Generator().manual_seed(1)
    image, kernel = (
        torch.randn(1, 1, *size, dtype=torch.float64, generator=generator)
        for size in ((5, 4), (1, 2))
    )
    target = functional.conv2d(image, torch.tensor([[[[1.0, -1.0]]]], dtype=torch.float64))
    expected = kernel.clone().requires_grad_()
    optimizer = torch.optim.SGD([expected], lr=0.03)
    for _ in range(10):
        optimizer.zero_grad()
        (functional.conv2d(image, expected) - target).square().sum().backward()
        optimizer.step()
    torch.testing.assert_close(example["learn"](image, target, kernel)[0], expected.detach())


def test_the_formula_of_sizes_is_what_comes_out(lines: Any) -> None:
    printed = lines("output_shapes")
    rows = [row for row in load("output_shapes")["table"]() if row[0]]
    assert len(printed) == len(rows) + 1
    assert [row[5] for row in rows] == [row[6] for row in rows]
    assert "LeNet, first layer 28 x 28 5 x 5 1 x 1 2 x 2 28 x 28 28 x 28 0 x 0" in printed
    assert "AlexNet, first layer 224 x 224 11 x 11 4 x 4 0 x 0 54 x 54 54 x 54 1 x 1" in printed


def test_zeros_darken_the_border_and_make_an_edge_that_is_not_there(lines: Any) -> None:
    printed = lines("padding_modes")
    mean = float(printed[0].rpartition(" ")[2])
    rows = [line.rsplit(" ", 2) for line in printed[2:7]]
    smoothed, edges = ({row[0]: float(row[column]) for row in rows} for column in (1, 2))
    assert smoothed["zeros"] < 0.6 * mean
    assert all(
        smoothed[mode] == pytest.approx(mean, abs=0.02)
        for mode in ("reflect", "replicate", "circular")
    )
    assert all(edges["zeros"] > 6 * edges[mode] for mode in ("reflect", "replicate", "circular"))
    assert printed[-1] == "Written: padding_modes.png"
    with Image.open("padding_modes.png") as picture:
        assert picture.size == (1440, 912)
