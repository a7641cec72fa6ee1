"""Learn the kernel [1, -1] from an image and its edges, by gradient descent with derivatives written by hand.

    python examples/learn_a_kernel.py

The example of Dive into Deep Learning, section 7.2.4: squared error, learning rate 0.03, ten steps.

With Y = cross-correlation of X and K, and the loss L = sum of (Y - T)^2 over all outputs,

    dL/dY = 2 (Y - T)
    dL/dK[u, v] = sum over i, j of dY[i, j] X[i + u, j + v]

which is once more a cross-correlation: of the image with dY as the kernel.
"""

import torch

from cnnbench.reference.convolution import cross_correlate_loops

LEARNING_RATE = 0.03
STEPS = 10
SEED = 0


def learn(
    image: torch.Tensor, target: torch.Tensor, kernel: torch.Tensor
) -> tuple[torch.Tensor, list[float]]:
    """image (1, 1, H, W), target (1, 1, H', W'), a kernel to begin with: the one learnt, and the loss of each step."""
    losses = []
    for _ in range(STEPS):
        error = cross_correlate_loops(image, kernel) - target
        losses.append((error**2).sum().item())
        of_outputs = 2 * error
        of_kernel = cross_correlate_loops(image, of_outputs)
        kernel = kernel - LEARNING_RATE * of_kernel
    return kernel, losses


def main() -> None:
    image = torch.ones(1, 1, 6, 8)
    image[..., 2:6] = 0
    edges = cross_correlate_loops(image, torch.tensor([[[[1.0, -1.0]]]]))
    first = torch.rand(1, 1, 1, 2, generator=torch.Generator().manual_seed(SEED)) - 0.5
    kernel, losses = learn(image, edges, first)
    print(f"a random kernel     [{first[0, 0, 0, 0]:6.3f}, {first[0, 0, 0, 1]:6.3f}]")
    for step in range(2, STEPS + 1, 2):
        print(f"step {step:2}    loss {losses[step - 1]:8.3f}")
    print(f"the kernel learnt   [{kernel[0, 0, 0, 0]:6.3f}, {kernel[0, 0, 0, 1]:6.3f}]")
    print("the true one        [ 1.000, -1.000]")


if __name__ == "__main__":
    main()
