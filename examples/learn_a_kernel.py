"""Learn the kernel [1, -1] from an image and its edges by gradient descent, without autograd.

    python examples/learn_a_kernel.py

The example of Dive into Deep Learning, section 7.2.4: squared error, learning rate 0.03, ten steps.

With Y = cross-correlation of X and K, and the loss L = sum of (Y - T)^2 over all outputs,

    dL/dY = 2 (Y - T)
    dL/dK[u, v] = sum over i, j of dY[i, j] X[i + u, j + v]

which is another cross-correlation: of the image with dY as the kernel.
"""

import torch

from cnnbench.reference.convolution import cross_correlate_loops

LEARNING_RATE = 0.03
STEPS = 10
SEED = 0


def learn(
    image: torch.Tensor, target: torch.Tensor, kernel: torch.Tensor
) -> tuple[torch.Tensor, list[float]]:
    """Return the learned kernel and the loss before each step.

    Args:
        image: (1, 1, H, W).
        target: the outputs to learn, (1, 1, H', W').
        kernel: the initial kernel (1, 1, kh, kw).
    """
    losses = []
    for _ in range(STEPS):
        error = cross_correlate_loops(image, kernel) - target
        losses.append((error**2).sum().item())
        grad_outputs = 2 * error
        grad_kernel = cross_correlate_loops(image, grad_outputs)
        kernel = kernel - LEARNING_RATE * grad_kernel
    return kernel, losses


def main() -> None:
    image = torch.ones(1, 1, 6, 8)
    image[..., 2:6] = 0
    edges = cross_correlate_loops(image, torch.tensor([[[[1.0, -1.0]]]]))
    initial = torch.rand(1, 1, 1, 2, generator=torch.Generator().manual_seed(SEED)) - 0.5
    kernel, losses = learn(image, edges, initial)
    print(f"a random kernel     [{initial[0, 0, 0, 0]:6.3f}, {initial[0, 0, 0, 1]:6.3f}]")
    for step in range(2, STEPS + 1, 2):
        print(f"step {step:2}    loss {losses[step - 1]:8.3f}")
    print(f"the learned kernel  [{kernel[0, 0, 0, 0]:6.3f}, {kernel[0, 0, 0, 1]:6.3f}]")
    print("the true kernel     [ 1.000, -1.000]")


if __name__ == "__main__":
    main()
