"""Random tensors, and gradients of operations, for tests of the reference implementation."""

from collections.abc import Callable
from typing import Any

import torch
from hypothesis import settings

CASES = settings(deadline=None, max_examples=50, derandomize=True)  # use: @CASES @given(n=SIZES)
EXACTLY: dict[str, Any] = {"rtol": 0.0, "atol": 1e-9}  # tolerances for float64 numbers near 1


def random_tensor(*shape: int) -> torch.Tensor:
    """Return normal random numbers in float64 that require gradients, the same for each shape."""
    generator = torch.Generator().manual_seed(sum((i + 1) * size for i, size in enumerate(shape)))
    return torch.randn(*shape, dtype=torch.float64, generator=generator).requires_grad_()


def compute_gradients(operation: Callable[..., torch.Tensor], *inputs: Any) -> list[torch.Tensor]:
    """Return the gradients of the inputs that require one.

    The differentiated scalar is a weighted sum of the outputs, with another weight for each.
    """
    outputs = operation(*inputs)
    tensors = [value for value in inputs if isinstance(value, torch.Tensor) and value.requires_grad]
    weights = torch.linspace(-1.0, 1.5, outputs.numel(), dtype=outputs.dtype).view(outputs.shape)
    return list(torch.autograd.grad(outputs, tensors, weights))
