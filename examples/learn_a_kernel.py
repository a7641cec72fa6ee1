"""Learn the kernel [1, -1] from an image and its edges by gradient descent, without autograd.

    python examples/learn_a_kernel.py

The example of Dive into Deep Learning, section 7.2.4: squared error, learning rate 0.03, ten steps.

With Y = cross-correlation of X and K, and the loss L = sum of (Y - T)^2 over all outputs,

    dL/dY = 2 (Y - T)
    dL/dK[u, v] = sum over i, j of dY[i, j] X[i + u, j + v]

which is another cross-correlation: of the image with dY as the kernel. True convolution turns the
kernel by 180 degrees, and so the gradient. It learns as well, and the kernel comes out turned.
"""

import torch

from cnnbench.reference.convolution import convolve, cross_correlate_loops

LEARNING_RATE = 0.03
STEPS = 10
SEED = 0


def learn(
    image: torch.Tensor, target: torch.Tensor, kernel: torch.Tensor, turned: bool = False
) -> tuple[torch.Tensor, list[float]]:
    """Return the learned kernel and the loss before each step.

    `image` is (1, 1, H, W), `target` are the outputs to learn (1, 1, H', W'), `kernel` is the
    initial kernel (1, 1, kh, kw). `turned` learns by true convolution.
    """
    losses = []
    for _ in range(STEPS):
        outputs = (convolve if turned else cross_correlate_loops)(image, kernel)
        error = outputs - target
        losses.append((error**2).sum().item())
        grad_kernel = cross_correlate_loops(image, 2 * error)
        kernel = kernel - LEARNING_RATE * (grad_kernel.flip(2, 3) if turned else grad_kernel)
    return kernel, losses


def main() -> None:
    image = torch.ones(1, 1, 6, 8)
    image[..., 2:6] = 0
    edges = cross_correlate_loops(image, torch.tensor([[[[1.0, -1.0]]]]))
    initial = torch.rand(1, 1, 1, 2, generator=torch.Generator().manual_seed(SEED)) - 0.5
    print("a random kernel     [{:6.3f}, {:6.3f}]".format(*initial.flatten().tolist()))
    for turned, name in ((False, "cross-correlation"), (True, "true convolution")):
        kernel, losses = learn(image, edges, initial, turned)
        print(f"by {name}")
        for step in range(2, STEPS + 1, 2):
            print(f"step {step:2}    loss {losses[step - 1]:8.3f}")
        print("the learned kernel  [{:6.3f}, {:6.3f}]".format(*kernel.flatten().tolist()))
    print("the true kernel     [ 1.000, -1.000]")


if __name__ == "__main__":
    main()
