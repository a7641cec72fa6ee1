"""Find vertical, horizontal and diagonal edges with kernels of two and of four numbers.

    python examples/edges.py

Each kernel sees the edges of one direction and nothing of those it runs along.
"""

import torch

from cnnbench.reference.convolution import cross_correlate_loops

VERTICAL = torch.tensor([[1.0, -1.0]])  # the difference of a pixel and its right neighbour
HORIZONTAL = VERTICAL.T  # of a pixel and the one below
RISING = torch.tensor(
    [[0.0, -1.0], [1.0, 0.0]]
)  # a difference along the diagonal that rises to the right
FALLING = torch.tensor([[1.0, 0.0], [0.0, -1.0]])  # along the one that falls to the right


def bars() -> torch.Tensor:
    """(6, 8): white but for columns 2 to 5."""
    image = torch.ones(6, 8)
    image[:, 2:6] = 0
    return image


def triangle() -> torch.Tensor:
    """(6, 6): white below the diagonal that falls to the right, and on it."""
    return torch.ones(6, 6).tril()


def find(image: torch.Tensor, kernel: torch.Tensor) -> torch.Tensor:
    return cross_correlate_loops(image[None, None], kernel[None, None])[0, 0]


def show(title: str, matrix: torch.Tensor) -> None:
    print(f"\n{title}")
    for row in matrix.int().tolist():
        print("   ", *(f"{number:2}" if number else " ." for number in row))


def main() -> None:
    show("an image with two vertical edges", bars())
    show("kernel [1, -1]: +1 from white to black, -1 from black to white", find(bars(), VERTICAL))
    show("the image transposed: two horizontal edges", bars().T)
    show("kernel [1, -1]: neighbours in a row are equal, it sees nothing", find(bars().T, VERTICAL))
    show("its transpose, [[1], [-1]], finds them", find(bars().T, HORIZONTAL))
    show("an image with a diagonal edge", triangle())
    show(
        "kernel [[0, -1], [1, 0]], a difference across the edge, finds it", find(triangle(), RISING)
    )
    show(
        "kernel [[1, 0], [0, -1]], a difference along the edge, sees nothing",
        find(triangle(), FALLING),
    )


if __name__ == "__main__":
    main()
