"""Slide a kernel over a small image.

    python examples/cross_correlation.py

Networks call this convolution, but it is cross-correlation. Convolution turns the kernel first.
"""

import torch

from cnnbench.reference.convolution import convolve, cross_correlate_loops, im2col

IMAGE = torch.tensor([[0.0, 1.0, 2.0], [3.0, 4.0, 5.0], [6.0, 7.0, 8.0]])
KERNEL = torch.tensor([[0.0, 1.0], [2.0, 3.0]])


def print_matrix(title: str, matrix: torch.Tensor) -> None:
    print(title)
    for row in matrix.tolist():
        print("   ", *(f"{number:3.0f}" for number in row))


def main() -> None:
    image, kernel = IMAGE[None, None], KERNEL[None, None]  # (N, C, H, W), (M, C, kh, kw)
    print_matrix("image", IMAGE)
    print_matrix("kernel", KERNEL)

    outputs = cross_correlate_loops(image, kernel)[0, 0]
    print_matrix("cross-correlation: the kernel slides over the image as it is", outputs)
    window = IMAGE[:2, :2].flatten()
    terms = [f"{x:.0f} * {w:.0f}" for x, w in zip(window, KERNEL.flatten(), strict=True)]
    print(f"    top left: {' + '.join(terms)} = {outputs[0, 0]:.0f}")

    columns = im2col(image, (2, 2), (1, 1)).reshape(4, 4)
    print_matrix("im2col: each of the four windows as a column", columns)
    print_matrix(
        "the same as one matrix product: the kernel as a row, times these columns",
        KERNEL.reshape(1, 4) @ columns,
    )

    print_matrix(
        "true convolution: the kernel turned by 180 degrees", convolve(image, kernel)[0, 0]
    )


if __name__ == "__main__":
    main()
