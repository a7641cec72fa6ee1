"""Find the edge in an image of 6 x 6 with a kernel of 3 x 3, in gray levels.

    python examples/edge_picture.py

The left half of the image is 10, the right half 0. The kernel subtracts the sum of three pixels on
the right from that of three on the left: 0 where all are equal, 3 x 10 = 30 across the edge. Writes
edge_picture.png, where larger numbers are brighter and 0 is the middle gray.
"""

from pathlib import Path

import torch
from matplotlib.figure import Figure

from cnnbench.reference.convolution import cross_correlate_loops

PICTURE = Path("edge_picture.png")
IMAGE = torch.tensor([[10.0, 10.0, 10.0, 0.0, 0.0, 0.0]]).repeat(6, 1)
KERNEL = torch.tensor([[1.0, 0.0, -1.0]]).repeat(3, 1)


def draw(panels: dict[str, torch.Tensor]) -> Figure:
    """Draw each matrix in gray levels, with its numbers, all in squares of the same size."""
    sides = [len(matrix) for matrix in panels.values()]
    figure = Figure(figsize=(10, 5), layout="constrained")
    columns = figure.subplots(1, len(panels), width_ratios=sides)
    for axes, (title, matrix) in zip(columns, panels.items(), strict=True):
        largest = matrix.abs().max().item()
        axes.imshow(matrix.numpy(), cmap="gray", vmin=-largest, vmax=largest)
        for row, numbers in enumerate(matrix.tolist()):
            for column, number in enumerate(numbers):
                color = "white" if number < 0 else "black"
                axes.text(column, row, f"{number:g}", ha="center", va="center", color=color)
        axes.set(title=title, xticks=[], yticks=[])
    return figure


def main() -> None:
    edges = cross_correlate_loops(IMAGE[None, None], KERNEL[None, None])[0, 0]
    panels = {"image": IMAGE, "kernel": KERNEL, "output": edges}
    for title, matrix in panels.items():
        print(title)
        for row in matrix.tolist():
            print("   ", *(f"{number:3.0f}" for number in row))
    draw(panels).savefig(PICTURE, dpi=120)
    print(f"Written: {PICTURE}")


if __name__ == "__main__":
    main()
