"""Find vertical, horizontal and diagonal edges with kernels of two and of four numbers.

    python examples/edges.py

Each kernel finds the edges of one direction and is blind to edges of another.
"""

import torch

from cnnbench.reference.convolution import cross_correlate_loops

VERTICAL = torch.tensor([[1.0, -1.0]])  # the difference of a pixel and its right neighbor
HORIZONTAL = VERTICAL.T  # the difference of a pixel and its lower neighbor
RISING = torch.tensor([[0.0, -1.0], [1.0, 0.0]])  # along the diagonal that rises to the right
FALLING = torch.tensor([[1.0, 0.0], [0.0, -1.0]])  # along the diagonal that falls to the right


def make_bars() -> torch.Tensor:
    """Return an image (6, 8) that is white except for columns 2 to 5."""
    image = torch.ones(6, 8)
    image[:, 2:6] = 0
    return image


def make_triangle() -> torch.Tensor:
    """Return an image (6, 6) that is white on and below the diagonal that falls to the right."""
    return torch.ones(6, 6).tril()


def find_edges(image: torch.Tensor, kernel: torch.Tensor) -> torch.Tensor:
    return cross_correlate_loops(image[None, None], kernel[None, None])[0, 0]


def print_matrix(title: str, matrix: torch.Tensor) -> None:
    print(f"\n{title}")
    for row in matrix.int().tolist():
        print("   ", *(f"{number:2}" if number else " ." for number in row))


def main() -> None:
    bars, triangle = make_bars(), make_triangle()
    print_matrix("an image with two vertical edges", bars)
    print_matrix(
        "kernel [1, -1]: +1 from white to black, -1 from black to white",
        find_edges(bars, VERTICAL),
    )
    print_matrix("the image transposed: two horizontal edges", bars.T)
    print_matrix(
        "kernel [1, -1]: neighbors in a row are equal, it finds nothing",
        find_edges(bars.T, VERTICAL),
    )
    print_matrix("its transpose, [[1], [-1]], finds them", find_edges(bars.T, HORIZONTAL))
    print_matrix("an image with a diagonal edge", triangle)
    print_matrix(
        "kernel [[0, -1], [1, 0]], a difference across the edge, finds it",
        find_edges(triangle, RISING),
    )
    print_matrix(
        "kernel [[1, 0], [0, -1]], a difference along the edge, finds nothing",
        find_edges(triangle, FALLING),
    )


if __name__ == "__main__":
    main()
