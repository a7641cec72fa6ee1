"""The size of feature maps: the formula and the measured size; the padding "valid" and "same".

    python examples/output_shapes.py

H' = floor((H + 2p - k) / s) + 1 for H rows, a kernel of k, a stride of s and p rows of padding on
both sides. Where s does not divide H + 2p - k, no window contains the remaining rows. "valid" is
p = 0, "same" is p = (k - 1) / 2, which keeps the size if s = 1. Kernels are odd because for an even
one p is not an integer: one side needs a row more than the other.
"""

import torch

from cnnbench.reference.convolution import CrossCorrelation, output_size
from cnnbench.reference.padding import pad, same_padding

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


def measure_size(size: Pair, kernel: Pair, stride: Pair, before: Pair, after: Pair) -> Pair:
    """Return the size of the output, with padding `before` and `after` rows and columns."""
    images = pad(torch.zeros(1, 1, *size), (before[1], after[1], before[0], after[0]))
    outputs = CrossCorrelation.apply(images, torch.zeros(1, 1, *kernel), None, stride, 1)
    return outputs.shape[2], outputs.shape[3]


def main() -> None:
    row = "{:28}" + "  {:>9}" * 7
    print(row.format("", "image", "kernel", "stride", "padding", "formula", "measured", "unused"))
    for name, (size, kernel, stride, padding) in LAYERS.items():
        sides = list(zip(size, kernel, stride, padding, strict=True))
        formula = [output_size(*side) for side in sides]
        measured = measure_size(size, kernel, stride, padding, padding)
        unused = [(n + 2 * p - k) % s for n, k, s, p in sides]
        pairs = (size, kernel, stride, padding, formula, measured, unused)
        print(row.format(name, *(f"{rows} x {columns}" for rows, columns in pairs)))
    print("\n8 rows, stride 1:  kernel  valid    p  before  after  same")
    for k in range(1, 8):
        before, after = same_padding(k)
        rows, _ = measure_size((8, 8), (k, k), (1, 1), (before, before), (after, after))
        print(f"{k:25} {output_size(8, k):6} {(k - 1) / 2:4g} {before:7} {after:6} {rows:5}")


if __name__ == "__main__":
    main()
