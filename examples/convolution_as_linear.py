"""Find edges with a fully connected layer: the Toeplitz matrix of a kernel as its weights.

    python examples/convolution_as_linear.py

A cross-correlation is linear, so a matrix computes it. Column p of the matrix is the output for an
image whose only white pixel is p. Each row is the kernel, moved one pixel on: the same few numbers
along the diagonals, and zeros. A fully connected layer has to learn what is built into a
convolution: that most weights are zero, and which of the others are the same.
"""

import torch

from cnnbench.reference.convolution import CrossCorrelation
from cnnbench.reference.linear import Linear

KERNEL = torch.tensor([[1.0, -1.0]])


def cross_correlate(images: torch.Tensor, kernel: torch.Tensor) -> torch.Tensor:
    """Return images (N, 1, H, W) cross-correlated with a kernel (kh, kw): (N, 1, H', W')."""
    outputs: torch.Tensor = CrossCorrelation.apply(images, kernel[None, None], None, (1, 1), 1)
    return outputs


def make_linear(kernel: torch.Tensor, height: int, width: int) -> Linear:
    """Return a layer from H W pixels to H' W' outputs that cross-correlates with the kernel."""
    pixels = torch.eye(height * width).reshape(-1, 1, height, width)
    matrix = cross_correlate(pixels, kernel).flatten(1).T  # (H' W', H W)
    layer = Linear(matrix.shape[1], matrix.shape[0], bias=False)
    layer.weight.data = matrix
    return layer


def print_matrix(title: str, matrix: torch.Tensor) -> None:
    print(title)
    for row in matrix.int().tolist():
        print("   ", *(f"{number:2}" if number else " ." for number in row))


def main() -> None:
    image = torch.ones(1, 1, 6, 8)
    image[..., 2:6] = 0
    print_matrix("the weights for an image of one row of 8", make_linear(KERNEL, 1, 8).weight)
    layer = make_linear(KERNEL, 6, 8)
    outputs, edges = layer(image.flatten(1)).reshape(6, 7), cross_correlate(image, KERNEL)[0, 0]
    print_matrix("an image of 6 x 8", image[0, 0])
    print_matrix("its edges by the fully connected layer", outputs)
    print(f"largest difference from the convolution: {(outputs - edges).abs().max():g}")
    weights, used = layer.weight.numel(), layer.weight.count_nonzero()
    print(f"weights: {weights}, of which {used} are not zero; the kernel has {KERNEL.numel()}")


if __name__ == "__main__":
    main()
