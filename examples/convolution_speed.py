"""Why networks compute a convolution as a matrix product: it is faster.

    python examples/convolution_speed.py

Computes the same cross-correlation in three ways and prints the time of each: by loops over the
outputs, as one matrix product of the kernels and the columns of im2col, and by PyTorch's
convolution. All take 4 x 6 x 24 x 24 x (3 x 5 x 5) = 1,036,800 multiplications: the loops in 13,824
steps of Python with 75 each, the matrix product in one.
"""

import time
from collections.abc import Callable

import torch
from torch.nn import functional

from cnnbench.reference.convolution import CrossCorrelation, cross_correlate_loops

ROUNDS = 3


def multiply_matrices(images: torch.Tensor, kernels: torch.Tensor) -> torch.Tensor:
    outputs: torch.Tensor = CrossCorrelation.apply(images, kernels, None, (1, 1), 1)
    return outputs


WAYS: dict[str, Callable[[torch.Tensor, torch.Tensor], torch.Tensor]] = {
    "loops": cross_correlate_loops,
    "im2col and a matrix product": multiply_matrices,
    "torch.nn.functional.conv2d": functional.conv2d,
}


def measure_ms(call: Callable[[], torch.Tensor]) -> tuple[torch.Tensor, float]:
    """Return the outputs of the call and its shortest time in milliseconds."""
    times = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        outputs = call()
        times.append(1000 * (time.perf_counter() - start))
    return outputs, min(times)


def main() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(4, 3, 28, 28, generator=generator)
    kernels = torch.randn(6, 3, 5, 5, generator=generator)
    outputs = {}
    print(f"images {tuple(images.shape)}, kernels {tuple(kernels.shape)}, best of {ROUNDS}")
    for name, compute in WAYS.items():
        outputs[name], time_ms = measure_ms(lambda compute=compute: compute(images, kernels))
        difference = (outputs[name] - outputs["loops"]).abs().max().item()
        print(f"{name:28} {time_ms:9.3f} ms   largest difference from the loops {difference:.0e}")
    return outputs


if __name__ == "__main__":
    main()
