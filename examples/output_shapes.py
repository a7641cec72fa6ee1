"""The size of feature maps: the formula and the measured size.

    python examples/output_shapes.py

H' = floor((H + 2p - k) / s) + 1 for H rows, a kernel of k, a stride of s and p rows of padding on
both sides. Where s does not divide H + 2p - k, no window contains the remaining rows.
"""

import torch

from cnnbench.reference.convolution import CrossCorrelation, output_size
from cnnbench.reference.padding import pad

Pair = tuple[int, int]  # rows, columns

# image, kernel, stride, padding
LAYERS: dict[str, tuple[Pair, Pair, Pair, Pair]] = {
    "a small example": ((3, 3), (2, 2), (1, 1), (0, 0)),
    "LeNet, first layer": ((28, 28), (5, 5), (1, 1), (2, 2)),
    "LeNet, second layer": ((14, 14), (5, 5), (1, 1), (0, 0)),
    "AlexNet, first layer": ((224, 224), (11, 11), (4, 4), (0, 0)),
    "AlexNet, second layer": ((26, 26), (5, 5), (1, 1), (2, 2)),
    "VGG, every layer": ((224, 224), (3, 3), (1, 1), (1, 1)),
    "ResNet, first layer": ((224, 224), (7, 7), (2, 2), (3, 3)),
    "NiN and Inception, 1x1": ((14, 14), (1, 1), (1, 1), (0, 0)),
    "stride halves the size": ((8, 8), (3, 3), (2, 2), (1, 1)),
    "not square": ((8, 8), (3, 5), (3, 4), (0, 1)),
    "kernel as large as the image": ((7, 7), (7, 7), (1, 1), (0, 0)),
}


def compute_size(size: Pair, kernel: Pair, stride: Pair, padding: Pair) -> Pair:
    rows, columns = zip(size, kernel, stride, padding, strict=True)
    return output_size(*rows), output_size(*columns)


def measure_size(size: Pair, kernel: Pair, stride: Pair, padding: Pair) -> Pair:
    down, right = padding
    images = pad(torch.zeros(1, 1, *size), (right, right, down, down))
    weight = torch.zeros(1, 1, *kernel)
    outputs: torch.Tensor = CrossCorrelation.apply(images, weight, None, stride, 1)
    return outputs.shape[2], outputs.shape[3]


def count_unused(size: Pair, kernel: Pair, stride: Pair, padding: Pair) -> Pair:
    """Return how many rows and columns of the padded image are in no window."""
    rows, columns = (
        (n + 2 * p - k) % s for n, k, s, p in zip(size, kernel, stride, padding, strict=True)
    )
    return rows, columns


def make_table() -> list[tuple[str, ...]]:
    """Return a header and a row of cells for each layer."""
    table = [("", "image", "kernel", "stride", "padding", "formula", "measured", "unused")]
    for name, layer in LAYERS.items():
        pairs = (*layer, compute_size(*layer), measure_size(*layer), count_unused(*layer))
        table.append((name, *(f"{rows} x {columns}" for rows, columns in pairs)))
    return table


def main() -> None:
    for name, *cells in make_table():
        print(f"{name:28}", *(f"{cell:>9}" for cell in cells), sep="  ")


if __name__ == "__main__":
    main()
