"""Find vertical, horizontal and diagonal edges with kernels of two and of four numbers.

    python examples/edges.py

A kernel that subtracts one pixel from another is blind to edges of one direction only: that from
the one pixel to the other, where both lie on the same side. Diagonal edges are found by [1, -1] and
by its transpose; [[1, 0], [0, -1]] finds the rising edge, two pixels wide, and not the falling one.
"""

import torch

from cnnbench.reference.convolution import cross_correlate_loops

KERNELS = {
    "[1, -1]": torch.tensor([[1.0, -1.0]]),  # a pixel minus its right neighbor
    "[[1], [-1]]": torch.tensor([[1.0], [-1.0]]),  # a pixel minus its lower neighbor
    "[[1, 0], [0, -1]]": torch.tensor([[1.0, 0.0], [0.0, -1.0]]),  # minus the one below right
}


def make_bars() -> torch.Tensor:
    """Return an image (6, 8) that is white except for columns 2 to 5."""
    image = torch.ones(6, 8)
    image[:, 2:6] = 0
    return image


def find_edges(image: torch.Tensor, kernel: torch.Tensor) -> torch.Tensor:
    return cross_correlate_loops(image[None, None], kernel[None, None])[0, 0]


def print_matrix(title: str, matrix: torch.Tensor) -> None:
    rows, columns = matrix.shape
    print(f"\n{title} ({rows} x {columns})")
    for row in matrix.int().tolist():
        print("   ", *(f"{number:2}" if number else " ." for number in row))


def main() -> None:
    bars, vertical, horizontal = make_bars(), KERNELS["[1, -1]"], KERNELS["[[1], [-1]]"]
    print_matrix("an image with two vertical edges", bars)
    print_matrix("[1, -1]: +1 from white to black, -1 back", find_edges(bars, vertical))
    print_matrix("the image transposed: two horizontal edges", bars.T)
    print_matrix("[1, -1]: neighbors in a row are equal", find_edges(bars.T, vertical))
    print_matrix("[[1], [-1]], its transpose, finds them", find_edges(bars.T, horizontal))
    falling = torch.ones(6, 6).tril()
    for name, image in {"falling": falling, "rising": falling.flip(1)}.items():
        print_matrix(f"a {name} diagonal edge", image)
        for title, kernel in KERNELS.items():
            print_matrix(f"{title} on the {name} edge", find_edges(image, kernel))


if __name__ == "__main__":
    main()
