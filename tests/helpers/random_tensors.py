"""What the tests of the hand-written operations share: random tensors, and the gradients that an operation gives."""

from collections.abc import Callable
from typing import Any

import torch
from hypothesis import settings

CASES = settings(deadline=None, max_examples=50, derandomize=True)  # as in: @CASES @given(n=SIZES)
EXACTLY: dict[str, Any] = {"rtol": 0.0, "atol": 1e-9}  # of numbers near 1, in float64


def random_tensor(*shape: int) -> torch.Tensor:
    """Normal random numbers in float64 that gradients are wanted of; the same each time for the same shape."""
    generator = torch.Generator().manual_seed(sum((i + 1) * size for i, size in enumerate(shape)))
    return torch.randn(*shape, dtype=torch.float64, generator=generator).requires_grad_()


def compute_gradients(operation: Callable[..., torch.Tensor], *inputs: Any) -> list[torch.Tensor]:
    """The gradients of the tensors among `inputs` that want one, where each output counts by a weight of its own."""
    outputs = operation(*inputs)
    wanted = [each for each in inputs if isinstance(each, torch.Tensor) and each.requires_grad]
    weights = torch.linspace(-1.0, 1.5, outputs.numel(), dtype=outputs.dtype).view(outputs.shape)
    return list(torch.autograd.grad(outputs, wanted, weights))
